"""Bookings through the service: what is taken, what it costs, what is refused and what is offered instead.

``hub`` is two T4, one V100 and one person, Ada, with 10 credits; it is Monday 09:00 UTC. Hours are counted from now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from computehub_ext.bookings import service
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import MOVES, Booking, BookingState, in_words
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import (
    Conflict,
    IdempotencyMismatch,
    IllegalMove,
    InsufficientCredits,
    Invalid,
    NotFound,
    SlotTaken,
)
from computehub_ext.core.settings import Settings
from computehub_ext.ledger import service as ledger
from computehub_ext.pools import service as pools
from tests.support.hub import CREDIT, LIMITS, Hub, open_hub, spec


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Hub]:
    hub = open_hub(database, clock)
    yield hub
    hub.check()


# -- money and time ----------------------------------------------------------------------------------------------------


def test_a_day_of_bookings(hub: Hub):
    """What happens, and Ada's credits after it: posted, available."""
    assert hub.money() == (10, 10)

    booking = hub.book("T4", 1, 3, count=2)
    assert (booking.state, booking.amount_microcredits, booking.count) == (BookingState.CONFIRMED, 4 * CREDIT, 2)
    assert hub.money() == (10, 6)
    assert hub.free("T4", 1, 3) == 0

    assert hub.cancel(booking).state is BookingState.CANCELLED  # before its start
    assert hub.money() == (10, 10)
    assert hub.free("T4", 1, 3) == 2

    later = hub.book("T4", 1, 3)
    hub.clock.advance(hours=1.5)
    assert hub.cancel(later).state is BookingState.CANCELLED  # half an hour after it
    assert hub.money() == (9.5, 9.5)
    assert hub.free("T4", 1.5, 3) == 2

    used = hub.book("T4", 1.5, 3.5)
    hub.activate(used)
    assert hub.money() == (9.5, 7.5)
    hub.clock.advance(hours=1)
    hub.database.write(lambda unit: ledger.draw(
        unit, hold_id=used.hold_id, amount_microcredits=CREDIT, key="meter", memo="", now=hub.clock.now()
    ))  # fmt: skip
    assert hub.do(service.complete, booking_id=used.id).state is BookingState.COMPLETED
    assert hub.money() == (8.5, 8.5)
    assert hub.free("T4", 2.5, 3.5) == 2


def test_a_place_that_fails_costs_nothing(hub: Hub):
    booking = hub.book("T4", 0, 2)
    hub.activate(booking)
    hub.clock.advance(minutes=3)
    assert hub.do(service.withdraw, booking_id=booking.id).state is BookingState.CANCELLED
    assert hub.money() == (10, 10)
    assert hub.free("T4", 0.1, 2) == 2


def test_a_lease_that_came_to_nothing_leaves_the_slot_to_try_again(hub: Hub):
    booking = hub.book("T4", 0, 2)
    hub.activate(booking)
    hub.clock.advance(minutes=30)
    back = hub.database.write(lambda unit: service.deactivate(unit, booking_id=booking.id, now=hub.clock.now()))
    assert back.state is BookingState.CONFIRMED
    assert hub.money() == (10, 8)
    grace = timedelta(minutes=15)
    assert hub.do(service.expire_missed, grace=grace) == [], "the grace begins anew"
    hub.activate(booking)


def test_nobody_came(hub: Hub):
    missed, early, short = hub.book("T4", 1, 3), hub.book("V100", 2, 3), hub.book("T4", 1, 1.1)
    hub.clock.advance(hours=1)
    grace = timedelta(minutes=15)
    assert hub.do(service.expire_missed, grace=grace) == []
    hub.clock.advance(minutes=6)
    assert [b.id for b in hub.do(service.expire_missed, grace=grace)] == [short.id], "over before its grace"
    hub.clock.advance(minutes=9)
    [expired] = hub.do(service.expire_missed, grace=grace)
    assert (expired.id, expired.state) == (missed.id, BookingState.EXPIRED)
    assert hub.money() == (10 - 0.1 - 0.25, 10 - 0.1 - 0.25 - 2.5)
    assert hub.free("T4", 1.25, 3) == 2
    assert hub.database.read(lambda unit: service.find(unit, early.id)).state is BookingState.CONFIRMED


