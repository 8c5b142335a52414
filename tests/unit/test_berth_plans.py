"""When a booking's place is asked for, kept and given back: the pure decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.core.settings import Settings
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.leases.berths import KEPT_LONGER, PAUSE_MAX, Berth, BerthState, Losses, Plan, plan

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
LEADS = {"pool": timedelta(minutes=10)}
RULES = Settings()
HOUR = timedelta(hours=1)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def booking(start: float = 0, length: float = 60, booking_id: str = "b1", **changes: Any) -> Booking:
    """A confirmed one, ``start`` minutes after noon."""
    made = Booking(
        id=booking_id,
        person_id="ada",
        pool_id="pool",
        model="T4",
        count=1,
        span=TimeSpan.starting(NOON + minutes(start), minutes(length)),
        state=BookingState.CONFIRMED,
        hold_id="h",
        rate_microcredits_per_hour=1,
        amount_microcredits=1,
        notebook_path=None,
        created_at=NOON - timedelta(days=1),
        changed_at=NOON - timedelta(days=1),
    )
    return replace(made, **changes)


def berth(of: Booking, berth_id: str = "pl1", **changes: Any) -> Berth:
    made = Berth(
        id=berth_id,
        booking_id=of.id,
        backend="cluster",
        state=BerthState.ASKED,
        model=of.model,
        count=of.count,
        username="ada",
        created_at=of.span.start_at - minutes(10),
        kept_until=of.span.start_at + RULES.no_show_grace + KEPT_LONGER,
        ends_at=of.span.end_at,
    )
    return replace(made, **changes)


def at(number: float, bookings: list[Booking], berths: list[Berth] | None = None, **losses: Losses) -> Plan:
    return plan(bookings, berths or [], losses, leads=LEADS, settings=RULES, now=NOON + minutes(number))


@pytest.mark.parametrize(
    ("number", "asks"),
    [(-10.1, False), (-10, True), (-1, True), (0, True), (30, True), (58.9, True), (59, False), (60, False)],
)
def test_it_is_asked_for_from_the_lead_on_until_nobody_could_start(number: float, asks: bool) -> None:
    one = booking()
    assert at(number, [one]).ask == ((one,) if asks else ())


@pytest.mark.parametrize("state", [state for state in BookingState if state is not BookingState.CONFIRMED])
def test_only_a_booking_that_somebody_may_still_come_to_is_asked_for(state: BookingState) -> None:
    assert not at(0, [booking(state=state)])


def test_places_that_need_no_asking_are_left_alone() -> None:
    assert not at(0, [booking(pool_id="here")])


def test_what_is_asked_for_is_not_asked_for_twice() -> None:
    one, other = booking(), booking(booking_id="b2")
    assert at(0, [one, other], [berth(one)]).ask == (other,)
    late = berth(one, "pl2", created_at=NOON)
    assert at(0, [one], [late, berth(one)]).give_back == (late,)


@pytest.mark.parametrize(
    "changed",
    [
        booking(state=BookingState.CANCELLED),
        booking(state=BookingState.EXPIRED),
        booking(start=30),
        booking(count=2),
        booking(length=61),
        booking(model="A100"),
        None,
    ],
)
def test_what_does_not_fit_the_booking_any_more_is_given_back(changed: Booking | None) -> None:
    kept = berth(booking())
    assert at(-5, [changed] if changed else [], [kept]).give_back == (kept,)


@pytest.mark.parametrize("same", [booking(length=30), booking(start=5, length=50), booking(state=BookingState.ACTIVE)])
def test_what_still_fits_is_kept(same: Booking) -> None:
    assert at(2, [same], [berth(booking())]).give_back == ()
    assert at(2, [same], [berth(booking())]).ask == ()


def test_it_is_kept_for_as_long_as_somebody_may_come() -> None:
    one = booking()
    assert at(-5, [one], [berth(one)]).keep == ()
    late = berth(one)  # nobody can be late for what is not there
    assert at(20, [one], [late]).keep == ((late, NOON + minutes(36)),)
    there = berth(one, ready_at=NOON + minutes(20), kept_until=NOON + minutes(36))
    assert at(30, [one], [there]).keep == ()
    assert at(30, [booking(length=20)], [there]).keep == ()
    moved = booking(start=3, length=50)
    assert at(2, [moved], [berth(one, ready_at=NOON)]).keep == ((berth(one, ready_at=NOON), NOON + minutes(19)),)
    again = booking(changed_at=NOON + minutes(12))  # a start came to nothing: the time to come begins anew
    assert at(13, [again], [berth(one, ready_at=NOON)]).keep == ((berth(one, ready_at=NOON), NOON + minutes(28)),)


@pytest.mark.parametrize(("count", "pause"), [(1, 15), (2, 30), (3, 60), (5, 240), (6, 300), (4000, 300)])
def test_after_a_loss_the_next_try_waits_twice_as_long(count: int, pause: float) -> None:
    one, lost = booking(), Losses(count, NOON)
    assert at((pause - 1) / 60, [one], b1=lost).ask == ()
    assert at(pause / 60, [one], b1=lost).ask == (one,)


@given(
    starts=st.lists(st.tuples(st.integers(-30, 120), st.integers(2, 90), st.sampled_from(BookingState)), max_size=6),
    number=st.integers(-60, 150),
    has=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=8),
    losses=st.dictionaries(st.integers(0, 5), st.tuples(st.integers(1, 30), st.integers(-60, 0)), max_size=4),
)
def test_carried_out_a_plan_leaves_nothing_to_do(
    starts: list[tuple[int, int, BookingState]],
    number: int,
    has: list[tuple[int, bool]],
    losses: dict[int, tuple[int, int]],
) -> None:
    now = NOON + minutes(number)
    bookings = [booking(start, length, f"b{place}", state=state) for place, (start, length, state) in enumerate(starts)]
    known = [*bookings, *(booking(booking_id=f"b{place}") for place in range(len(bookings), 8))]
    berths = [
        berth(known[place], f"pl{name}", ready_at=known[place].span.start_at if ready else None)
        for name, (place, ready) in enumerate(has)
    ]
    lost = {f"b{place}": Losses(count, now + minutes(ago)) for place, (count, ago) in losses.items()}
    made = plan(bookings, berths, lost, leads=LEADS, settings=RULES, now=now)
    given = {each.id for each in made.give_back}
    moved = {each.id: until for each, until in made.keep}
    left = [replace(each, kept_until=moved.get(each.id, each.kept_until)) for each in berths if each.id not in given]
    left += [
        berth(each, f"new-{each.id}", kept_until=each.missed_at(RULES.no_show_grace, now) + KEPT_LONGER)
        for each in made.ask
    ]
    assert not plan(bookings, left, lost, leads=LEADS, settings=RULES, now=now)
    # At most one for each booking, none for what is over, and none of a place that comes by itself.
    assert len({each.booking_id for each in left}) == len(left)
    owners = {each.id: each for each in bookings}
    for each in left:
        assert owners[each.booking_id].is_live
        assert now < owners[each.booking_id].span.end_at
        assert owners[each.booking_id].span.start_at - LEADS["pool"] <= now
    waits = {each.id for each in bookings if each.id in lost and now < lost[each.id].last_at + PAUSE_MAX}
    for each in bookings:
        begins = each.span.start_at - LEADS["pool"] <= now < each.span.end_at - RULES.closing_reserve
        if each.state is BookingState.CONFIRMED and begins and each.id not in waits:
            assert each.id in {found.booking_id for found in left}
