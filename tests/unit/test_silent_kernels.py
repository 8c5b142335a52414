"""Kernels of which nothing is heard: what is billed when their lease ends, and by whose word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.backends.model import Ending, Look
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database, Unit
from tests.support.plane import CREDIT, Plane


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


@pytest.fixture
def silent(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A lease whose kernel ran for six minutes and then gave no sign of life, on a machine that does."""
    lease = hub.running()
    hub.pass_time(minutes=6)
    falls_silent(hub, monkeypatch, hub.clock.now(), machine_answers=True)
    return lease


def falls_silent(hub: Plane, patch: pytest.MonkeyPatch, heard_at: datetime, *, machine_answers: bool) -> None:
    look = type(hub.backend).look

    def looked(placement_id: str) -> Look:
        return replace(look(hub.backend, placement_id), heard_at=heard_at, machine_answers=machine_answers)

    patch.setattr(hub.backend, "look", looked)


@pytest.mark.parametrize("minutes", [2, 20])
def test_whoever_ends_one_that_is_silent_on_a_machine_that_answers_is_billed(
    hub: Plane, silent: dict[str, Any], minutes: int
) -> None:
    hub.pass_time(minutes=minutes)
    paid_until = datetime.fromisoformat(hub.again(silent)["paid_until"])
    until = min(hub.clock.now(), paid_until)
    closed = hub.release_lease(silent["id"], "returned")
    ran = until - datetime.fromisoformat(closed["started_at"])
    assert (ran == timedelta(minutes=8)) is (minutes == 2)
    assert closed["cost_microcredits"] == rated(CREDIT, ran)


def test_one_whose_place_ends_it_for_that_is_billed_until_then(hub: Plane, silent: dict[str, Any]) -> None:
    hub.pass_time(minutes=2)
    hub.backend.end(silent["placement_id"], Ending.SUPERVISOR_LOST)
    hub.pass_time(minutes=1)
    assert hub.again(silent)["cost_microcredits"] == rated(CREDIT, timedelta(minutes=8))


def test_one_whose_machine_turns_out_to_be_lost_is_billed_until_it_was_heard(
    hub: Plane, silent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_at = hub.clock.now()
    hub.pass_time(minutes=1)
    falls_silent(hub, monkeypatch, heard_at, machine_answers=False)
    hub.pass_time(minutes=1)
    assert hub.release_lease(silent["id"], "returned")["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))


def test_what_was_seen_is_billed_though_its_last_word_is_older(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = hub.running()
    hub.pass_time(minutes=6)
    falls_silent(hub, monkeypatch, hub.clock.now() - timedelta(minutes=5), machine_answers=False)
    hub.tick(seconds=5)
    closed = hub.release_lease(lease["id"], "returned")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))
    assert datetime.fromisoformat(closed["ended_at"]) - datetime.fromisoformat(closed["started_at"]) == timedelta(
        minutes=6
    )


def test_a_successor_that_never_saw_the_second_kernel_does_not_bill_until_the_end_of_the_first(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=2)
    hub.end_placement(lease["placement_id"])
    hub.start(lease)
    hub.pass_time(minutes=2)
    hub.place.unreachable = True
    hub.restart()
    hub.pass_time(minutes=2)
    closed = hub.release_lease(lease["id"], "returned")
    assert closed["cost_microcredits"] == rated(CREDIT, timedelta(minutes=6))


def test_a_lease_out_of_sight_is_never_billed_beyond_what_was_paid(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=2)
    operator = hub.plane._operator
    placement_id = lease["placement_id"]
    told = hub.again(lease)["paid_until"]
    paid_until = datetime.fromisoformat(told)
    hub.place.unreachable = True
    hub.tick()
    operator._seen_at[placement_id] = paid_until + timedelta(minutes=1)
    assert hub.release_lease(lease["id"], "returned")["ended_at"] == told


def test_a_start_that_was_never_committed_is_not_under_way(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = hub.take()
    write = hub.database.write

    def failing(work: Any) -> Any:
        def does_not_commit(unit: Unit) -> None:
            work(unit)
            raise OSError("the disk is full")

        return write(does_not_commit)

    with monkeypatch.context() as patch:
        patch.setattr(hub.database, "write", failing)
        with pytest.raises(OSError, match="full"):
            hub.start(lease)
    assert hub.plane._operator._starting == set()
    hub.start(lease)
