"""Taking a lease: from a wish to a booking, a hold and a lease, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.core.credits import in_credits, rated
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Conflict, SlotTaken
from computehub_ext.core.ids import new_id
from computehub_ext.core.settings import Settings
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.leases import store
from computehub_ext.leases.model import Lease, LeaseState
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person, Spent, check_idle_timeout
from computehub_ext.pools.model import Pool


@dataclass(frozen=True)
class LeaseRequest:
    """What a person asks for; what is None is chosen for them."""

    kernel_id: str
    notebook_path: str | None = None
    model: str | None = None
    count: int = 1
    duration: timedelta | None = None
    max_rate_microcredits_per_hour: int | None = None
    booking_id: str | None = None
    idle_timeout: timedelta | None = None
    from_kernel: bool = False
    approval_id: str | None = None


def request(
    unit: Unit,
    calendar: Calendar,
    *,
    person: Person,
    wanted: LeaseRequest,
    key: str,
    settings: Settings,
    now: datetime,
    unwell: Mapping[str, str] | None = None,
) -> Lease | ApprovalWanted:
    """Book and hold what ``wanted`` says and write the lease down; nothing is billed before its kernel runs.

    A booking of the same person that covers this moment is used before a new one is made: it is paid for already.
    An ``ApprovalWanted`` must be committed by the caller before it is turned into an error, or the browser would have
    nothing to approve.

    Raises
    ------
    Conflict
        The kernel holds a lease already.
    Invalid, SlotTaken, InsufficientCredits, OfferExpired
        As booking does.
    """
    held = store.live_lease_of_kernel(unit, wanted.kernel_id)
    if held is not None:
        message = "This notebook holds a GPU already; `%gpu off` gives it back."
        raise Conflict(message, lease_id=held.id, state=held.state)
    idle_timeout = _idle_timeout(person, wanted, settings)
    booking = _standing_booking(unit, person=person, wanted=wanted, settings=settings, now=now)
    on_the_spot = booking is None
    if booking is None:
        outcome = _book_now(
            unit, calendar, person=person, wanted=wanted, key=key, settings=settings, now=now, unwell=unwell
        )
        if isinstance(outcome, ApprovalWanted):
            return outcome
        booking = outcome
    lease = Lease(
        id=new_id("lease"),
        booking_id=booking.id,
        hold_id=booking.hold_id,
        person_id=person.id,
        pool_id=booking.pool_id,
        model=booking.model,
        count=booking.count,
        rate_microcredits_per_hour=booking.rate_microcredits_per_hour,
        kernel_id=wanted.kernel_id,
        notebook_path=wanted.notebook_path,
        state=LeaseState.REQUESTED,
        created_at=now,
        ends_at=booking.span.end_at,
        idle_timeout=idle_timeout,
        on_the_spot=on_the_spot,
        billed_from_at=None if on_the_spot else booking.span.start_at,
    )
    store.add_lease(unit, lease)
    bookings.activate(unit, booking_id=booking.id, now=now)
    return lease


def _idle_timeout(person: Person, wanted: LeaseRequest, settings: Settings) -> timedelta:
    if wanted.idle_timeout is None:
        return person.idle_timeout(settings)
    check_idle_timeout(wanted.idle_timeout, settings)
    return wanted.idle_timeout


def _standing_booking(
    unit: Unit, *, person: Person, wanted: LeaseRequest, settings: Settings, now: datetime
) -> Booking | None:
    if wanted.booking_id is not None:
        booking = bookings.find(unit, wanted.booking_id, person_id=person.id)
        if booking.state is not BookingState.CONFIRMED:
            raise Conflict(f"The booking is {booking.state}.", booking_id=booking.id, state=booking.state)
        if now not in booking.span:
            message = "The booking's time has not come yet." if now < booking.span.start_at else "Its time is over."
            raise Conflict(message, booking_id=booking.id, starts_at=booking.span.start_at.isoformat())
    else:
        standing = bookings.covering(unit, person_id=person.id, now=now)
        fitting = [b for b in standing if _fits(b, wanted)]
        if not fitting:
            return None
        booking = fitting[0]
    if booking.span.end_at - settings.closing_reserve <= now:
        raise Conflict("The booking ends too soon to start on it.", booking_id=booking.id)
    return booking


def _fits(booking: Booking, wanted: LeaseRequest) -> bool:
    if booking.state is not BookingState.CONFIRMED or wanted.count != booking.count:
        return False
    cap = wanted.max_rate_microcredits_per_hour
    if cap is not None and booking.rate_microcredits_per_hour > cap:
        return False
    return wanted.model is None or wanted.model.lower() == booking.model.lower()


def _book_now(
    unit: Unit,
    calendar: Calendar,
    *,
    person: Person,
    wanted: LeaseRequest,
    key: str,
    settings: Settings,
    now: datetime,
    unwell: Mapping[str, str] | None,
) -> Booking | ApprovalWanted:
    duration = wanted.duration or person.duration(settings)
    most = wanted.max_rate_microcredits_per_hour
    if most is None:
        most = person.defaults.max_rate_microcredits_per_hour
    quote = bookings.quote(
        unit,
        calendar,
        model=wanted.model,
        count=wanted.count,
        span=TimeSpan.starting(now, duration),
        now=now,
        max_rate_microcredits_per_hour=most,
        limits=bookings.limits_of(settings),
        unwell=unwell,
    )
    if not quote.available:
        message = f"No {quote.pool.model} is free for the next {in_words(duration)}."
        raise SlotTaken(message, **bookings.choices_json(quote))
    if wanted.duration is None:
        # Nobody named a length: take what the money lasts for rather than refuse the usual one.
        duration = _affordable(
            unit, person=person, rate=quote.rate_microcredits_per_hour, wanted=wanted, settings=settings
        )
    amount = rated(quote.rate_microcredits_per_hour, duration, wanted.count)
    if wanted.from_kernel:
        outcome = spend_allowance(
            unit,
            person=person,
            amount_microcredits=amount,
            purpose=f"{wanted.count} × {called(quote.pool)} for {in_words(duration)} at {in_credits(amount)} credits",
            key=key,
            approval_id=wanted.approval_id,
            kernel_id=wanted.kernel_id,
            notebook_path=wanted.notebook_path,
            settings=settings,
            now=now,
        )
        if isinstance(outcome, ApprovalWanted):
            return outcome
    booking = bookings.book(
        unit,
        calendar,
        person=person,
        model=quote.pool.model,
        count=wanted.count,
        span=TimeSpan.starting(now, duration),
        key=key,
        notebook_path=wanted.notebook_path,
        now=now,
        limits=bookings.limits_of(settings),
        max_rate_microcredits_per_hour=most,
        unwell=unwell,
    )
    if wanted.from_kernel:
        people.refer_spending(unit, person_id=person.id, key=key, reference=booking.id)
    return booking


def _affordable(unit: Unit, *, person: Person, rate: int, wanted: LeaseRequest, settings: Settings) -> timedelta:
    available = ledger.balance(unit, people.account_of(person)).available_microcredits
    usual = person.duration(settings)
    if rate <= 0:
        return usual
    seconds = available * 3600 // (rate * wanted.count)
    whole_minutes = timedelta(minutes=seconds // 60)
    return max(settings.min_duration, min(usual, whole_minutes))


def spend_allowance(
    unit: Unit,
    *,
    person: Person,
    amount_microcredits: int,
    purpose: str,
    key: str,
    approval_id: str | None,
    kernel_id: str | None,
    notebook_path: str | None,
    settings: Settings,
    now: datetime,
    reference: str | None = None,
) -> Spent | ApprovalWanted:
    """Count what a kernel wants to hold against its allowance, by the administrator's settings (decision 8)."""
    return people.spend_allowance(
        unit,
        person_id=person.id,
        amount_microcredits=amount_microcredits,
        purpose=purpose,
        key=key,
        approval_id=approval_id,
        kernel_id=kernel_id,
        notebook_path=notebook_path,
        reference=reference,
        default_microcredits=settings.allowance_per_day_microcredits,
        lifetime=settings.approval_lifetime,
        now=now,
    )


def called(pool: Pool) -> str:
    """The model as a person reads it: a simulated one says so (decision 10)."""
    return f"{pool.model} (simulated)" if pool.simulated else pool.model


def in_words(duration: timedelta) -> str:
    minutes = int(duration.total_seconds() // 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join(filter(None, [f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""])) or "0 min"
