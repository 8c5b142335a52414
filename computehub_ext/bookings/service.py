"""Book a slot, change it, give it back. Each function is one use case in the caller's transaction.

A booking, its hold and its place in the calendar come and go together; how, ``capacity`` says.

What the rules say:

- A person's own bookings may overlap, since each is paid. The same model, time and notebook twice is a slip: refused.
- The price per hour is that of the moment of booking, also for time added later.
- Given back before its start it costs nothing; after it, the time that it was held. Nobody coming counts as held.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from computehub_ext.bookings import store
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.capacity import release, reserve_first, reserve_more
from computehub_ext.bookings.finding import beginning, covering, find, list_bookings, list_by_start
from computehub_ext.bookings.model import Booking, BookingLimits, BookingState, in_words, iso
from computehub_ext.bookings.quoting import candidates, choices_json, earliest_slot, quote, wanted_span
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Conflict, IdempotencyMismatch, IllegalMove, Invalid, SlotTaken
from computehub_ext.core.ids import new_id
from computehub_ext.core.settings import Settings
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool

__all__ = [
    "activate",
    "availability",
    "beginning",
    "book",
    "cancel",
    "choices_json",
    "complete",
    "covering",
    "deactivate",
    "expire_missed",
    "find",
    "free_now",
    "limits_of",
    "list_bookings",
    "list_by_start",
    "load_calendar",
    "quote",
    "resize",
    "withdraw",
]

Kept = Callable[[Unit, Booking], datetime | None]
"""Since when a booking's devices have been kept for it, or None while its place has none to keep."""

STEPS_MAX = 10_000
PATH_LENGTH_MAX = 4096
HASH_FORMAT = "1"
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def kept_by_calendar(_: Unit, booking: Booking) -> datetime | None:
    """As it is where nobody but the calendar hands devices out."""
    return booking.span.start_at


def limits_of(settings: Settings) -> BookingLimits:
    """The administrator's limits."""
    return BookingLimits(settings.min_duration, settings.max_duration, settings.max_ahead, settings.max_count)


# -- the calendar ------------------------------------------------------------------------------------------------------


def load_calendar(unit: Unit, calendar: Calendar, *, now: datetime) -> None:
    """Fill an empty calendar with what the database knows of the time ahead. Once, before anybody books."""
    for pool in pools.list_pools(unit):
        calendar.set_capacity(pool.id, pool.count)
    for booking in store.load_live(unit, after=now):
        rest = booking.rest(now)
        assert rest is not None, "only bookings that end later were asked for"
        calendar.of(booking.pool_id).add(rest, booking.count)


