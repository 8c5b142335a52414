"""What it would cost, whether it is free, and what else there is. Reads the books and the calendar, changes neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Alternative, BookingLimits, Quote, iso
from computehub_ext.core.credits import in_credits, rated
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Invalid, NoCapacity
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool

SUGGESTIONS_MAX = 3


def candidates(
    unit: Unit,
    *,
    model: str | None,
    count: int,
    max_rate_microcredits_per_hour: int | None,
    unwell: Mapping[str, str] | None = None,
) -> list[Pool]:
    """The pools that could serve a wish if they were free, cheapest first.

    Parameters
    ----------
    unwell:
        Places where nothing can be started now, and why.

    Raises
    ------
    Invalid
        Naming the field that rules them all out: ``model``, ``count`` or ``max_rate_microcredits_per_hour``.
    NoCapacity
        All that would do are unwell.
    """
    if count < 1:
        raise Invalid(f"A booking holds at least 1 device, not {count}.", field="count", minimum=1)
    found = pools.list_pools(unit) if model is None else pools.pools_of_model(unit, model)
    if not found:
        raise Invalid("There is no GPU to book: no pool is known at all.", field="model", known=[])
    large_enough = [pool for pool in found if pool.count >= count]
    if not large_enough:
        largest = max(found, key=lambda pool: pool.count)
        raise Invalid(
            f"{largest.name} has {largest.count} of {largest.model}: ask for at most {largest.count}, not {count}.",
            field="count",
            maximum=largest.count,
        )
    most = max_rate_microcredits_per_hour
    affordable = [pool for pool in large_enough if most is None or pool.rate_microcredits_per_hour <= most]
    if most is not None and not affordable:
        cheapest = large_enough[0]
        raise Invalid(
            f"The cheapest is {cheapest.model} at {in_credits(cheapest.rate_microcredits_per_hour)} credits an hour, "
            f"above your maximum of {in_credits(most)}.",
            field="max_rate_microcredits_per_hour",
            cheapest_microcredits_per_hour=cheapest.rate_microcredits_per_hour,
            model=cheapest.model,
        )
    well = [pool for pool in affordable if pool.backend not in (unwell or {})]
    if unwell and not well:
        pool = affordable[0]
        raise NoCapacity(f"{pool.name} can't start anything now. {unwell[pool.backend]}", place=pool.backend)
    return well


def quote(
    unit: Unit,
    calendar: Calendar,
    *,
    model: str | None,
    count: int,
    now: datetime,
    span: TimeSpan | None = None,
    duration: timedelta | None = None,
    max_rate_microcredits_per_hour: int | None = None,
    limits: BookingLimits | None = None,
    unwell: Mapping[str, str] | None = None,
) -> Quote:
    """Price a wish on the cheapest pool that is free for it.

    Where none is, the quote says when the model is free next and which other models could be had. It holds nothing.

    Parameters
    ----------
    model:
        None takes the cheapest model.
    span, duration:
        The time wanted; with a duration alone it starts now.
    max_rate_microcredits_per_hour:
        Dearer pools are not looked at, nor suggested.
    limits:
        Refuse what the administrator does not let anybody book.
    unwell:
        Places where nothing can be started now, and why; for a wish that is to start at once.
    """
    span = wanted_span(span, duration, now)
    limits_or_default = limits or BookingLimits()
    if limits is not None:
        limits.check_count(count)
        limits.check_duration(span.duration)
        limits.check_start(span.start_at, now)
    found = candidates(
        unit,
        model=model,
        count=count,
        max_rate_microcredits_per_hour=max_rate_microcredits_per_hour,
        unwell=unwell,
    )
    for pool in found:
        if calendar.of(pool.id).free(span) >= count:
            return _quote(pool, count, span, available=True)
    horizon = max(now + limits_or_default.max_ahead, span.start_at)
    soonest = _soonest(calendar, found, count=count, span=span, horizon=horizon)
    pool = soonest[0][1] if soonest else found[0]
    same_model = [place for place in found if place.model == pool.model]
    most = max_rate_microcredits_per_hour
    others = [
        place
        for place in pools.list_pools(unit)
        if place.model != pool.model
        and place.count >= count
        and (most is None or place.rate_microcredits_per_hour <= most)
    ]
    return _quote(
        pool,
        count,
        span,
        available=False,
        earliest=next_slots(calendar, same_model, count=count, span=span, horizon=horizon),
        alternatives=_alternatives(calendar, others, instead_of=pool, count=count, span=span, horizon=horizon),
    )


def wanted_span(span: TimeSpan | None, duration: timedelta | None, now: datetime) -> TimeSpan:
    """The time wanted, which starts now where only its length is given."""
    if span is not None:
        return span
    if duration is None or duration <= timedelta(0):
        raise Invalid("A GPU is held for a time above zero.", field="duration_seconds")
    return TimeSpan.starting(now, duration)


def choices_json(quote: Quote) -> dict[str, Any]:
    """The way on from a slot that is taken, for the details of an error."""
    return {
        "model": quote.pool.model,
        "count": quote.count,
        "rate_microcredits_per_hour": quote.rate_microcredits_per_hour,
        "amount_microcredits": quote.amount_microcredits,
        **times(quote.span),
        "earliest": [times(span) for span in quote.earliest],
        "alternatives": [
            {
                "model": other.pool.model,
                "pool_id": other.pool.id,
                "simulated": other.pool.simulated,
                "rate_microcredits_per_hour": other.pool.rate_microcredits_per_hour,
                "amount_microcredits": other.amount_microcredits,
                **times(other.span),
            }
            for other in quote.alternatives
        ],
    }


def _quote(
    pool: Pool,
    count: int,
    span: TimeSpan,
    *,
    available: bool,
    earliest: tuple[TimeSpan, ...] = (),
    alternatives: tuple[Alternative, ...] = (),
) -> Quote:
    rate = pool.rate_microcredits_per_hour
    amount = rated(rate, span.duration, count)
    return Quote(pool, count, span, rate, amount, available, earliest, alternatives)


def earliest_slot(
    calendar: Calendar, pool: Pool, *, count: int, duration: timedelta, not_before: datetime, not_after: datetime
) -> TimeSpan | None:
    """The first slot with room, moved to the next whole minute where there is room as well: people type it."""
    index = calendar.of(pool.id)
    exact = index.earliest(count, duration, not_before=not_before, not_after=not_after)
    if exact is None or exact.start_at == not_before:
        return exact
    past_the_minute = timedelta(seconds=exact.start_at.second, microseconds=exact.start_at.microsecond)
    if not past_the_minute:
        return exact
    whole = TimeSpan.starting(exact.start_at - past_the_minute + timedelta(minutes=1), duration)
    return whole if whole.start_at <= not_after and index.free(whole) >= count else exact


def _soonest(
    calendar: Calendar, found: Sequence[Pool], *, count: int, span: TimeSpan, horizon: datetime
) -> list[tuple[TimeSpan, Pool]]:
    """Each pool with its first slot, the soonest first; among equals the order given."""
    slots = [
        (slot, pool)
        for pool in found
        if (
            slot := earliest_slot(
                calendar, pool, count=count, duration=span.duration, not_before=span.start_at, not_after=horizon
            )
        )
    ]
    return sorted(slots, key=lambda each: each[0].start_at)


def next_slots(
    calendar: Calendar, found: Sequence[Pool], *, count: int, span: TimeSpan, horizon: datetime
) -> tuple[TimeSpan, ...]:
    """The next slots, each beginning after the one before has ended."""
    slots: list[TimeSpan] = []
    after = span
    for _ in range(SUGGESTIONS_MAX):
        soonest = _soonest(calendar, found, count=count, span=after, horizon=horizon)
        if not soonest:
            break
        slots.append(soonest[0][0])
        after = TimeSpan.starting(slots[-1].end_at, span.duration)
    return tuple(slots)


def _alternatives(
    calendar: Calendar, others: Sequence[Pool], *, instead_of: Pool, count: int, span: TimeSpan, horizon: datetime
) -> tuple[Alternative, ...]:
    """The next best: first what is free at the time wanted, then what is free soonest; nearest in price first."""
    wanted_rate = instead_of.rate_microcredits_per_hour
    by_nearness = sorted(others, key=lambda pool: abs(pool.rate_microcredits_per_hour - wanted_rate))
    best: dict[str, Alternative] = {}
    for slot, pool in _soonest(calendar, by_nearness, count=count, span=span, horizon=horizon):
        amount = rated(pool.rate_microcredits_per_hour, slot.duration, count)
        best.setdefault(pool.model, Alternative(pool, amount, slot))
    return tuple(best.values())[:SUGGESTIONS_MAX]


def times(span: TimeSpan) -> dict[str, str]:
    return {"starts_at": iso(span.start_at), "ends_at": iso(span.end_at)}
