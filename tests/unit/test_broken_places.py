"""A backend that raises what none should: its own leases are out of sight, and those elsewhere go on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import BackendError, NoCapacity
from computehub_ext.pools.model import DeviceSpec, PoolSpec
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace
from tests.support.plane import CREDIT, SPECS, Plane, browser

ASKED = ("look", "renew", "stop", "list_placements", "health", "limits")


class OddBackend(FakeBackend):
    """Does what it should, but for the methods that a test breaks."""

    name = "odd"

    def __init__(self, clock: ManualClock, place: FakePlace) -> None:
        super().__init__(clock, place)
        self.broken: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        if name != "broken" and name in object.__getattribute__(self, "__dict__").get("broken", ()):
            return _broken
        return super().__getattribute__(name)


def _broken(*args: Any, **kwargs: Any) -> Any:
    raise KeyError("a bug of this backend's")


class TwoPlaces(Plane):
    """The fake place with its T4, and an odd one with a V100."""

    def restart(self) -> None:
        self.backend = FakeBackend(self.clock, self.place)
        self.odd_place = self.__dict__.get("odd_place") or FakePlace()
        self.odd = OddBackend(self.clock, self.odd_place)
        self.plane = ControlPlane(
            database=self.database,
            backends={"odd": self.odd, "fake": self.backend},
            clock=self.clock,
            settings=self.settings,
            identity="person",
        )
        v100 = PoolSpec("odd V100", "odd", "V100", 1, CREDIT, True, 0, (DeviceSpec(0, "odd-0", "V100"),))
        self.plane.open([SPECS[0], v100])

    def both(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.running(model="T4"), self.running(browser("bob"), "k2", model="V100")


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[TwoPlaces]:
    hub = TwoPlaces(database, clock)
    yield hub
    hub.close()


@pytest.mark.parametrize("method", ASKED)
def test_a_place_that_breaks_costs_the_leases_elsewhere_nothing(hub: TwoPlaces, method: str) -> None:
    good, _ = hub.both()
    hub.odd.broken = {method}
    hub.pass_time(minutes=30)
    seen = hub.again(good)
    assert seen["state"] == "running"
    assert seen["paid_until"] > hub.again(good)["server_now"]
    assert seen["cost_microcredits"] == CREDIT // 2
    hub.pass_time(hours=2)
    assert (hub.again(good)["state"], hub.again(good)["end_reason"]) == ("closed", "time_up")


def test_a_kernel_that_can_not_be_looked_at_is_neither_paid_ahead_nor_billed(hub: TwoPlaces) -> None:
    _, odd = hub.both()
    hub.pass_time(minutes=10)
    hub.odd.broken = {"look"}
    before = hub.again(odd)
    hub.pass_time(minutes=5)
    assert hub.again(odd)["paid_until"] == before["paid_until"]
    hub.pass_time(minutes=10)
    lost = hub.again(odd)
    assert lost["end_reason"] == "place_lost"
    assert lost["cost_microcredits"] == rated(CREDIT, timedelta(minutes=10))


def test_a_kernel_that_its_place_forgot_is_neither_paid_ahead_nor_billed(hub: TwoPlaces) -> None:
    lease, _ = hub.both()
    hub.pass_time(minutes=10)
    hub.place.placements.clear()
    hub.pass_time(minutes=15)
    lost = hub.again(lease)
    assert (lost["state"], lost["end_reason"]) == ("closed", "place_lost")
    assert lost["cost_microcredits"] == rated(CREDIT, timedelta(minutes=10))


def test_one_that_can_not_be_stopped_is_stopped_once_it_can(hub: TwoPlaces) -> None:
    _, odd = hub.both()
    hub.odd.broken = {"stop"}
    assert hub.release_lease(odd["id"], "returned")["state"] == "closing"
    hub.tick(seconds=5)
    assert hub.again(odd)["state"] == "closing"
    hub.odd.broken = set()
    hub.tick(seconds=5)
    assert hub.again(odd)["state"] == "closed"
    assert hub.odd.list_placements() == []


def test_a_place_that_broke_is_unwell_for_a_while_and_then_offered_again(hub: TwoPlaces) -> None:
    hub.odd.broken = {"list_placements"}
    hub.tick(seconds=5)
    offer = next(offer for offer in hub.offers(browser())["items"] if offer["model"] == "V100")
    assert (offer["free_now"], "wrong with this place" in offer["unwell"]) == (0, True)
    with pytest.raises(NoCapacity):
        hub.take(model="V100")
    hub.odd.broken = set()
    hub.tick(seconds=31)
    assert hub.free("V100") == 1


def test_a_start_that_breaks_is_its_own_persons_trouble_alone(hub: TwoPlaces) -> None:
    lease = hub.take(browser("bob"), "k2", model="V100")
    hub.odd.broken = {"start"}
    with pytest.raises(BackendError, match="the server's log has the cause"):
        hub.start(lease)
    assert hub.lease_failed(lease["id"], "start_failed")["state"] == "closed"
    assert hub.money("bob") == (10, 10)
    assert hub.free("V100") == 1, "somebody's odd wish closes a place for nobody else"


def test_its_traceback_is_written_once_in_a_while(hub: TwoPlaces, caplog: pytest.LogCaptureFixture) -> None:
    hub.odd.broken = {"list_placements"}
    with caplog.at_level(logging.ERROR):
        hub.pass_time(minutes=9)
        assert [record.exc_info is not None for record in caplog.records] == [True]
        hub.pass_time(minutes=9)
    assert len(caplog.records) == 2


@pytest.mark.parametrize("reason", ["returned", "kernel_died", "idle"])
def test_a_lease_that_ends_while_its_place_is_out_of_sight_is_billed_until_it_was_seen(
    hub: TwoPlaces, reason: str
) -> None:
    lease, _ = hub.both()
    hub.pass_time(minutes=6)
    hub.place.unreachable = True
    hub.pass_time(minutes=4)
    closing = hub.release_lease(lease["id"], reason)
    assert closing["state"] == "closing"
    assert closing["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))


def test_one_whose_time_ends_out_of_sight_is_billed_until_it_was_seen(hub: TwoPlaces) -> None:
    lease = hub.running(model="T4", duration_seconds=900)
    hub.pass_time(minutes=10)
    hub.place.unreachable = True
    hub.pass_time(minutes=6)
    assert hub.again(lease)["cost_microcredits"] == rated(CREDIT, timedelta(minutes=10))


def test_one_that_came_back_into_sight_is_billed_in_full(hub: TwoPlaces) -> None:
    lease, _ = hub.both()
    hub.pass_time(minutes=6)
    hub.place.unreachable = True
    hub.pass_time(minutes=4)
    hub.place.unreachable = False
    hub.pass_time(minutes=2)
    closed = hub.release_lease(lease["id"], "returned")
    assert (closed["state"], closed["cost_microcredits"]) == ("closed", rated(CREDIT, timedelta(minutes=12)))


def test_after_a_restart_what_was_never_seen_is_billed_as_far_as_it_was_paid(hub: TwoPlaces) -> None:
    lease, _ = hub.both()
    hub.pass_time(minutes=6)
    paid_until = hub.again(lease)["paid_until"]
    hub.place.unreachable = True
    hub.restart()
    hub.clock.advance(minutes=30)
    closing = hub.release_lease(lease["id"], "returned")
    assert closing["ended_at"] == paid_until
