"""A notebook that books, moves or repeats a booking spends the allowance, and above it the browser is asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import NeedsApproval
from tests.support.plane import CREDIT, Plane, browser, kernel

SLOT = {"model": "T4", "time_zone": "UTC", "duration_seconds": 3600, "when": "tomorrow 14:00"}


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def left(hub: Plane) -> int:
    return int(hub.me(browser())["allowance"]["left_microcredits"])


def test_a_series_is_one_part_of_the_allowance(hub: Plane) -> None:
    before = left(hub)
    hub.book_series(kernel(), hub.key(), **SLOT, rrule="FREQ=DAILY;COUNT=2")
    assert before - left(hub) == 2 * CREDIT


def test_a_series_above_it_is_asked_for_at_once(hub: Plane) -> None:
    with pytest.raises(NeedsApproval):
        hub.book_series(kernel(), hub.key(), **SLOT, rrule="FREQ=DAILY;COUNT=9")


def test_a_longer_booking_takes_what_is_more(hub: Plane) -> None:
    before = left(hub)
    booked = hub.book(kernel(), hub.key(), **SLOT)
    assert before - left(hub) == CREDIT
    hub.move_booking(kernel(), hub.key(), booked["id"], duration_seconds=7200)
    assert before - left(hub) == 2 * CREDIT
