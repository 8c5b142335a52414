"""The same time again and again: all of them or none."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.bookings import series
from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.bookings.series import Series, SeriesWish
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Conflict, InsufficientCredits, Invalid, NotFound, SlotTaken
from tests.support.hub import LIMITS, Hub, open_hub


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Any:
    hub = open_hub(database, clock)
    yield hub
    hub.check()


def wish(
    hub: Hub, model: str | None = "T4", count: int = 1, rrule: str = "FREQ=DAILY;COUNT=3", **more: Any
) -> SeriesWish:
    first = hub.start + timedelta(hours=more.pop("first", 1))
    return SeriesWish(model, count, first, timedelta(hours=more.pop("hours", 1)), rrule, "Europe/Berlin", **more)


def book(hub: Hub, wanted: SeriesWish | None = None, *, skip_taken: bool = False, path: str | None = None) -> Series:
    return hub.do(series.book_series, person=hub.ada, wish=wanted or wish(hub), notebook_path=path,
                  skip_taken=skip_taken, limits=LIMITS)  # fmt: skip


def found(hub: Hub, made: Series, person_id: str | None = None) -> Series:
    return hub.database.read(lambda unit: series.find_series(unit, made.id, person_id=person_id or hub.ada.id))


def starts(bookings: Any) -> list[float]:
    return [(b.span.start_at - bookings[0].span.start_at) / timedelta(days=1) for b in bookings]


def test_each_is_a_booking_of_its_own(hub: Hub) -> None:
    made = book(hub)
    assert starts(made.bookings) == [0, 1, 2]
    assert {b.series_id for b in made.bookings} == {made.id}
    assert {b.state for b in made.bookings} == {BookingState.CONFIRMED}
    assert hub.money() == (10, 7)
    assert found(hub, made) == made
    one: Booking = made.bookings[1]
    assert hub.cancel(one).state is BookingState.CANCELLED
    assert [b.state.value for b in found(hub, made).bookings] == ["confirmed", "cancelled", "confirmed"]


class TestWhereOthersAre:
    def test_nothing_is_booked_and_each_is_named(self, hub: Hub) -> None:
        other = hub.person("bob")
        hub.book("V100", 25, 26, person=other)
        with pytest.raises(SlotTaken) as refused:
            book(hub, wish(hub, "V100"))
        assert [span["starts_at"] for span in refused.value.details["taken"]] == ["2026-03-03T10:00:00Z"]
        assert hub.money() == (10, 10)
        assert hub.free("V100", 1, 2) == 1

    def test_or_what_is_free_without_them(self, hub: Hub) -> None:
        other = hub.person("bob")
        hub.book("V100", 25, 26, person=other)
        made = book(hub, wish(hub, "V100"), skip_taken=True)
        assert starts(made.bookings) == [0, 2]
        assert [span.start_at for span in made.skipped] == [hub.start + timedelta(hours=25)]
        assert found(hub, made) == made

    def test_but_not_nothing_at_all(self, hub: Hub) -> None:
        hub.book("V100", 1, 2, person=hub.person("bob"))
        with pytest.raises(SlotTaken):
            book(hub, wish(hub, "V100", rrule="FREQ=DAILY;COUNT=1"), skip_taken=True)


def test_they_may_be_in_each_others_way(hub: Hub) -> None:
    long = wish(hub, "V100", rrule="FREQ=DAILY;COUNT=2", hours=23)
    overlapping = SeriesWish("V100", 1, long.start_at, timedelta(hours=24), "FREQ=DAILY;COUNT=2", "Europe/Berlin")
    quote = hub.do(series.quote_series, wish=overlapping, limits=LIMITS)
    assert [each.available for each in quote.occurrences] == [True, True], "one ends as the next begins"


def test_too_dear_takes_nothing_and_names_the_whole_price(hub: Hub) -> None:
    with pytest.raises(InsufficientCredits) as refused:
        book(hub, wish(hub, rrule="FREQ=DAILY;COUNT=11"))
    assert refused.value.details == {"available_microcredits": 10_000_000, "needed_microcredits": 11_000_000}
    assert hub.money() == (10, 10)
    assert hub.free("T4", 0, 200) == 2


def test_twice_for_one_notebook_is_a_slip(hub: Hub) -> None:
    book(hub, path="a.ipynb")
    with pytest.raises(Conflict):
        book(hub, path="a.ipynb")
    assert hub.money() == (10, 7)


class TestQuote:
    def test_says_of_each_whether_it_is_free_and_sums_those(self, hub: Hub) -> None:
        hub.book("V100", 25, 26, person=hub.person("bob"))
        quote = hub.do(series.quote_series, wish=wish(hub, "V100"), limits=LIMITS)
        assert [each.available for each in quote.occurrences] == [True, False, True]
        assert (quote.amount_microcredits, quote.available) == (5_000_000, False)
        assert hub.money() == (10, 10)
        assert hub.free("V100", 1, 2) == 1

    def test_is_what_booking_then_costs(self, hub: Hub) -> None:
        quote = hub.do(series.quote_series, wish=wish(hub, None), limits=LIMITS)
        made = book(hub, wish(hub, None))
        assert quote.amount_microcredits == sum(b.amount_microcredits for b in made.bookings)
        assert [each.span for each in quote.occurrences] == [b.span for b in made.bookings]


class TestCancelling:
    def test_leaves_what_has_begun(self, hub: Hub) -> None:
        made = book(hub)
        hub.clock.advance(hours=1, minutes=30)
        hub.activate(made.bookings[0])
        cancelled = hub.do(series.cancel_series, series_id=made.id, person_id=hub.ada.id)
        assert [b.id for b in cancelled] == [b.id for b in made.bookings[1:]]
        assert [b.state.value for b in found(hub, made).bookings] == ["active", "cancelled", "cancelled"]
        assert hub.money() == (10, 9)
        assert hub.do(series.cancel_series, series_id=made.id, person_id=hub.ada.id) == []

    def test_is_the_persons_own(self, hub: Hub) -> None:
        made = book(hub)
        bob = hub.person("bob")
        with pytest.raises(NotFound):
            hub.do(series.cancel_series, series_id=made.id, person_id=bob.id)
        with pytest.raises(NotFound):
            found(hub, made, bob.id)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"rrule": "FREQ=DAILY"}, "rrule"),
        ({"rrule": "FREQ=WEEKLY;COUNT=20"}, "rrule"),
        ({"count": 9}, "count"),
        ({"hours": 25}, "duration_seconds"),
        ({"first": -1}, "starts_at"),
        ({"model": "T5"}, "model"),
    ],
)
def test_nonsense_is_named(hub: Hub, more: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        book(hub, wish(hub, **more))
    assert refused.value.details["field"] == field


def test_a_start_within_a_second_is_the_next_whole_one() -> None:
    moment = datetime(2026, 3, 2, 9, 0, 0, 1)
    assert series.whole_second(moment) == datetime(2026, 3, 2, 9, 0, 1)
    assert series.whole_second(moment.replace(microsecond=0)) == datetime(2026, 3, 2, 9)
