"""Places that nobody can ask: what is billed meanwhile, when their leases end, and when their devices are free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from computehub_ext.backends.model import Ending, Look
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import NoCapacity, NotHeard
from computehub_ext.leases import store
from computehub_ext.testing.fake_backend import FakeBackend
from tests.support.plane import CREDIT, SPECS, Plane, browser


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def test_a_place_that_comes_back_in_time_costs_what_ran(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=10)
    hub.place.unreachable = True
    before = hub.again(lease)
    hub.pass_time(minutes=5)
    unseen = hub.again(lease)
    assert (unseen["state"], unseen["paid_until"]) == ("running", before["paid_until"])
    hub.place.unreachable = False
    hub.pass_time(minutes=15)
    closed = hub.release_lease(lease["id"], "returned")
    assert closed["cost_microcredits"] == CREDIT // 2


def test_a_place_that_stays_away_is_billed_until_it_was_last_seen(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=10)
    hub.place.unreachable = True
    hub.pass_time(minutes=11)  # its supervisor, unrenewed, has ended the kernel by now
    lost = hub.again(lease)
    assert (lost["state"], lost["end_reason"]) == ("closing", "place_lost")
    assert lost["cost_microcredits"] == rated(CREDIT, timedelta(minutes=10))
    assert lost["end_message"]
    posted, available = hub.money()
    assert posted == available, "the rest of the hold is released"


@pytest.mark.parametrize("way", ["its page", "its booking", "its notebook"])
def test_whoever_ends_a_lease_out_of_sight_it_is_billed_until_it_was_seen(hub: Plane, way: str) -> None:
    lease = hub.running()
    hub.pass_time(minutes=10)
    hub.place.unreachable = True
    hub.pass_time(minutes=5)
    if way == "its page":
        hub.end_lease(browser(), hub.key(), lease["id"])
    elif way == "its booking":
        hub.cancel_booking(browser(), hub.key(), lease["booking_id"])
    else:
        hub.release_lease(lease["id"], "returned")
    assert hub.again(lease)["cost_microcredits"] == rated(CREDIT, timedelta(minutes=10))
    posted, available = hub.money()
    assert posted == available


def test_a_device_behind_it_is_given_to_nobody_until_the_place_says_that_nothing_runs(hub: Plane) -> None:
    lease = hub.running(model="V100")
    hub.place.unreachable = True
    hub.pass_time(minutes=15)
    assert hub.again(lease)["state"] == "closing"
    assert len(hub.database.read(store.claimed_devices)) == 1
    hub.place.unreachable = False
    hub.tick(seconds=11)
    assert hub.again(lease)["state"] == "closed"
    assert hub.database.read(store.claimed_devices) == []
    assert hub.in_place() == 0


@pytest.mark.parametrize(
    ("ending", "reason"), [(Ending.PREEMPTED, "preempted"), (Ending.NODE_LOST, "place_lost"), (Ending.UNPAID, "unpaid")]
)
def test_what_can_not_be_restarted_ends_its_lease_at_once_and_is_billed_until_then(
    hub: Plane, ending: Ending, reason: str
) -> None:
    lease = hub.running()
    hub.clock.advance(minutes=6)
    hub.backend.end(lease["placement_id"], ending)
    hub.clock.advance(seconds=20)
    hub.tick()
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", reason)
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))


def test_that_a_kernel_died_is_said_by_the_place_rather_than_by_its_server(hub: Plane) -> None:
    lease = hub.running()
    hub.clock.advance(minutes=6)
    hub.backend.end(lease["placement_id"], Ending.PREEMPTED)
    hub.clock.advance(minutes=2)
    closed = hub.release_lease(lease["id"], "kernel_died", "It does not answer.")
    assert (closed["state"], closed["end_reason"]) == ("closed", "preempted")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))


def test_a_place_that_does_not_answer_is_asked_once_and_then_left_alone_for_a_while(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    lease = hub.running(kernel_id="k1", model="T4")
    hub.running(kernel_id="k2", model="V100")
    hub.place.unreachable = True
    ask = hub.backend._ask

    def counted() -> None:
        asked.append(1)
        ask()

    monkeypatch.setattr(hub.backend, "_ask", counted)
    hub.tick(seconds=1)
    hub.tick(seconds=1)
    assert len(asked) == 1
    hub.tick(seconds=11)
    assert len(asked) == 2
    assert hub.again(lease)["state"] == "running"


def test_a_kernel_that_is_not_heard_from_keeps_nobody_else_s_from_being_renewed(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = hub.running(kernel_id="k1", model="T4")
    other = hub.running(kernel_id="k2", model="V100")
    look = hub.backend.look

    def looked(placement_id: str) -> Look:
        if placement_id == silent["placement_id"]:
            raise NotHeard("The kernel's job runs, and is not heard from.")
        return look(placement_id)

    monkeypatch.setattr(hub.backend, "look", looked)
    hub.pass_time(minutes=20)
    assert hub.again(other)["state"] == "running"
    assert hub.again(silent)["end_reason"] == "place_lost"


def test_starts_that_wait_hold_up_nobody_s_interrupt_or_end(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, go_on = hub.running(), threading.Event()
    monkeypatch.setattr(hub.plane._operator, "start", lambda *_: go_on.wait(60))

    async def a_course_comes() -> dict[str, Any]:
        starts = [
            asyncio.ensure_future(hub.plane.start_placement("lease", "/", "python3", b"k", "ada", {}))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        try:
            await hub.plane.interrupt_placement(lease["placement_id"])
            return await asyncio.wait_for(hub.plane.release_lease(lease["id"], "returned"), 30)
        finally:
            go_on.set()
            await asyncio.gather(*starts, return_exceptions=True)

    assert hub.run(a_course_comes())["state"] == "closed"


def test_a_place_that_was_configured_away_is_out_of_sight_and_breaks_nothing(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = hub.running()
    monkeypatch.setattr(hub.plane._operator._places, "backends", {})
    hub.pass_time(minutes=15)
    assert hub.again(lease)["end_reason"] == "place_lost"


def test_what_could_not_be_started_is_not_offered_now_and_can_be_booked_for_later(hub: Plane) -> None:
    hub.place.unreachable = True
    hub.tick(seconds=31)
    for offer in hub.offers(browser())["items"]:
        assert (offer["free_now"], offer["unwell"]) == (0, "The machine does not answer.")
    with pytest.raises(NoCapacity, match="does not answer"):
        hub.take()
    assert hub.money() == (10, 10)
    later = (hub.clock.now() + timedelta(hours=5)).isoformat()
    assert hub.book(browser(), hub.key(), model="T4", starts_at=later, duration_seconds=3600)["state"] == "confirmed"
    hub.place.unreachable = False
    hub.tick(seconds=31)
    assert all(offer["unwell"] is None for offer in hub.offers(browser())["items"])
    hub.running()


def test_a_place_that_is_not_well_is_passed_over(hub: Plane) -> None:
    hub.place.healthy = False
    hub.tick(seconds=31)
    with pytest.raises(NoCapacity, match="not well"):
        hub.take()


def test_of_two_pools_of_one_model_the_one_that_is_well_is_taken(hub: Plane) -> None:
    other = FakeBackend(hub.clock)
    backends = hub.plane._operator._places.backends
    assert isinstance(backends, dict)
    backends["other"] = other
    cheaper = replace(SPECS[0], name="cheap T4", backend="other", rate_microcredits_per_hour=CREDIT // 2)
    hub.plane.open([*SPECS, cheaper])
    assert hub.running()["pool"] == "cheap T4"
    other.place.healthy = False
    hub.tick(seconds=31)
    assert hub.running(kernel_id="k2")["pool"] == "fake T4"


def test_a_place_that_backdates_an_end_is_billed_for_what_was_seen(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=6)
    hub.backend.end(lease["placement_id"], Ending.PREEMPTED)
    placement = hub.place.placements[lease["placement_id"]]
    placement.look = replace(placement.look, ended_at=hub.clock.now() - timedelta(hours=1))
    hub.tick(seconds=20)
    closed = hub.again(lease)
    assert closed["state"] == "closed"
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))
