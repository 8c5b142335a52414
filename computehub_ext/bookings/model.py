"""What a booking is and how it may move; what may be asked for. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from computehub_ext.core.credits import rated
from computehub_ext.core.errors import IllegalMove, Invalid
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.pools.model import Pool


class BookingState(StrEnum):
    HELD = "held"
    """The slot and the credits are set aside; not yet promised."""
    CONFIRMED = "confirmed"
    """Promised: it is there when its time comes."""
    ACTIVE = "active"
    """A lease uses it."""
    COMPLETED = "completed"
    """Its lease has ended."""
    CANCELLED = "cancelled"
    """Given back, by the person or because no place could serve it."""
    EXPIRED = "expired"
    """Nobody came."""


MOVES: dict[BookingState, frozenset[BookingState]] = {
    BookingState.HELD: frozenset({BookingState.CONFIRMED, BookingState.CANCELLED, BookingState.EXPIRED}),
    BookingState.CONFIRMED: frozenset({BookingState.ACTIVE, BookingState.CANCELLED, BookingState.EXPIRED}),
    # Back to confirmed: the lease came to nothing, the slot stays the person's to try again on.
    BookingState.ACTIVE: frozenset({BookingState.COMPLETED, BookingState.CONFIRMED, BookingState.CANCELLED}),
    BookingState.COMPLETED: frozenset(),
    BookingState.CANCELLED: frozenset(),
    BookingState.EXPIRED: frozenset(),
}

LIVE_STATES = frozenset(state for state, moves in MOVES.items() if moves)
"""In these a booking holds capacity."""


@dataclass(frozen=True)
class Booking:
    """A person's slot. Each move returns a new one, or raises ``IllegalMove``."""

    id: str
    person_id: str
    pool_id: str
    model: str
    count: int
    span: TimeSpan
    state: BookingState
    hold_id: str
    rate_microcredits_per_hour: int
    amount_microcredits: int
    notebook_path: str | None
    created_at: datetime
    changed_at: datetime
    series_id: str | None = None

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_STATES

    def activate(self, at: datetime) -> Booking:
        """A lease begins to use it: only within its time."""
        if at not in self.span:
            raise IllegalMove(
                f"Booking {self.id} can be used from {iso(self.span.start_at)} until {iso(self.span.end_at)}, "
                f"and it is {iso(at)}.",
                booking_id=self.id,
                state=self.state.value,
                starts_at=iso(self.span.start_at),
                ends_at=iso(self.span.end_at),
            )
        return self._move(BookingState.ACTIVE, at)

    def deactivate(self, at: datetime) -> Booking:
        """The lease that was to use it came to nothing."""
        if self.state is not BookingState.ACTIVE:
            raise self._illegal("given back by a lease")
        return self._move(BookingState.CONFIRMED, at)

    def complete(self, at: datetime) -> Booking:
        return self._move(BookingState.COMPLETED, at)

    def cancel(self, at: datetime) -> Booking:
        return self._move(BookingState.CANCELLED, at)

    def expire(self, at: datetime) -> Booking:
        """Nobody came: only once it could have been used."""
        if at < self.span.start_at:
            raise IllegalMove(
                f"Booking {self.id} begins at {iso(self.span.start_at)} and can't expire before.",
                booking_id=self.id,
                state=self.state.value,
            )
        return self._move(BookingState.EXPIRED, at)

    def resized(self, end_at: datetime) -> Booking:
        """The same booking until ``end_at``, at the price per hour that was agreed."""
        if not self.is_live:
            raise self._illegal("resized")
        span = TimeSpan(self.span.start_at, end_at)
        amount = rated(self.rate_microcredits_per_hour, span.duration, self.count)
        return replace(self, span=span, amount_microcredits=amount)

    def has_begun(self, now: datetime) -> bool:
        """Whether its time runs, or a lease uses it."""
        return self.state is BookingState.ACTIVE or self.span.start_at <= now

    def moved(self, span: TimeSpan, count: int, now: datetime) -> Booking:
        """The same booking at another time, of another length or of more devices, at the price that was agreed.

        Once it has begun, what was held before can't be undone: only its end moves.
        """
        if not self.is_live or now >= self.span.end_at:
            raise IllegalMove(f"Booking {self.id} is over.", booking_id=self.id, state=self.state.value)
        for field, changes in (("starts_at", span.start_at != self.span.start_at), ("count", count != self.count)):
            if changes and self.has_begun(now):
                raise IllegalMove(
                    f"Booking {self.id} has begun: only its length can change.",
                    booking_id=self.id,
                    state=self.state.value,
                    field=field,
                )
        if span.end_at <= now:
            raise Invalid(f"A booking ends after now, {iso(now)}.", field="duration_seconds")
        amount = rated(self.rate_microcredits_per_hour, span.duration, count)
        return replace(self, span=span, count=count, amount_microcredits=amount)

    def held_cost(self, now: datetime, kept_from: datetime | None = None) -> int:
        """The price of the time from its start until ``now``, never beyond its end: 0 before it starts.

        With ``kept_from`` from that moment on, for a place that gave the devices only then.
        """
        held = min(now, self.span.end_at) - max(self.span.start_at, kept_from or self.span.start_at)
        return rated(self.rate_microcredits_per_hour, max(held, timedelta(0)), self.count)

    def missed_at(self, grace: timedelta, kept_from: datetime | None = None) -> datetime:
        """When nobody is expected any more: after a lease that came to nothing, the grace begins anew."""
        since = max(self.span.start_at, self.changed_at, kept_from or self.span.start_at)
        return min(since + grace, self.span.end_at)

    def rest(self, now: datetime) -> TimeSpan | None:
        """The part of its time that lies ahead."""
        if now >= self.span.end_at:
            return None
        return TimeSpan(max(now, self.span.start_at), self.span.end_at)

    def _move(self, state: BookingState, at: datetime) -> Booking:
        if state not in MOVES[self.state]:
            raise self._illegal(state.value)
        return replace(self, state=state, changed_at=at)

    def _illegal(self, wanted: str) -> IllegalMove:
        return IllegalMove(
            f"Booking {self.id} is {self.state.value} and can't be {wanted} any more."
            if not self.is_live
            else f"Booking {self.id} is {self.state.value} and can't become {wanted}.",
            booking_id=self.id,
            state=self.state.value,
        )


