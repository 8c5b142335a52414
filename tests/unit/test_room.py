"""What a kernel may use of a place's main memory: told with the offers, before a move, and after it was too little."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from computehub_ext.backends.model import Ending, KernelLimits
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.notebook import room
from computehub_ext.pools.model import DeviceSpec, PoolSpec
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace
from tests.support.plane import CREDIT, Plane, browser

SMALL, LARGE, HUGE = "small", "large", "huge"


def pool(model: str, place: str, rate: int, *, simulated: bool = True, count: int = 1) -> PoolSpec:
    devices = tuple(DeviceSpec(index, f"{place}-{model}-{index}", model) for index in range(count))
    return PoolSpec(f"{model} of {place}", place, model, count, rate * CREDIT, simulated, 16_384, devices)


SPECS = [
    pool("T4", SMALL, 1, count=2),
    pool("V100", LARGE, 2),
    pool("A100", HUGE, 4),
    pool("L4", SMALL, 3),
    pool("L4", HUGE, 5),
]


class Places(Plane):
    """A control plane over three places whose kernels may use 1, 4 and 16 GiB."""

    def restart(self) -> None:
        limits = {SMALL: KernelLimits(1024, 1.0), LARGE: KernelLimits(4096, 2.0), HUGE: KernelLimits(16384, 8.0)}
        self.places = {name: FakePlace(limits=found) for name, found in limits.items()}
        self.backends = {name: FakeBackend(self.clock, place) for name, place in self.places.items()}
        self.backend = self.backends[SMALL]
        self.plane = ControlPlane(
            database=self.database,
            backends=self.backends,
            clock=self.clock,
            settings=self.settings,
            identity="person",
        )
        self.plane.open(SPECS)

    def offer(self, model: str) -> dict[str, Any]:
        return next(offer for offer in self.offers(browser())["items"] if offer["model"] == model)

    def out_of_memory(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.backend.end(lease["placement_id"], Ending.OUT_OF_MEMORY)
        closed: dict[str, Any] = self.release_lease(lease["id"], "kernel_died", "It does not answer.")
        return closed


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Places]:
    hub = Places(database, clock)
    yield hub
    hub.close()


def test_offers_say_what_a_kernel_may_use_beside_the_gpus_memory(hub: Places) -> None:
    offer = hub.offer("V100")
    assert (offer["memory_mib"], offer["kernel_limits"]) == (16_384, {"memory_mib": 4096, "cpus": 2.0})
    hub.places[LARGE].limits = KernelLimits()
    assert hub.offer("V100")["kernel_limits"] == {"memory_mib": None, "cpus": None}


def test_an_end_for_want_of_memory_names_the_limit_and_the_cheapest_place_with_more(hub: Places) -> None:
    closed = hub.out_of_memory(hub.running())
    assert (closed["state"], closed["end_reason"]) == ("closed", "out_of_memory")
    assert closed["end_message"] == KernelLimits(1024).exceeded()
    assert "1 GiB of main memory" in closed["end_message"]
    assert (closed["roomier"]["model"], closed["roomier"]["kernel_limits"]["memory_mib"]) == ("V100", 4096)
    assert "`%gpu on V100`" in room.way_on(closed)
    assert "4 GiB of RAM, 2.00 credits an hour" in room.way_on(closed)


def test_it_is_told_so_as_well_when_nobody_but_the_watch_sees_it(hub: Places) -> None:
    lease = hub.running()
    hub.backend.end(lease["placement_id"], Ending.OUT_OF_MEMORY)
    hub.pass_time(minutes=2)
    closed = hub.again(lease)
    assert (closed["end_reason"], closed["roomier"]["model"]) == ("out_of_memory", "V100")


def test_a_place_that_is_free_is_offered_before_one_that_is_cheaper_and_taken(hub: Places) -> None:
    hub.running(browser("bob"), "k2", model="V100")
    closed = hub.out_of_memory(hub.running())
    assert closed["roomier"]["model"] == "A100"
    hub.running(browser("eve"), "k3", model="A100")
    later = hub.again(closed)["roomier"]
    assert (later["model"], later["free_now"]) == ("V100", 0)
    assert "from " in room.way_on({"roomier": later})


def test_a_model_that_may_as_well_be_too_small_and_a_place_that_is_unwell_are_not_offered(hub: Places) -> None:
    closed = hub.out_of_memory(hub.running())
    for place in (LARGE, HUGE):
        hub.places[place].healthy = False
    hub.tick(minutes=1)
    assert hub.again(closed)["roomier"] is None, "an L4 could be one of the small place's"
    assert room.way_on(hub.again(closed)) == ""


def test_other_ends_offer_no_other_place(hub: Places) -> None:
    lease = hub.running()
    assert hub.release_lease(lease["id"], "returned")["roomier"] is None


def test_nobody_is_sent_from_a_real_gpu_to_a_simulated_one(
    hub: Places, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.plane.open([pool("T4", SMALL, 1, simulated=False), pool("V100", LARGE, 2)])
    assert hub.out_of_memory(hub.running())["roomier"] is None


@pytest.mark.parametrize(
    ("megabytes", "fits"), [(10, None), (700, None), (1500, ["V100", "A100"]), (8000, ["A100"]), (20_000, [])]
)
def test_variables_that_do_not_fit_are_told_before_anything_is_held(
    hub: Places, megabytes: int, fits: list[str] | None
) -> None:
    quote = hub.quote(browser(), model="T4", duration_seconds=3600)
    found = hub.run(room.problems(hub.plane, browser(), quote, megabytes * 10**6))
    assert (None if not found else [offer["model"] for offer in found[0]["fits"]]) == fits
    if found:
        assert found[0]["kind"] == "memory"
        assert "1 GiB of main memory (RAM) that a kernel may use on small" in found[0]["message"]
    assert hub.money() == (10.0, 10.0)
