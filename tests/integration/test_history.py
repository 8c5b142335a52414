"""All that one lease cost as one line, on both kinds of database."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.bookings import service as bookings
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.ids import new_id
from computehub_ext.leases import store as leases
from computehub_ext.leases.model import EndReason, Lease, LeaseState
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Origin
from computehub_ext.people.model import Person
from computehub_ext.reports import history
from tests.support.databases import REAL_DATABASES
from tests.support.hub import LIMITS, Hub, open_hub

DRAWS = 20


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Hub:
    return open_hub(database, clock)


def leased(unit: Unit, hub: Hub, number: int, *, person: Person | None = None, draws: int = DRAWS) -> str:
    """A lease of an hour that is over, charged in parts, ``number`` hours from the start."""
    begin = hub.start + timedelta(hours=number)
    booking = bookings.book(
        unit, hub.calendar, person=person or hub.ada, model="T4", count=1, key=f"lease {number}", limits=LIMITS,
        notebook_path=f"{number}.ipynb", now=begin, duration=timedelta(hours=1),
    )  # fmt: skip
    lease = Lease(
        new_id("lease"), booking.id, booking.hold_id, booking.person_id, booking.pool_id, booking.model, booking.count,
        booking.rate_microcredits_per_hour, new_id("kernel"), booking.notebook_path, LeaseState.CLOSED, begin,
        booking.span.end_at, timedelta(minutes=20), True, started_at=begin, ended_at=booking.span.end_at,
        end_reason=EndReason.RETURNED,
    )  # fmt: skip
    leases.add_lease(unit, lease)
    for part in range(draws):
        ledger.draw(unit, hold_id=booking.hold_id, amount_microcredits=100, key=f"draw {number} {part}", memo="T4",
                    now=begin + timedelta(minutes=part))  # fmt: skip
    return lease.id


def granted(unit: Unit, hub: Hub, number: int, person: Person | None = None) -> None:
    account_id = (person or hub.ada).account_id
    ledger.grant(unit, account_id=account_id, amount_microcredits=7, origin=Origin.PURCHASED, key=f"grant {number}",
                 memo=f"grant {number}", now=hub.start + timedelta(hours=number))  # fmt: skip


def pages(hub: Hub, size: int, person: Person | None = None) -> list[history.HistoryLine]:
    """All lines, read ``size`` at a time."""
    found: list[history.HistoryLine] = []
    before: tuple[datetime, str] | None = None
    while True:
        page = hub.database.read(
            lambda unit, before=before: history.by_lease(
                unit, (person or hub.ada).account_id, before=before, limit=size
            )
        )
        found += page
        if len(page) < size:
            return found
        before = page[-1].at, page[-1].place


@REAL_DATABASES
def test_the_charges_of_a_lease_are_one_line(hub: Hub) -> None:
    def fill(unit: Unit) -> list[str]:
        ids = [leased(unit, hub, number) for number in range(3)]
        for number in range(3):
            granted(unit, hub, number)
        return ids

    ids = hub.database.write(fill)
    for size in (2, 3, 50):
        lines = pages(hub, size)
        assert [line.id for line in lines if line.kind == "lease"] == ids[::-1]
        assert [line.kind for line in lines] == ["lease", "grant"] * 2 + ["lease", *["grant"] * 2]
    line = lines[0]
    assert (line.amount_microcredits, line.at) == (-100 * DRAWS, hub.start + timedelta(hours=2, minutes=DRAWS - 1))
    assert line.memo == "1 × T4 (simulated) for 1 h in 2.ipynb"
    assert (line.origin, dict(line.by_origin)) == (Origin.GRANTED, {Origin.GRANTED: -100 * DRAWS})
    assert line.lease is not None
    assert (line.lease.end_reason, line.lease.end_message) == (EndReason.RETURNED, "You gave the GPU back.")
    assert line.lease.simulated is True
    assert sum(each.amount_microcredits for each in lines) == 10_000_000 + 3 * 7 - 3 * 100 * DRAWS


@REAL_DATABASES
def test_two_peoples_lines_never_meet(hub: Hub) -> None:
    bob = hub.person("bob")
    hub.database.write(
        lambda unit: (leased(unit, hub, 0), leased(unit, hub, 1, person=bob), granted(unit, hub, 2, bob))
    )
    assert [line.kind for line in pages(hub, 50)] == ["lease", "grant"]
    assert [line.kind for line in pages(hub, 50, bob)] == ["grant", "lease", "grant"]


@REAL_DATABASES
def test_a_slot_that_saw_several_leases_is_one_line(hub: Hub) -> None:
    """All but the last came to nothing."""

    def fill(unit: Unit) -> Any:
        last = leased(unit, hub, 0)
        lease = leases.lease(unit, last)
        assert lease is not None
        first = Lease(**{**vars(lease), "id": "lease_0", "kernel_id": "other", "started_at": None})
        leases.add_lease(unit, first)
        return last

    last = hub.database.write(fill)
    assert [line.id for line in pages(hub, 50) if line.kind == "lease"] == [last]


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_a_page_of_5000_lines_is_quick(hub: Hub) -> None:
    """15 ms on the machine that this was written on; ten times that is still no wait."""

    def fill(unit: Unit) -> None:
        for number in range(50):
            if number < 9:
                leased(unit, hub, number, draws=100)
            else:
                granted(unit, hub, number)
        hold = ledger.open_hold(unit, account_id=hub.ada.account_id, amount_microcredits=10**6, key="many", memo="",
                                now=hub.start)  # fmt: skip
        for number in range(4000):
            ledger.draw(unit, hold_id=hold.id, amount_microcredits=1, key=f"{number}", memo="T4", now=hub.start)

    hub.database.write(fill)
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        page = hub.database.read(lambda unit: history.by_lease(unit, hub.ada.account_id, limit=50))
        took.append(time.perf_counter() - begun)
    assert len(page) == 50
    assert min(took) < 0.15