@dataclass(frozen=True)
class BookingLimits:
    """What the administrator lets a person ask for."""

    min_duration: timedelta = timedelta(minutes=1)
    max_duration: timedelta = timedelta(hours=24)
    max_ahead: timedelta = timedelta(days=60)
    max_count: int = 8

    def check_count(self, count: int) -> None:
        if count < 1:
            raise Invalid(f"A booking holds at least 1 device, not {count}.", field="count", minimum=1)
        if count > self.max_count:
            raise Invalid(
                f"A booking holds at most {self.max_count} devices, not {count}.", field="count", maximum=self.max_count
            )

    def check_duration(self, duration: timedelta) -> None:
        if duration <= timedelta(0):
            raise Invalid("A booking ends after it starts.", field="duration_seconds")
        if duration < self.min_duration:
            raise Invalid(
                f"A booking lasts at least {in_words(self.min_duration)}, not {in_words(duration)}.",
                field="duration_seconds",
                minimum_seconds=self.min_duration.total_seconds(),
            )
        if duration > self.max_duration:
            raise Invalid(
                f"A booking lasts at most {in_words(self.max_duration)}, not {in_words(duration)}.",
                field="duration_seconds",
                maximum_seconds=self.max_duration.total_seconds(),
            )

    def check_start(self, start_at: datetime, now: datetime) -> None:
        if start_at < now:
            raise Invalid(
                f"A booking can't start in the past: {iso(start_at)} is before now, {iso(now)}.",
                field="starts_at",
                now=iso(now),
            )
        if start_at > now + self.max_ahead:
            raise Invalid(
                f"A booking starts at most {in_words(self.max_ahead)} ahead, by {iso(now + self.max_ahead)}.",
                field="starts_at",
                latest_at=iso(now + self.max_ahead),
            )


@dataclass(frozen=True)
class Alternative:
    """Another model that could be had."""

    pool: Pool
    amount_microcredits: int
    span: TimeSpan


@dataclass(frozen=True)
class QuotedOccurrence:
    """One time of a series; ``note`` says what the change of the clocks did to it."""

    span: TimeSpan
    amount_microcredits: int
    available: bool
    note: str | None


@dataclass(frozen=True)
class Quote:
    """What it would cost, whether it is free, and what else there is if not. A quote holds nothing."""

    pool: Pool
    count: int
    span: TimeSpan
    rate_microcredits_per_hour: int
    amount_microcredits: int
    available: bool
    earliest: tuple[TimeSpan, ...]
    alternatives: tuple[Alternative, ...]
    change_microcredits: int | None = None
    """By how much the hold of the booking that is moved would grow."""
    occurrences: tuple[QuotedOccurrence, ...] | None = None
    """Those of a series."""


def in_words(duration: timedelta) -> str:
    """Write a duration the way it is typed: ``1h30m``."""
    seconds = int(duration.total_seconds())
    if seconds < 0:
        return "-" + in_words(-duration)
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def iso(moment: datetime) -> str:
    """As JSON writes it: RFC 3339 in UTC with Z."""
    return moment.isoformat().replace("+00:00", "Z")
