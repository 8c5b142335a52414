"""Move a booking: another start, another length, another number of devices, all at once or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import pairwise

from computehub_ext.bookings import store
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.capacity import release, reserve
from computehub_ext.bookings.model import Booking, BookingLimits, Quote, in_words, iso
from computehub_ext.bookings.quoting import choices_json, next_slots
from computehub_ext.bookings.service import refuse_twice
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import SlotTaken
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.ledger import service as ledger
from computehub_ext.pools import service as pools


def moved(
    booking: Booking,
    *,
    start_at: datetime | None,
    duration: timedelta | None,
    count: int | None,
    now: datetime,
    limits: BookingLimits,
) -> Booking:
    """What the booking would be; None leaves a thing as it is, also where the limits have become narrower since.

    Raises
    ------
    IllegalMove
        It is over, or has begun and more than its length would change; ``details["field"]`` says what.
    Invalid
        The time, its length or the number of devices is out of the limits.
    """
    start_at = start_at or booking.span.start_at
    duration = duration if duration is not None else booking.span.duration
    count = count if count is not None else booking.count
    if duration <= timedelta(0):
        limits.check_duration(duration)
    if start_at != booking.span.start_at and not booking.has_begun(now):
        limits.check_start(start_at, now)
    changed = booking.moved(TimeSpan.starting(start_at, duration), count, now)
    if count != booking.count:
        limits.check_count(count)
    # What has begun may end early, however short that makes it; its time was held.
    if duration > booking.span.duration or (duration != booking.span.duration and not booking.has_begun(now)):
        limits.check_duration(duration)
    return changed


def quote_move(
    unit: Unit,
    calendar: Calendar,
    *,
    booking: Booking,
    changed: Booking,
    now: datetime,
    limits: BookingLimits,
    reserved: Iterable[tuple[TimeSpan, int]] = (),
) -> Quote:
    """What moving would cost and whether it can be done: the booking's own slot counts as free. Changes nothing.

    ``reserved`` is what this very transaction took for it before it met what is in the way.
    """
    pool = pools.get_pool(unit, booking.pool_id)
    draft = calendar.draft()
    rest, wanted = booking.rest(now), changed.rest(now)
    assert rest is not None, "a booking that is over is not moved"
    assert wanted is not None, "nothing is moved into the past"
    for span, count in ((rest, booking.count), *reserved):
        draft.of(pool.id).ignore(span, count)
    available = draft.of(pool.id).free(wanted) >= changed.count
    earliest: tuple[TimeSpan, ...] = ()
    if not available and not booking.has_begun(now):
        horizon = max(now + limits.max_ahead, wanted.start_at)
        earliest = next_slots(draft, [pool], count=changed.count, span=changed.span, horizon=horizon)
    return Quote(
        pool=pool,
        count=changed.count,
        span=changed.span,
        rate_microcredits_per_hour=booking.rate_microcredits_per_hour,
        amount_microcredits=changed.amount_microcredits,
        available=available,
        earliest=earliest,
        alternatives=(),
        change_microcredits=changed.amount_microcredits - booking.amount_microcredits,
    )


def move(
    unit: Unit,
    calendar: Calendar,
    *,
    booking: Booking,
    changed: Booking,
    key: str,
    now: datetime,
    limits: BookingLimits,
) -> Booking:
    """Make ``booking`` what ``moved`` says, with its place in the calendar and its hold.

    Raises
    ------
    SlotTaken
        Others are in the way. ``details`` names the ``earliest`` slots, counting its own as free.
    InsufficientCredits
        It costs more than before by more than the person has left.
    Conflict
        The person holds this model at that very time for the same notebook already.
    """
    if changed == booking:
        return booking
    refuse_twice(unit, booking.person_id, {booking.model}, changed.span, booking.notebook_path, but=booking.id)
    parts = _difference(booking, changed, now)
    reserved: list[tuple[TimeSpan, int]] = []
    for span, more in parts:
        if more > 0 and not reserve(unit, calendar, booking.pool_id, span, more):
            choices = quote_move(
                unit, calendar, booking=booking, changed=changed, now=now, limits=limits, reserved=reserved
            )
            raise SlotTaken(
                f"No {booking.model} is free from {iso(changed.span.start_at)} for {in_words(changed.span.duration)}.",
                booking_id=booking.id,
                **choices_json(choices),
            )
        if more > 0:
            reserved.append((span, more))
    ledger.resize_hold(
        unit,
        hold_id=booking.hold_id,
        amount_microcredits=changed.amount_microcredits,
        key=f"booking:{booking.id}:move:{hashlib.sha256(key.encode()).hexdigest()[:32]}",
        now=now,
    )
    store.save(unit, changed)
    for span, more in parts:
        if more < 0:
            release(unit, calendar, booking.pool_id, span, -more)
    unit.emit("booking", action="changed", booking_id=booking.id)
    return changed


def _difference(old: Booking, new: Booking, now: datetime) -> list[tuple[TimeSpan, int]]:
    """The parts of the time ahead in which ``new`` holds more devices than ``old``, or fewer."""
    spans = ((old.rest(now), -old.count), (new.rest(now), new.count))
    edges = sorted({edge for span, _ in spans if span for edge in (span.start_at, span.end_at)})
    parts = [TimeSpan(start, end) for start, end in pairwise(edges)]
    changes = [(part, sum(count for span, count in spans if span and span.overlaps(part))) for part in parts]
    return [(part, change) for part, change in changes if change]
