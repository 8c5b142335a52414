"""Berths: places asked for ahead of a booking where others queue too, and when to ask, keep and give back. Pure.

A berth becomes a placement of the same id when a lease of its booking starts on it. Its row is written before the place
is asked, so that whatever runs under its id has an owner or is seen to have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.core.settings import Settings

KEPT_LONGER = timedelta(minutes=1)
"""A place gives up by itself only after the calendar has: what ends at the very moment was not there for who comes."""
PAUSE = timedelta(seconds=15)
PAUSE_MAX = timedelta(minutes=5)
"""Between two tries where the place refused one or took one away: doubled each time, up to this."""


class BerthState(StrEnum):
    ASKED = "asked"
    TAKEN = "taken"
    """It is the placement of its id now."""
    GIVEN_BACK = "given_back"
    """Its booking no longer needs it."""
    LOST = "lost"
    """The place refused it, or took it away."""


@dataclass(frozen=True)
class Berth:
    """A place for a booking.

    ``kept_until`` is when the place gives it up by itself, ``ends_at`` until when a kernel could run in it at least,
    ``ready_at`` since when it was seen to be there.
    """

    id: str
    booking_id: str
    backend: str
    state: BerthState
    model: str
    count: int
    username: str
    created_at: datetime
    kept_until: datetime
    ends_at: datetime
    ready_at: datetime | None = None
    ended_at: datetime | None = None
    message: str | None = None

    def serves(self, booking: Booking) -> bool:
        same = (self.model, self.count) == (booking.model, booking.count)
        return same and booking.span.end_at <= self.ends_at


@dataclass(frozen=True)
class Losses:
    """How often a booking's berth was lost, and when the last time."""

    count: int
    last_at: datetime

    def over_at(self) -> datetime:
        return self.last_at + min(PAUSE_MAX, PAUSE * 2 ** min(self.count - 1, 10))


@dataclass(frozen=True)
class Plan:
    """What to do now. Giving back comes first: what is given back may be what another one waits for."""

    give_back: tuple[Berth, ...] = ()
    ask: tuple[Booking, ...] = ()
    keep: tuple[tuple[Berth, datetime], ...] = ()
    """Those whose ``kept_until`` has to move, and to when."""

    def __bool__(self) -> bool:
        return bool(self.give_back or self.ask or self.keep)


def plan(
    bookings: Sequence[Booking],
    berths: Sequence[Berth],
    losses: Mapping[str, Losses],
    *,
    leads: Mapping[str, timedelta],
    settings: Settings,
    now: datetime,
) -> Plan:
    """Decide.

    Parameters
    ----------
    bookings:
        The live ones whose time begins soon or has begun.
    berths:
        Those that are asked for.
    losses:
        Of these bookings, by their id.
    leads:
        How long before a booking to ask, by pool; pools whose places need no asking are left out.
    """
    wanted = {booking.id: booking for booking in bookings if _wants(booking, leads, settings, now)}
    standing: dict[str, Berth] = {}
    give_back = []
    for berth in sorted(berths, key=lambda each: (each.created_at, each.id)):
        booking = wanted.get(berth.booking_id)
        if booking is None or not berth.serves(booking) or booking.id in standing:
            give_back.append(berth)
        else:
            standing[booking.id] = berth
    ask = [
        booking
        for booking in wanted.values()
        # An active one has its kernel, or starts it this moment.
        if booking.state is BookingState.CONFIRMED and booking.id not in standing
        if booking.id not in losses or now >= losses[booking.id].over_at()
    ]
    keep = []
    for booking_id, berth in standing.items():
        until = keep_until(wanted[booking_id], berth.ready_at, settings, now)
        # While it is not there the moment goes on with the clock: each move is written down, so it moves seldom.
        slack = timedelta(0) if berth.ready_at else settings.no_show_grace / 4
        if until < berth.kept_until or until - berth.kept_until > slack:
            keep.append((berth, until))
    return Plan(tuple(give_back), tuple(ask), tuple(keep))


def keep_until(booking: Booking, ready_at: datetime | None, settings: Settings, now: datetime) -> datetime:
    """Until when to keep the place: as long as somebody may come for it, and nobody can before it is there."""
    return booking.missed_at(settings.no_show_grace, ready_at or now) + KEPT_LONGER


def kept_from(booking: Booking, berth: Berth | None) -> datetime | None:
    """Since when a GPU has been kept for a booking; None while there is none."""
    if berth is None or berth.ready_at is None:
        return None
    return max(berth.ready_at, booking.span.start_at)


def _wants(booking: Booking, leads: Mapping[str, timedelta], settings: Settings, now: datetime) -> bool:
    lead = leads.get(booking.pool_id)
    if lead is None or booking.state not in (BookingState.CONFIRMED, BookingState.ACTIVE):
        return False
    # So close to the end no lease starts on it.
    return booking.span.start_at - lead <= now < booking.span.end_at - settings.closing_reserve
