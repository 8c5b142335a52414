"""The same time of day again and again: each occurrence is a booking of its own, all of them made at once or none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from computehub_ext.bookings import store
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.capacity import reserve_first
from computehub_ext.bookings.model import Booking, BookingLimits, BookingState, Quote, QuotedOccurrence, in_words, iso
from computehub_ext.bookings.quoting import candidates, times
from computehub_ext.bookings.recurrence import Occurrence, expand
from computehub_ext.bookings.service import add_booking, cancel, check_path, refuse_twice
from computehub_ext.core.credits import in_credits, rated
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import InsufficientCredits, NotFound, SlotTaken
from computehub_ext.core.ids import new_id
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.people import service as people
from computehub_ext.people.model import Person


@dataclass(frozen=True)
class Series:
    """What was booked together. ``bookings`` are as they are now, ``skipped`` and ``notes`` as they were answered."""

    id: str
    person_id: str
    rrule: str
    time_zone: str
    created_at: datetime
    bookings: tuple[Booking, ...]
    skipped: tuple[TimeSpan, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SeriesWish:
    """What a person asks for, checked: ``start_at`` to the second, ``model`` None for the cheapest (quotes only)."""

    model: str | None
    count: int
    start_at: datetime
    duration: timedelta
    rrule: str
    time_zone: str
    max_rate_microcredits_per_hour: int | None = None

    def occurrences(self, *, now: datetime, limits: BookingLimits) -> list[Occurrence]:
        """The times that the rule names, within the limits.

        Raises
        ------
        Invalid
            Naming the field: ``rrule``, ``time_zone``, ``count``, ``duration_seconds`` or ``starts_at``.
        """
        limits.check_count(self.count)
        limits.check_duration(self.duration)
        limits.check_start(self.start_at, now)
        return expand(self.rrule, start_at=self.start_at, time_zone=self.time_zone, now=now, max_ahead=limits.max_ahead)

    def span(self, occurrence: Occurrence) -> TimeSpan:
        return TimeSpan.starting(occurrence.start_at, self.duration)


def whole_second(moment: datetime) -> datetime:
    """The moment, or the next whole second: a rule knows no fractions."""
    return moment if not moment.microsecond else moment.replace(microsecond=0) + timedelta(seconds=1)


def quote_series(unit: Unit, calendar: Calendar, *, wish: SeriesWish, now: datetime, limits: BookingLimits) -> Quote:
    """Price each occurrence and say which are free; they may be in each other's way too. Holds nothing."""
    found = candidates(
        unit,
        model=wish.model,
        count=wish.count,
        max_rate_microcredits_per_hour=wish.max_rate_microcredits_per_hour,
    )
    draft = calendar.draft()
    quoted = []
    for occurrence in wish.occurrences(now=now, limits=limits):
        span = wish.span(occurrence)
        pool = next((pool for pool in found if draft.of(pool.id).reserve(span, wish.count)), None)
        amount = rated((pool or found[0]).rate_microcredits_per_hour, wish.duration, wish.count)
        quoted.append(QuotedOccurrence(span, amount, pool is not None, occurrence.note))
    return Quote(
        pool=found[0],
        count=wish.count,
        span=quoted[0].span,
        rate_microcredits_per_hour=found[0].rate_microcredits_per_hour,
        amount_microcredits=sum(each.amount_microcredits for each in quoted if each.available),
        available=all(each.available for each in quoted),
        earliest=(),
        alternatives=(),
        occurrences=tuple(quoted),
    )


