"""A person's bookings: one, those of a time, and lists in pages."""

from __future__ import annotations

from datetime import datetime

from computehub_ext.bookings import store
from computehub_ext.bookings.model import Booking
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import NotFound


def find(unit: Unit, booking_id: str, *, person_id: str | None = None) -> Booking:
    """One booking; for a ``person_id``, only if it is theirs: another's looks like none."""
    booking = store.load(unit, booking_id)
    if booking is None or (person_id is not None and booking.person_id != person_id):
        raise NotFound(f"You have no booking {booking_id}.", booking_id=booking_id)
    return booking


def list_bookings(
    unit: Unit,
    person_id: str,
    *,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
    over_at: datetime | None = None,
) -> list[Booking]:
    """A person's bookings, newest first; ``before`` is the ``(created_at, id)`` of the last one seen.

    With ``over_at`` only those that hold no time after that moment.
    """
    return store.load_newest(unit, person_id, before=before, limit=limit, over_at=over_at)


def list_by_start(
    unit: Unit,
    person_id: str,
    *,
    ends_after: datetime | None = None,
    starts_before: datetime | None = None,
    upcoming_at: datetime | None = None,
    over_at: datetime | None = None,
    after: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[Booking]:
    """A person's bookings in the order of their start; ``after`` is the ``(start_at, id)`` of the last one seen.

    Parameters
    ----------
    ends_after, starts_before:
        The window that they lie in, at least in part.
    upcoming_at, over_at:
        Only those that hold time after this moment, or only the others.
    """
    if upcoming_at is not None:
        ends_after = max(upcoming_at, ends_after) if ends_after else upcoming_at
    return store.load_by_start(
        unit,
        person_id,
        ends_after=ends_after,
        starts_before=starts_before,
        live_only=upcoming_at is not None,
        over_at=over_at,
        after=after,
        limit=limit,
    )


def beginning(unit: Unit, *, now: datetime, before: datetime) -> list[Booking]:
    """Everybody's live bookings that begin before a moment, or have begun, and are not over."""
    return store.load_beginning(unit, now=now, before=before)


def covering(unit: Unit, *, person_id: str, now: datetime) -> list[Booking]:
    """A person's live bookings whose time it is, the one that ends last first."""
    return store.load_covering(unit, person_id=person_id, at=now)
