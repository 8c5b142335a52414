"""Moving a booking: all of it or nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.bookings import moving, service
from computehub_ext.bookings.model import Booking, iso
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Conflict, IllegalMove, InsufficientCredits, Invalid, SlotTaken
from computehub_ext.pools.store import pools
from tests.support.hub import LIMITS, Hub, open_hub


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Any:
    hub = open_hub(database, clock)
    yield hub
    hub.check()


def move(hub: Hub, booking: Booking, key: str = "move", verb: Any = moving.move, **to: Any) -> Any:
    def work(unit: Any, calendar: Any, *, now: datetime) -> Any:
        found = service.find(unit, booking.id)
        wish = {"start_at": None, "duration": None, "count": None, **to}
        changed = moving.moved(found, now=now, limits=LIMITS, **wish)
        named = {"booking": found, "changed": changed, "now": now, "limits": LIMITS}
        return verb(unit, calendar, **named, **({"key": key} if verb is moving.move else {}))

    return hub.do(work)


def at(hub: Hub, hour: float) -> datetime:
    return hub.start + timedelta(hours=hour)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


def test_it_may_overlap_its_own_old_time(hub: Hub) -> None:
    booking = hub.book("V100", 1, 3)
    moved = move(hub, booking, start_at=at(hub, 2))
    assert (moved.span, moved.id, moved.amount_microcredits) == (hub.span(2, 4), booking.id, 5_000_000)
    assert (hub.free("V100", 1, 2), hub.free("V100", 2, 4)) == (1, 0)
    assert hub.money() == (10, 5)


def test_a_longer_one_holds_more_and_a_shorter_one_less(hub: Hub) -> None:
    booking = hub.book("T4", 1, 3)
    assert move(hub, booking, "a", start_at=at(hub, 5), duration=hours(4)).amount_microcredits == 4_000_000
    assert hub.money() == (10, 6)
    assert move(hub, booking, "b", duration=hours(1), count=2).amount_microcredits == 2_000_000
    assert hub.money() == (10, 8)
    assert hub.free("T4", 5, 6) == 0


def test_others_in_the_way_leave_it_as_it_was(hub: Hub) -> None:
    hub.book("V100", 4, 5)
    booking = hub.book("V100", 1, 2)
    with pytest.raises(SlotTaken) as refused:
        move(hub, booking, start_at=at(hub, 3), duration=hours(2))
    # Its own slot counts as free for what is offered instead, but begins before what was asked for.
    assert refused.value.details["earliest"][0]["starts_at"] == iso(at(hub, 5))
    assert hub.database.read(lambda unit: service.find(unit, booking.id)) == booking
    assert (hub.free("V100", 1, 2), hub.free("V100", 3, 4)) == (0, 1)
    assert hub.money() == (10, 5)


def test_too_dear_leaves_it_as_it_was(hub: Hub) -> None:
    booking = hub.book("V100", 1, 2)
    with pytest.raises(InsufficientCredits):
        move(hub, booking, start_at=at(hub, 5), duration=hours(5))
    assert (hub.free("V100", 1, 2), hub.free("V100", 5, 10)) == (0, 1)
    assert hub.money() == (10, 7.5)


def test_moved_to_where_it_is_nothing_happens(hub: Hub) -> None:
    booking = hub.book("T4", 1, 2)
    assert move(hub, booking, start_at=booking.span.start_at, duration=hours(1), count=1) == booking


def test_onto_its_double_is_a_slip(hub: Hub) -> None:
    hub.book("T4", 1, 2, notebook_path="a.ipynb")
    other = hub.book("T4", 3, 4, notebook_path="a.ipynb")
    with pytest.raises(Conflict):
        move(hub, other, start_at=at(hub, 1))
    assert hub.free("T4", 3, 4) == 1


class TestOnceItHasBegun:
    @pytest.mark.parametrize("in_use", [False, True])
    def test_only_its_length_changes(self, hub: Hub, in_use: bool) -> None:
        booking = hub.book("T4", 0, 2)
        if in_use:
            hub.activate(booking)
        hub.clock.advance(minutes=30)
        assert move(hub, booking, "longer", duration=hours(3)).span == hub.span(0, 3)
        assert move(hub, booking, "shorter", duration=hours(1)).span == hub.span(0, 1)
        for to, field in (({"start_at": at(hub, 1)}, "starts_at"), ({"count": 2}, "count")):
            with pytest.raises(IllegalMove) as refused:
                move(hub, booking, "other", **to)
            assert refused.value.details["field"] == field
        with pytest.raises(Invalid) as too_short:
            move(hub, booking, "over", duration=timedelta(minutes=20))
        assert too_short.value.details["field"] == "duration_seconds"

    def test_and_when_it_is_over_nothing(self, hub: Hub) -> None:
        booking = hub.book("T4", 0, 1)
        cancelled = hub.book("T4", 3, 4)
        hub.cancel(cancelled)
        for over in (booking, cancelled):
            hub.clock.advance(hours=2)
            with pytest.raises(IllegalMove):
                move(hub, over, duration=hours(3))


@pytest.mark.parametrize(
    ("to", "field"),
    [
        ({"start_at": timedelta(hours=-1)}, "starts_at"),
        ({"start_at": timedelta(days=61)}, "starts_at"),
        ({"duration": timedelta(minutes=1)}, "duration_seconds"),
        ({"duration": timedelta(0)}, "duration_seconds"),
        ({"duration": timedelta(hours=25)}, "duration_seconds"),
        ({"count": 9}, "count"),
    ],
)
def test_nonsense_is_named(hub: Hub, to: dict[str, Any], field: str) -> None:
    booking = hub.book("T4", 1, 2)
    if "start_at" in to:
        to = {"start_at": hub.start + to["start_at"]}
    with pytest.raises(Invalid) as refused:
        move(hub, booking, **to)
    assert refused.value.details["field"] == field


def test_more_than_the_pool_has_is_taken(hub: Hub) -> None:
    booking = hub.book("T4", 1, 2)
    with pytest.raises(SlotTaken):
        move(hub, booking, count=3)


class TestQuote:
    def test_its_own_slot_counts_as_free(self, hub: Hub) -> None:
        booking = hub.book("V100", 1, 3)
        quote = move(hub, booking, verb=moving.quote_move, start_at=at(hub, 2))
        assert (quote.available, quote.change_microcredits, quote.amount_microcredits) == (True, 0, 5_000_000)
        assert hub.free("V100", 1, 3) == 0, "nothing is changed"

    def test_says_what_changes_at_the_price_that_was_agreed(self, hub: Hub, database: Database) -> None:
        booking = hub.book("T4", 1, 3)
        database.write(
            lambda unit: unit.connection.execute(pools.update().values(rate_microcredits_per_hour=7_000_000))
        )
        quote = move(hub, booking, verb=moving.quote_move, duration=hours(3))
        assert (quote.rate_microcredits_per_hour, quote.change_microcredits) == (1_000_000, 1_000_000)

    def test_what_is_taken_comes_with_the_next_free_slot(self, hub: Hub) -> None:
        hub.book("V100", 4, 5)
        booking = hub.book("V100", 1, 2)
        quote = move(hub, booking, verb=moving.quote_move, start_at=at(hub, 4))
        assert (quote.available, quote.earliest[0]) == (False, hub.span(5, 6))