def test_extend_and_shorten(hub: Hub):
    booking = hub.book("T4", 0, 2)
    hub.activate(booking)
    assert hub.resize(booking, 4, "a").amount_microcredits == 4 * CREDIT
    assert hub.money() == (10, 6)
    assert hub.free("T4", 2, 4) == 1
    assert hub.resize(booking, 1, "b").span == hub.span(0, 1)
    assert hub.money() == (10, 9)
    assert hub.free("T4", 1, 4) == 2
    assert hub.resize(booking, 4, "a").span == hub.span(0, 1), "a repeated request changes nothing"
    with pytest.raises(IdempotencyMismatch):
        hub.resize(booking, 3, "a")
    assert hub.resize(booking, 1, "c").span == hub.span(0, 1)


def test_what_an_extension_meets(hub: Hub):
    booking = hub.book("V100", 0, 1)
    hub.activate(booking)
    next_one = hub.book("V100", 1.5, 2)
    with pytest.raises(SlotTaken) as refusal:
        hub.resize(booking, 2)
    assert refusal.value.details["free_until"] == "2026-03-02T10:30:00Z"
    assert hub.resize(booking, 1.5, "fits").span == hub.span(0, 1.5)
    with pytest.raises(SlotTaken, match="right after"):
        hub.resize(booking, 1.6, "taken")
    hub.cancel(next_one)
    with pytest.raises(InsufficientCredits):
        hub.resize(booking, 5, "dear")
    assert hub.free("V100", 1.5, 5) == 1, "what was taken for it is given back"
    with pytest.raises(Invalid) as too_long:
        hub.resize(booking, 25, "long")
    assert too_long.value.details["field"] == "duration_seconds"
    hub.clock.advance(hours=1)
    with pytest.raises(Invalid) as too_short:
        hub.resize(booking, 0.9, "past")
    assert too_short.value.details["field"] == "ends_at"
    hub.clock.advance(hours=1)
    with pytest.raises(IllegalMove):
        hub.resize(booking, 3, "over")