def availability(calendar: Calendar, pool: Pool, *, span: TimeSpan, step: timedelta) -> list[tuple[datetime, int]]:
    """How many devices are free throughout each step of ``span``."""
    if step < timedelta(seconds=1):
        raise Invalid("A step lasts at least a second.", field="step_seconds", minimum=1)
    steps = -(-span.duration // step)
    if steps > STEPS_MAX:
        longer = -(-span.duration // timedelta(seconds=1)) // STEPS_MAX + 1
        raise Invalid(
            f"That is {steps:,} steps, and {STEPS_MAX:,} are the most: ask for a shorter time or longer steps.",
            field="step_seconds",
            minimum=longer,
        )
    free = calendar.of(pool.id).free_by_step(span, step)
    return [(span.start_at + place * step, number) for place, number in enumerate(free)]


def free_now(
    calendar: Calendar,
    pool: Pool,
    *,
    now: datetime,
    for_at_least: timedelta = timedelta(minutes=10),
    within: timedelta = timedelta(days=60),
) -> tuple[int, datetime | None]:
    """How many devices of a pool one could take now, and from when on one is free (None: not in the time ahead).

    A gap of a few minutes before the next booking is not called free.
    """
    free = calendar.of(pool.id).free(TimeSpan.starting(now, for_at_least))
    if free:
        return free, now
    slot = earliest_slot(calendar, pool, count=1, duration=for_at_least, not_before=now, not_after=now + within)
    return 0, slot.start_at if slot else None


# -- booking -----------------------------------------------------------------------------------------------------------


def book(
    unit: Unit,
    calendar: Calendar,
    *,
    person: Person,
    model: str | None,
    count: int,
    key: str,
    notebook_path: str | None,
    now: datetime,
    limits: BookingLimits,
    span: TimeSpan | None = None,
    duration: timedelta | None = None,
    max_rate_microcredits_per_hour: int | None = None,
    unwell: Mapping[str, str] | None = None,
) -> Booking:
    """Take a slot on the cheapest pool that is free for it, and hold its full price.

    Parameters
    ----------
    key:
        The caller's idempotency key: repeated with the same input it returns the booking that it made.
    model, span, duration, max_rate_microcredits_per_hour, unwell:
        As in ``quote``.

    Raises
    ------
    SlotTaken
        No pool of the model is free. ``details`` names the ``earliest`` slots and ``alternatives`` with prices.
    InsufficientCredits
        The price is more than the person has left.
    Conflict
        The same person holds this model (any, where none is named) at this very time for this notebook already.
    Invalid
        The time, its length or the number of devices is out of the limits, or the model is unknown.
    """
    asked: dict[str, object] = {
        "model": model,
        "count": count,
        "span": None if span is None else [iso(span.start_at), iso(span.end_at)],
        "duration_seconds": None if duration is None else duration.total_seconds(),
        "notebook_path": notebook_path,
        "max_rate_microcredits_per_hour": max_rate_microcredits_per_hour,
    }
    input_hash = _hash(asked)
    if earlier := store.load_by_key(unit, person.id, key):
        if earlier[1] != input_hash:
            raise IdempotencyMismatch("This key made another booking; a new booking needs a new key.", key=key)
        return earlier[0]
    span = wanted_span(span, duration, now)
    check_path(notebook_path)
    limits.check_count(count)
    limits.check_duration(span.duration)
    limits.check_start(span.start_at, now)
    most = max_rate_microcredits_per_hour
    found = candidates(unit, model=model, count=count, max_rate_microcredits_per_hour=most, unwell=unwell)
    refuse_twice(unit, person.id, {pool.model for pool in found}, span, notebook_path)
    pool = reserve_first(unit, calendar, found, span, count)
    if pool is None:
        choices = quote(unit, calendar, model=model, count=count, span=span, now=now, limits=limits,
                        max_rate_microcredits_per_hour=most)  # fmt: skip
        raise SlotTaken(
            f"No {model or 'GPU'} is free from {iso(span.start_at)} for {in_words(span.duration)}.",
            **choices_json(choices),
        )
    return add_booking(unit, person=person, pool=pool, count=count, span=span, key=key, input_hash=input_hash,
                       notebook_path=notebook_path, now=now)  # fmt: skip


def add_booking(
    unit: Unit,
    *,
    person: Person,
    pool: Pool,
    count: int,
    span: TimeSpan,
    key: str,
    input_hash: str,
    notebook_path: str | None,
    now: datetime,
    series_id: str | None = None,
) -> Booking:
    """Hold the price of a slot that was taken in the calendar, and write the booking down."""
    booking_id = new_id("book")
    rate = pool.rate_microcredits_per_hour
    amount = rated(rate, span.duration, count)
    hold = ledger.open_hold(
        unit,
        account_id=people.account_of(person),
        amount_microcredits=amount,
        key=f"booking:{booking_id}",
        memo=f"{count} × {pool.model} for {in_words(span.duration)}",
        now=now,
    )
    booking = Booking(
        id=booking_id,
        person_id=person.id,
        pool_id=pool.id,
        model=pool.model,
        count=count,
        span=span,
        state=BookingState.CONFIRMED,
        hold_id=hold.id,
        rate_microcredits_per_hour=rate,
        amount_microcredits=amount,
        notebook_path=notebook_path,
        created_at=now,
        changed_at=now,
        series_id=series_id,
    )
    store.add(unit, booking, key=key, input_hash=input_hash)
    return booking


def check_path(notebook_path: str | None) -> None:
    """Refuse what can't be stored as a notebook's path."""
    # PostgreSQL stores neither zero characters nor lone surrogates; no notebook's name has them.
    path = notebook_path or ""
    if "\0" in path or any("\ud800" <= char <= "\udfff" for char in path) or len(path) > PATH_LENGTH_MAX:
        raise Invalid("That is not the path of a notebook.", field="notebook_path")


def refuse_twice(
    unit: Unit, person_id: str, models: set[str], span: TimeSpan, notebook_path: str | None, *, but: str | None = None
) -> None:
    """Refuse a slip: the same model, time and notebook as another booking of the person, other than ``but``."""
    same = store.load_same(unit, person_id=person_id, models=models, span=span, notebook_path=notebook_path, but=but)
    if same is not None:
        raise Conflict(
            f"You hold {same.count} × {same.model} at that time for this notebook already, as {same.id}. "
            f"For more devices cancel it and book them together.",
            booking_id=same.id,
        )


# -- changing ----------------------------------------------------------------------------------------------------------


def resize(
    unit: Unit,
    calendar: Calendar,
    *,
    booking_id: str,
    end_at: datetime,
    key: str,
    now: datetime,
    limits: BookingLimits,
) -> Booking:
    """Move the end of a booking, later or sooner, and its hold with it.

    Raises
    ------
    SlotTaken
        It can't be as long as that; ``details["free_until"]`` says how long it can.
    InsufficientCredits
        The added time costs more than the person has left.
    IllegalMove
        The booking is over.
    """
    booking = find(unit, booking_id)
    earlier = store.load_resize(unit, booking_id, key)
    if earlier is not None:
        if earlier != end_at:
            raise IdempotencyMismatch("This key moved the end elsewhere; a new change needs a new key.", key=key)
        return booking
    old_end_at = booking.span.end_at
    if not booking.is_live or now >= old_end_at:
        raise IllegalMove(f"Booking {booking.id} is over.", booking_id=booking.id, state=booking.state.value)
    if end_at <= max(now, booking.span.start_at):
        raise Invalid(f"A booking ends after it starts and after now, {iso(now)}.", field="ends_at")
    changed = booking.resized(end_at)
    if end_at > old_end_at:
        limits.check_duration(changed.span.duration)
        reserve_more(unit, calendar, booking, TimeSpan(old_end_at, end_at))
    ledger.resize_hold(
        unit,
        hold_id=booking.hold_id,
        amount_microcredits=changed.amount_microcredits,
        key=f"booking:{booking.id}:resize:{hashlib.sha256(key.encode()).hexdigest()[:32]}",  # a key may be 200 long
        now=now,
    )
    store.add_resize(unit, booking_id=booking.id, key=key, end_at=end_at, at=now)
    store.save(unit, changed)
    if end_at < old_end_at:
        release(unit, calendar, booking.pool_id, TimeSpan(end_at, old_end_at), booking.count)
    unit.emit("booking", action="changed", booking_id=booking.id)
    return changed


def activate(unit: Unit, *, booking_id: str, now: datetime) -> Booking:
    """A lease begins to use it."""
    return _save(unit, find(unit, booking_id).activate(now))


def deactivate(unit: Unit, *, booking_id: str, now: datetime) -> Booking:
    """The lease came to nothing; slot and hold stay the person's, for another try."""
    return _save(unit, find(unit, booking_id).deactivate(now))


# -- ending ------------------------------------------------------------------------------------------------------------


def cancel(
    unit: Unit, calendar: Calendar, *, booking_id: str, person_id: str, now: datetime, kept: Kept = kept_by_calendar
) -> Booking:
    """Give a slot back: free of charge before its start, for the price of the time ``kept`` after it.

    Cancelled twice it stays as it is. One that a lease uses is ended by ending the lease.
    """
    booking = find(unit, booking_id, person_id=person_id)
    if booking.state is BookingState.CANCELLED:
        return booking
    if booking.state is BookingState.ACTIVE:
        message = f"Booking {booking.id} is in use; end its lease and the rest of the time comes back."
        raise IllegalMove(message, booking_id=booking.id, state=booking.state.value)
    if booking.is_live and now >= booking.span.end_at:
        raise IllegalMove(f"Booking {booking.id} is over.", booking_id=booking.id, state=booking.state.value)
    return _end(unit, calendar, booking, booking.cancel(now), charged=charged_for(unit, booking, kept, now), now=now)


def complete(unit: Unit, calendar: Calendar, *, booking_id: str, now: datetime) -> Booking:
    """Its lease has ended and was metered: what the hold has left goes back, as does the time ahead."""
    booking = find(unit, booking_id)
    unit.emit("booking", action="completed", booking_id=booking.id)
    return _end(unit, calendar, booking, booking.complete(now), charged=0, now=now)


def withdraw(unit: Unit, calendar: Calendar, *, booking_id: str, now: datetime) -> Booking:
    """No place could serve it: it is as if it had never been, and costs nothing."""
    booking = find(unit, booking_id)
    unit.emit("booking", action="cancelled", booking_id=booking.id)
    return _end(unit, calendar, booking, booking.cancel(now), charged=0, now=now)


def charged_for(unit: Unit, booking: Booking, kept: Kept, now: datetime) -> int:
    """What giving a booking back costs: the time that its devices were kept, not that in which there were none."""
    since = kept(unit, booking)
    return 0 if since is None else booking.held_cost(now, since)


def expire_missed(
    unit: Unit, calendar: Calendar, *, grace: timedelta, now: datetime, kept: Kept = kept_by_calendar
) -> list[Booking]:
    """End the bookings that nobody came to within ``grace`` of their start, so that others get the rest of their time.

    The time until now was kept free for that person and is charged. After a lease that came to nothing, the grace
    begins anew. What its place never had, nobody has missed: it goes on waiting until its end and costs nothing.
    """
    expired = []
    for booking in store.load_unused(unit, now=now):
        since = kept(unit, booking)
        if since is None and now >= booking.span.end_at:
            expired.append(withdraw(unit, calendar, booking_id=booking.id, now=now))
            people.release_allowance(
                unit, reference=booking.id, amount_microcredits=booking.amount_microcredits, now=now
            )
        elif since is not None and now >= booking.missed_at(grace, since):
            unit.emit("booking", action="expired", booking_id=booking.id)
            charged = booking.held_cost(now, since)
            expired.append(_end(unit, calendar, booking, booking.expire(now), charged=charged, now=now))
            unused = booking.amount_microcredits - charged
            people.release_allowance(unit, reference=booking.id, amount_microcredits=unused, now=now)
    return expired


def _end(unit: Unit, calendar: Calendar, booking: Booking, ended: Booking, *, charged: int, now: datetime) -> Booking:
    """Settle the hold and give the time ahead back."""
    if charged:
        ledger.draw(
            unit,
            hold_id=booking.hold_id,
            amount_microcredits=charged,
            key=f"booking:{booking.id}:{ended.state.value}",
            memo=f"{booking.count} × {booking.model} kept free, not used",
            now=now,
        )
    ledger.close_hold(unit, hold_id=booking.hold_id, now=now)
    rest = booking.rest(now)
    if rest is not None:
        release(unit, calendar, booking.pool_id, rest, booking.count)
    return _save(unit, ended)


def _save(unit: Unit, booking: Booking) -> Booking:
    store.save(unit, booking)
    return booking


def _hash(asked: dict[str, object]) -> str:
    return f"{HASH_FORMAT}:{hashlib.sha256(_canonical([HASH_FORMAT, asked]).encode()).hexdigest()}"
