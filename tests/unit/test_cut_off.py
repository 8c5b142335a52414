"""What a control plane was at when it was killed, and kernels that are gone: who ends what, and what is billed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from computehub_ext.backends.model import Ending, Look, LookState, StartRequest
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Unreachable
from computehub_ext.leases import store
from computehub_ext.leases.endings import End, end_of
from computehub_ext.leases.model import EndReason
from computehub_ext.leases.operator import LeaseOperator
from tests.support.agreement import placed_for_running
from tests.support.plane import CREDIT, Plane


class Killed(BaseException):
    """Nothing catches a SIGKILL."""


def kill(*_: object) -> None:
    raise Killed


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def cut_off_in_a_restart(hub: Plane, model: str = "T4") -> dict:
    """A lease whose first kernel ended after six minutes, and whose second one runs and is not in the books."""
    lease = hub.running(model=model)
    hub.pass_time(minutes=6)
    hub.end_placement(lease["placement_id"])
    hub.place.after_start = kill
    with pytest.raises(Killed):
        hub.start(lease)
    hub.place.after_start = lambda request: None
    assert hub.in_place() == 1
    return lease


def test_a_restart_that_was_cut_off_leaves_nothing_and_can_be_had_again(hub: Plane) -> None:
    lease = cut_off_in_a_restart(hub, "V100")
    hub.restart()
    assert hub.in_place() == 0
    assert hub.database.read(store.claimed_devices) == []
    assert hub.again(lease)["state"] == "running"
    hub.start(lease)
    hub.pass_time(minutes=4)
    assert list(hub.database.read(placed_for_running)) == [lease["id"]]
    closed = hub.release_lease(lease["id"], "returned")
    assert closed["cost_microcredits"] == rated(5 * CREDIT // 2, timedelta(minutes=10))


def test_a_restart_that_never_comes_is_not_waited_for_with_the_meter_on(hub: Plane) -> None:
    lease = cut_off_in_a_restart(hub)
    hub.restart()
    hub.pass_time(minutes=6)
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", "kernel_died")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))
    assert hub.database.read(placed_for_running) == {}


def test_after_hours_without_a_kernel_only_what_ran_is_billed(hub: Plane) -> None:
    lease = cut_off_in_a_restart(hub)
    hub.clock.advance(hours=1)
    hub.restart()
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", "kernel_died")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))
    assert hub.database.read(placed_for_running) == {}


def test_a_restart_after_the_paid_time_went_by_without_a_kernel_is_paid_again(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=1)
    hub.end_placement(lease["placement_id"])
    for _ in range(3):
        hub.tick(minutes=4)
        hub.start(lease)
        hub.tick()
        hub.end_placement(hub.again(lease)["placement_id"])
    assert hub.again(lease)["state"] == "running"


def test_a_start_that_failed_and_could_not_be_ended_is_ended_when_its_place_is_back(hub: Plane) -> None:
    lease = hub.running(model="V100")
    hub.pass_time(minutes=2)
    hub.end_placement(lease["placement_id"])

    def lost(request: StartRequest) -> None:
        hub.place.unreachable = True
        raise Unreachable("The machine does not answer.")

    hub.place.after_start = lost
    with pytest.raises(Unreachable):
        hub.start(lease)
    hub.place.after_start, hub.place.unreachable = (lambda request: None), False
    assert hub.in_place() == 1
    hub.tick(seconds=11)
    assert hub.in_place() == 0
    hub.start(lease)
    hub.tick()
    assert list(hub.database.read(placed_for_running)) == [lease["id"]]


def test_a_start_that_is_under_way_is_let_be(hub: Plane) -> None:
    lease = hub.running()
    hub.end_placement(lease["placement_id"])
    hub.place.after_start = lambda request: hub.plane._operator.reconcile() and None
    placement_id = hub.start(lease)["placement_id"]
    hub.tick()
    assert hub.database.read(placed_for_running) == {lease["id"]: [placement_id]}
    assert hub.in_place() == 1


def test_what_was_paid_first_is_told_by_who_comes_after(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = hub.take()
    started = hub.start(lease)
    hub.clock.advance(minutes=4)
    with monkeypatch.context() as patch:
        patch.setattr(LeaseOperator, "_renew_at", kill)
        with pytest.raises(Killed):
            hub.lease_running(lease["id"])
    hub.restart()
    told = hub.place.placements[started["placement_id"]].paid_until
    assert told == hub.clock.now() + hub.settings.paid_horizon
    hub.tick(seconds=61)  # more than the start was given
    assert hub.again(lease)["state"] == "running"


def test_a_kernel_that_fell_silent_is_billed_until_it_was_heard(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = hub.running()
    hub.pass_time(minutes=6)
    heard_at = hub.clock.now()
    look = hub.backend.look
    with monkeypatch.context() as patch:
        patch.setattr(hub.backend, "look", lambda placement_id: replace(look(placement_id), heard_at=heard_at))
        hub.pass_time(minutes=2)
    hub.backend.end(lease["placement_id"], Ending.NODE_LOST)
    placement = hub.place.placements[lease["placement_id"]]
    placement.look = replace(placement.look, ended_at=heard_at)
    hub.tick()
    assert hub.again(lease)["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))
    assert hub.database.read(placed_for_running) == {}


def test_a_kernel_that_was_silent_for_a_moment_is_billed_as_if_it_had_not_been(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = hub.running()
    heard_at, look = hub.clock.now(), hub.backend.look
    with monkeypatch.context() as patch:
        patch.setattr(hub.backend, "look", lambda placement_id: replace(look(placement_id), heard_at=heard_at))
        hub.pass_time(minutes=2)
    hub.pass_time(minutes=2)
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == rated(CREDIT, timedelta(minutes=4))


def test_the_wait_for_a_restart_is_not_billed(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=6, seconds=50)
    hub.backend.end(lease["placement_id"], Ending.KILLED)
    for _ in range(5):
        hub.tick(seconds=9)
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", "kernel_died")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6, seconds=50))
    assert hub.database.read(placed_for_running) == {}


def test_nothing_is_billed_beyond_what_was_paid_whatever_is_said_of_its_end(hub: Plane) -> None:
    """A successor may take a job for running, of which it has not heard, and that ended before it came."""
    hub.running()
    (lease,) = hub.database.read(store.in_states)
    assert lease.paid_until is not None
    late = lease.paid_until + timedelta(hours=1)
    look = Look("pl", LookState.ENDED, reason=Ending.UNPAID, ended_at=late)
    assert end_of(lease, look, seen_at=late, now=late) == End(EndReason.UNPAID, "", lease.paid_until)