def test_a_rate_that_rises_is_not_what_was_agreed(hub: Hub):
    booking = hub.book("T4", 0, 2)
    dearer = [spec("T4", 2, 3 * CREDIT), spec("V100", 1, CREDIT)]
    hub.database.write(lambda unit: pools.sync_pools(unit, specs=dearer, now=hub.clock.now()))
    assert hub.resize(booking, 3).amount_microcredits == 3 * CREDIT
    assert hub.quote("T4", 0, 1).amount_microcredits == 3 * CREDIT


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"first": -0.01, "last": 1}, "starts_at"),
        ({"first": 0, "last": 0.05}, "duration_seconds"),
        ({"first": 0, "last": 24.01}, "duration_seconds"),
        ({"first": 24 * 60 + 0.1, "last": 24 * 60 + 1}, "starts_at"),
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": 3}, "count"),
        ({"count": 9}, "count"),
        ({"model": "T5"}, "model"),
        ({"model": None, "count": 3}, "count"),
        ({"max_rate_microcredits_per_hour": 999_999}, "max_rate_microcredits_per_hour"),
        ({"notebook_path": "a\0b"}, "notebook_path"),
        ({"notebook_path": "\ud800"}, "notebook_path"),
    ],
)
def test_nonsense_is_named(hub: Hub, wish: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        hub.book(**{"model": "T4", "first": 0, "last": 1, **wish})
    assert refusal.value.details["field"] == field
    assert hub.money() == (10, 10)
    assert hub.free("T4", 0, 1) == 2


@pytest.mark.parametrize("duration", [None, timedelta(0), timedelta(hours=-1)])
def test_no_time_at_all(hub: Hub, duration: timedelta | None) -> None:
    with pytest.raises(Invalid) as refusal:
        hub.book("T4", 0, 1, span=None, duration=duration)
    assert refusal.value.details["field"] == "duration_seconds"


def test_a_length_alone_starts_now(hub: Hub):
    hub.clock.advance(hours=1)
    assert hub.book("T4", 0, 1, span=None, duration=timedelta(hours=2)).span == hub.span(1, 3)


def test_too_dear_takes_nothing(hub: Hub):
    with pytest.raises(InsufficientCredits) as refusal:
        hub.book("V100", 0, 4.1)
    assert refusal.value.details == {"available_microcredits": 10_000_000, "needed_microcredits": 10_250_000}
    assert hub.free("V100", 0, 5) == 1


def test_own_bookings_may_overlap_but_not_be_the_same(hub: Hub):
    first = hub.book("T4", 0, 2, notebook_path="a.ipynb")
    with pytest.raises(Conflict) as refusal:
        hub.book("T4", 0, 2, notebook_path="a.ipynb")
    assert refusal.value.details == {"booking_id": first.id}
    hub.book("T4", 0, 2, notebook_path="b.ipynb")
    hub.cancel(first)
    hub.book("T4", 0, 2, notebook_path="a.ipynb")


def test_the_same_request_again_is_the_same_booking(hub: Hub):
    first = hub.book("T4", 0, 2, key="mine")
    hub.clock.advance(minutes=10)
    assert hub.book("T4", 0, 2, key="mine") == first, "though its start is past by now"
    assert hub.money() == (10, 8)
    for other in ({"count": 2}, {"model": "V100"}, {"last": 3}, {"notebook_path": "a"}):
        with pytest.raises(IdempotencyMismatch):
            hub.book(**{"model": "T4", "first": 0, "last": 2, "key": "mine", **other})
    bob = hub.person("bob")
    assert hub.book("T4", 1, 2, key="mine", person=bob).person_id == bob.id, "keys are each person's own"


def test_anothers_booking_looks_like_none(hub: Hub):
    booking, bob = hub.book("T4", 1, 2), hub.person("bob")
    with pytest.raises(NotFound):
        hub.do(service.cancel, booking_id=booking.id, person_id=bob.id)
    with pytest.raises(NotFound):
        hub.database.read(lambda unit: service.find(unit, booking.id, person_id=bob.id))
    with pytest.raises(NotFound):
        hub.do(service.cancel, booking_id="book_none", person_id=bob.id)


def test_cancel_twice_in_use_and_too_late(hub: Hub):
    booking = hub.book("T4", 1, 2)
    assert hub.cancel(hub.cancel(booking)).state is BookingState.CANCELLED
    assert hub.money() == (10, 10)
    used = hub.book("T4", 0, 1)
    hub.activate(used)
    with pytest.raises(IllegalMove, match="end its lease"):
        hub.cancel(used)
    late = hub.book("T4", 0, 0.5)
    hub.clock.advance(hours=0.5)
    with pytest.raises(IllegalMove, match="is over"):
        hub.cancel(late)
    hub.do(service.complete, booking_id=used.id)
    with pytest.raises(IllegalMove):
        hub.cancel(used)
    with pytest.raises(IllegalMove):
        hub.do(service.complete, booking_id=used.id)


# -- what else there is ------------------------------------------------------------------------------------------------


def test_a_taken_slot_names_the_next_ones_and_other_models(hub: Hub):
    hub.book("V100", 0, 1)
    hub.clock.advance(seconds=20)
    hub.book("V100", 2, 2.1)
    with pytest.raises(SlotTaken) as refusal:
        hub.book("V100", 0.5, 1.5)
    details = refusal.value.details
    assert (details["model"], details["amount_microcredits"]) == ("V100", 2_500_000)
    assert [slot["starts_at"] for slot in details["earliest"]] == [
        "2026-03-02T10:00:00Z",
        "2026-03-02T11:06:00Z",
        "2026-03-02T12:06:00Z",
    ]
    [other] = details["alternatives"]
    assert (other["model"], other["starts_at"], other["amount_microcredits"]) == (
        "T4",
        "2026-03-02T09:30:00Z",
        1_000_000,
    )


def test_suggestions_are_whole_minutes_where_they_fit(hub: Hub):
    hub.book("V100", 0, 1 + 1 / 7200)
    assert hub.quote("V100", 0, 0.5).earliest[0].start_at == hub.start + timedelta(hours=1, minutes=1)
    hub.book("V100", 1 + 1 / 7200 + 0.5, 2)
    assert hub.quote("V100", 0, 0.5).earliest[0].start_at == hub.start + timedelta(hours=1, seconds=0.5)


def test_alternatives_keep_to_the_price_and_to_what_is_free_first(hub: Hub):
    specs = [
        spec("T4", 2, CREDIT),
        spec("V100", 1, 5 * CREDIT // 2),
        spec("A100", 1, 4 * CREDIT),
        spec("L4", 1, 3 * CREDIT),
    ]
    hub.database.write(lambda unit: pools.sync_pools(unit, specs=specs, now=hub.clock.now()))
    hub.database.read(lambda unit: service.load_calendar(unit, hub.calendar, now=hub.clock.now()))
    hub.book("V100", 0, 1)
    hub.book("L4", 0, 0.5)
    assert [other.pool.model for other in hub.quote("V100", 0, 1).alternatives] == ["T4", "A100", "L4"]
    cheap = hub.quote("V100", 0, 1, max_rate_microcredits_per_hour=3 * CREDIT)
    assert [other.pool.model for other in cheap.alternatives] == ["T4", "L4"]
    assert [
        other.pool.model for other in hub.quote("V100", 0, 1, max_rate_microcredits_per_hour=3 * CREDIT).alternatives
    ]
    assert hub.quote("T4", 0, 1, count=2).available
    hub.book("T4", 0, 1, count=2)
    assert hub.quote("T4", 0, 1, count=2).alternatives == (), "no other pool has two"


def test_no_model_named_takes_the_cheapest_that_is_free(hub: Hub):
    assert hub.book(None, 0, 1, count=2, notebook_path="a").model == "T4"
    quote = hub.quote(None, 0, 1)
    assert (quote.pool.model, quote.available, quote.earliest) == ("V100", True, ())
    with pytest.raises(Conflict, match="2 × T4 at that time"):
        hub.book(None, 0, 1, notebook_path="a")
    assert hub.book(None, 0, 1).model == "V100"
    with pytest.raises(SlotTaken, match="No GPU is free") as refusal:
        hub.book(None, 0, 1, notebook_path="b")
    assert refusal.value.details["model"] == "T4"
    assert refusal.value.details["earliest"][0]["starts_at"] == "2026-03-02T10:00:00Z"


def test_two_pools_of_a_model_serve_it_together(hub: Hub):
    specs = [spec("T4", 1, CREDIT, "one"), spec("T4", 1, 2 * CREDIT, "two")]
    hub.database.write(lambda unit: pools.sync_pools(unit, specs=specs, now=hub.clock.now()))
    hub.database.read(lambda unit: service.load_calendar(unit, hub.calendar, now=hub.clock.now()))
    rates = [hub.book("T4", 0, 1, notebook_path=path).rate_microcredits_per_hour for path in ("a", "b")]
    assert rates == [CREDIT, 2 * CREDIT]
    with pytest.raises(SlotTaken):
        hub.book("T4", 0, 1, notebook_path="c")


def test_nothing_to_book(hub: Hub):
    hub.database.write(lambda unit: pools.sync_pools(unit, specs=[], now=hub.clock.now()))
    with pytest.raises(Invalid) as refusal:
        hub.quote(None, 0, 1)
    assert refusal.value.details["field"] == "model"


def test_free_now(hub: Hub):
    t4, v100 = hub.pool("T4"), hub.pool("V100")
    hub.book("V100", 0, 1)
    hub.book("T4", 0.1, 1)
    now = hub.clock.now()
    assert service.free_now(hub.calendar, t4, now=now) == (1, now), "six minutes are not called free"
    assert service.free_now(hub.calendar, v100, now=now) == (0, now + timedelta(hours=1))
    assert service.free_now(hub.calendar, replace(t4, id="pool_none"), now=now) == (0, None)


def test_availability(hub: Hub):
    hub.book("T4", 0.5, 1.5)
    slots = service.availability(hub.calendar, hub.pool("T4"), span=hub.span(0, 2.5), step=timedelta(hours=1))
    assert slots == [(hub.start, 1), (hub.start + timedelta(hours=1), 1), (hub.start + timedelta(hours=2), 2)]
    for step in (timedelta(0), timedelta(hours=-1), timedelta(seconds=1)):
        with pytest.raises(Invalid) as refusal:
            service.availability(hub.calendar, hub.pool("T4"), span=hub.span(0, 24 * 31), step=step)
        assert refusal.value.details["field"] == "step_seconds"
    least = timedelta(seconds=refusal.value.details["minimum"])
    service.availability(hub.calendar, hub.pool("T4"), span=hub.span(0, 24 * 31), step=least)


# -- lists and restarts ------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_go_on_where_they_stopped(hub: Hub):
    made = []
    for hour in range(5):
        made.append(hub.book("T4", hour + 5, hour + 6).id)
        hub.clock.advance(seconds=hour % 2)
    seen: list[str] = []
    before = None
    for _ in range(4):
        page = hub.database.read(partial(service.list_bookings, person_id=hub.ada.id, before=before, limit=2))
        seen += [booking.id for booking in page]
        before = (page[-1].created_at, page[-1].id) if page else before
    assert seen == made[::-1]


def test_covering(hub: Hub):
    hub.book("T4", 1, 2)
    long, short = hub.book("T4", 0, 3), hub.book("V100", 0, 1)
    now = hub.clock.now()
    found = hub.database.read(lambda unit: service.covering(unit, person_id=hub.ada.id, now=now))
    assert [booking.id for booking in found] == [long.id, short.id]


def test_a_restart_counts_only_what_lies_ahead(hub: Hub):
    hub.book("T4", 0, 2)
    hub.book("V100", 0, 0.5)
    hub.cancel(hub.book("T4", 1, 2))
    hub.clock.advance(hours=1)
    again = Calendar()
    hub.database.read(lambda unit: service.load_calendar(unit, again, now=hub.clock.now()))
    assert again.of(hub.pool("T4").id).levels() == [(hub.start + timedelta(hours=1), 1)]
    assert again.of(hub.pool("V100").id).levels() == []


def test_a_failure_after_the_booking_gives_the_slot_back(hub: Hub):
    def book_and_fail(unit: Any, calendar: Calendar, *, now: datetime) -> None:
        service.book(unit, calendar, person=hub.ada, model="V100", count=1, span=hub.span(0, 1), key="k",
                     notebook_path=None, now=now, limits=LIMITS)  # fmt: skip
        raise RuntimeError("the rest of the request went wrong")

    with pytest.raises(RuntimeError):
        hub.do(book_and_fail)
    assert hub.free("V100", 0, 1) == 1
    assert hub.money() == (10, 10)


def test_a_cancellation_that_fails_gives_nothing_back(hub: Hub):
    booking = hub.book("V100", 1, 2)

    def cancel_and_fail(unit: Any, calendar: Calendar, *, now: datetime) -> None:
        service.cancel(unit, calendar, booking_id=booking.id, person_id=hub.ada.id, now=now)
        assert calendar.of(booking.pool_id).free(booking.span) == 0, "nobody is promised it before the commit"
        raise RuntimeError("the rest of the request went wrong")

    with pytest.raises(RuntimeError):
        hub.do(cancel_and_fail)
    assert hub.free("V100", 1, 2) == 0


# -- the state machine -------------------------------------------------------------------------------------------------


def a_booking(hub: Hub, state: BookingState) -> Booking:
    return replace(hub.book("T4", 0, 1), state=state)


@pytest.mark.parametrize("state", BookingState)
@pytest.mark.parametrize(
    ("move", "target"),
    [("activate", BookingState.ACTIVE), ("complete", BookingState.COMPLETED), ("cancel", BookingState.CANCELLED),
     ("expire", BookingState.EXPIRED), ("deactivate", BookingState.CONFIRMED)],
)  # fmt: skip
def test_moves(hub: Hub, state: BookingState, move: str, target: BookingState) -> None:
    booking = a_booking(hub, state)
    allowed = target in MOVES[state]
    if target is BookingState.CONFIRMED:
        allowed = state is BookingState.ACTIVE
    at = hub.start + timedelta(minutes=10)
    if allowed:
        moved = getattr(booking, move)(at)
        assert (moved.state, moved.changed_at, booking.state) == (target, at, state)
    else:
        with pytest.raises(IllegalMove) as refusal:
            getattr(booking, move)(at)
        assert refusal.value.details["state"] == state.value


def test_moves_know_the_time(hub: Hub):
    booking = hub.book("T4", 1, 2)
    for hours in (0.99, 2):
        with pytest.raises(IllegalMove):
            booking.activate(hub.start + timedelta(hours=hours))
    with pytest.raises(IllegalMove):
        booking.expire(hub.start + timedelta(hours=0.99))
    with pytest.raises(IllegalMove):
        replace(booking, state=BookingState.CANCELLED).resized(booking.span.end_at)
    costs = [booking.held_cost(hub.start + timedelta(hours=hours)) / CREDIT for hours in (0, 1, 1.5, 2, 3)]
    assert costs == [0, 0, 0.5, 1, 1]


def test_limits_come_from_the_settings():
    settings = Settings(max_count=3)
    limits = service.limits_of(settings)
    assert (limits.max_count, limits.min_duration) == (3, settings.min_duration)
    for duration in (timedelta(0), timedelta(minutes=1), timedelta(days=2)):
        with pytest.raises(Invalid):
            limits.check_duration(duration)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0s"), (90, "1m30s"), (5400, "1h30m"), (90_000, "1d1h"), (-60, "-1m")]
)
def test_in_words(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


def test_a_refusal_is_a_sentence(hub: Hub):
    hub.book("V100", 0, 1)
    with pytest.raises(SlotTaken, match=r"^No V100 is free from 2026-03-02T09:00:00Z for 1h\.$"):
        hub.book("V100", 0, 1, notebook_path="other")