def book_series(
    unit: Unit,
    calendar: Calendar,
    *,
    person: Person,
    wish: SeriesWish,
    notebook_path: str | None,
    skip_taken: bool,
    now: datetime,
    limits: BookingLimits,
) -> Series:
    """Book every occurrence, or with ``skip_taken`` those that are free.

    Raises
    ------
    SlotTaken
        Others have booked some, or with ``skip_taken`` all; ``details["taken"]`` names them.
    InsufficientCredits
        All of them together cost more than the person has left.
    Conflict
        The person holds this model at one of these times for this notebook already.
    """
    check_path(notebook_path)
    occurrences = wish.occurrences(now=now, limits=limits)
    found = candidates(unit, model=wish.model, count=wish.count, max_rate_microcredits_per_hour=None)
    taken: list[TimeSpan] = []
    free = []
    for occurrence in occurrences:
        span = wish.span(occurrence)
        refuse_twice(unit, person.id, {pool.model for pool in found}, span, notebook_path)
        pool = reserve_first(unit, calendar, found, span, wish.count)
        if pool is None:
            taken.append(span)
        else:
            free.append((span, pool))
    if taken and not (skip_taken and free):
        raise SlotTaken(_taken_words(wish, taken, len(occurrences)), taken=[times(span) for span in taken],
                        earliest=[], alternatives=[])  # fmt: skip
    series = Series(
        id=new_id("series"),
        person_id=person.id,
        rrule=wish.rrule,
        time_zone=wish.time_zone,
        created_at=now,
        bookings=(),
        skipped=tuple(taken),
        notes=tuple(each.note for each in occurrences if each.note and wish.span(each) not in taken),
    )
    _add(unit, series)
    booked: list[Booking] = []
    for number, (span, pool) in enumerate(free):
        key = f"{series.id}:{number}"
        try:
            booking = add_booking(unit, person=person, pool=pool, count=wish.count, span=span, key=key,
                                  input_hash=_hash(key), notebook_path=notebook_path, now=now,
                                  series_id=series.id)  # fmt: skip
        except InsufficientCredits as error:
            available = error.details["available_microcredits"] + sum(each.amount_microcredits for each in booked)
            needed = sum(rated(p.rate_microcredits_per_hour, wish.duration, wish.count) for _, p in free)
            raise InsufficientCredits(
                f"The series needs {in_credits(needed)} credits; {in_credits(available)} are available.",
                available_microcredits=available,
                needed_microcredits=needed,
            ) from error
        booked.append(booking)
        unit.emit("booking", action="confirmed", booking_id=booking.id)
    return replace(series, bookings=tuple(booked))


def find_series(unit: Unit, series_id: str, *, person_id: str) -> Series:
    """One series of this person: another's looks like none."""
    row = store.load_series(unit, series_id)
    if row is None or row.person_id != person_id:
        raise NotFound(f"You have no series {series_id}.", series_id=series_id)
    remarks = json.loads(row.remarks)
    skipped = tuple(TimeSpan(*map(datetime.fromisoformat, span)) for span in remarks["skipped"])
    return Series(
        id=row.id,
        person_id=row.person_id,
        rrule=row.rrule,
        time_zone=row.time_zone,
        created_at=row.created_at,
        bookings=tuple(store.load_of_series(unit, series_id)),
        skipped=skipped,
        notes=tuple(remarks["notes"]),
    )


def cancel_series(unit: Unit, calendar: Calendar, *, series_id: str, person_id: str, now: datetime) -> list[Booking]:
    """Cancel those that have not begun, which costs nothing, and return them as they are now."""
    cancelled = []
    for booking in find_series(unit, series_id, person_id=person_id).bookings:
        if booking.state is BookingState.CONFIRMED and not booking.has_begun(now):
            cancelled.append(cancel(unit, calendar, booking_id=booking.id, person_id=person_id, now=now))
            unit.emit("booking", action="cancelled", booking_id=booking.id)
    return cancelled


def given_back(bookings: Sequence[Booking]) -> tuple[int, int]:
    """What those cost that were cancelled before they began, of which nothing was charged, and what the others cost."""
    early = [b for b in bookings if b.state is BookingState.CANCELLED and b.changed_at <= b.span.start_at]
    back = sum(booking.amount_microcredits for booking in early)
    return back, sum(booking.amount_microcredits for booking in bookings) - back


def release_of_series(unit: Unit, series: Series, *, now: datetime) -> None:
    """Let flow back into the allowance what a kernel spent for the series and what nobody holds any more."""
    back, kept = given_back(series.bookings)
    people.release_allowance(unit, reference=series.id, amount_microcredits=back, kept_microcredits=kept, now=now)


def _add(unit: Unit, series: Series) -> None:
    skipped = [[span.start_at.isoformat(), span.end_at.isoformat()] for span in series.skipped]
    store.add_series(
        unit,
        series_id=series.id,
        person_id=series.person_id,
        rrule=series.rrule,
        time_zone=series.time_zone,
        created_at=series.created_at,
        remarks=json.dumps({"skipped": skipped, "notes": series.notes}),
    )


def _taken_words(wish: SeriesWish, taken: Sequence[TimeSpan], of: int) -> str:
    first = f"No {wish.model} is free from {iso(taken[0].start_at)} for {in_words(wish.duration)}"
    return f"{first}, nor at {len(taken) - 1} more of the {of} times." if len(taken) > 1 else f"{first}."


def _hash(key: str) -> str:
    # Nobody repeats one of these keys: the request that made the series has its own.
    return f"series:{hashlib.sha256(key.encode()).hexdigest()}"
