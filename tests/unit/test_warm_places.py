"""What places that keep kernels ready are told: which pools stand there, and who may come soon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from computehub_ext.backends.capabilities import PoolLike
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import SlotTaken
from computehub_ext.places import Misconfigured, check
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace
from tests.support.plane import SPECS, Plane, browser


class BreaksAtFirst(FakeBackend):
    """As another package's could."""

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        raise RuntimeError("no")


class BreaksLater(FakeBackend):
    def expect(self, model: str) -> None:
        raise RuntimeError("no")


class Places(Plane):
    kind: type[FakeBackend] = FakeBackend

    def restart(self) -> None:
        self.place.warm_wanted = 2
        self.backend = self.kind(self.clock, self.place)
        self.elsewhere = FakeBackend(self.clock, FakePlace(warm_wanted=2))
        self.plane = ControlPlane(
            database=self.database,
            backends={"fake": self.backend, "elsewhere": self.elsewhere},
            clock=self.clock,
            settings=self.settings,
            identity="person",
        )
        self.plane.open(SPECS)


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Places]:
    hub = Places(database, clock)
    yield hub
    hub.close()


def test_kernels_are_kept_where_pools_stand(hub: Places) -> None:
    assert (hub.backend.warm_count, hub.elsewhere.warm_count) == (2, 0)


def test_who_looks_at_a_move_is_expected(hub: Places) -> None:
    hub.offers(browser())
    assert hub.place.expected == [], "a panel that is open asks again and again"
    hub.try_lease(browser(), kernel_id="k1", model="V100", duration_seconds=3600)
    assert hub.place.expected == ["V100"]
    hub.take(model="V100", duration_seconds=3600)
    with pytest.raises(SlotTaken):
        hub.try_lease(browser("bob"), kernel_id="k2", model="V100", duration_seconds=3600)
    assert hub.place.expected == ["V100"]
    assert hub.elsewhere.place.expected == []


def test_a_booking_is_expected_a_little_before_it_begins(hub: Places) -> None:
    hub.book(browser(), hub.key(), model="T4", starts_at="2026-03-02T10:00:00Z", duration_seconds=3600)
    start = hub.clock.now().replace(hour=10, minute=0, second=0)
    hub.pass_time(seconds=(start - hub.clock.now()).total_seconds() - 130)
    assert hub.place.expected == []
    hub.tick(seconds=15)
    assert hub.place.expected == ["T4"]
    hub.tick(seconds=115)
    hub.running(duration_seconds=None, booking_id=hub.bookings(browser())["items"][0]["id"])
    told = len(hub.place.expected)
    hub.tick(minutes=1)
    assert len(hub.place.expected) == told, "its kernel runs"


@pytest.mark.parametrize("broken", [BreaksAtFirst, BreaksLater])
def test_a_place_that_breaks_over_it_costs_nobody_anything(
    database: Database, clock: ManualClock, broken: type[FakeBackend]
) -> None:
    class Odd(Places):
        kind = broken

    hub = Odd(database, clock)
    hub.try_lease(browser(), kernel_id="k1", model="T4", duration_seconds=3600)
    assert hub.running()["state"] == "running"
    hub.close()


PLACE: dict[str, Any] = {"kind": "docker", "image": "i"}
POOL = {"name": "big", "place": "gpu", "model": "A100", "devices": 2, "rate_credits_per_hour": 4}


@pytest.mark.parametrize("count", [0, 2, {"A100": 2}, {}])
def test_a_target_is_a_number_or_one_by_model(count: object) -> None:
    check({"gpu": {**PLACE, "warm_count": count}}, [POOL])


@pytest.mark.parametrize(
    ("count", "said"),
    [
        ("two", "warm_count must be a whole number or a dict of a text to a whole number, and is 'two'"),
        ({"A100": "two"}, "warm_count must be"),
        ({"A100": -2}, "Fewer than no kernels can't be kept ready"),
        ({"V100": 2}, "place gpu: warm_count names V100, a model that no pool of it has; there is A100"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(count: object, said: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        check({"gpu": {**PLACE, "warm_count": count}}, [POOL])
    assert said in str(problem.value)
