"""The capacity index against a model that counts every booking at every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from computehub_ext.bookings.calendar import Calendar, CapacityIndex
from computehub_ext.core.timespan import TimeSpan

START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def span(first: int, last: int) -> TimeSpan:
    return TimeSpan(START + first * MINUTE, START + last * MINUTE)


# Minutes of half a day, drawn so that bucket edges come up often.
minutes = st.one_of(st.integers(0, 720), st.integers(0, 12).map(lambda hour: hour * 60))
spans = st.tuples(minutes, minutes).filter(lambda pair: pair[0] != pair[1]).map(sorted).map(lambda pair: span(*pair))
counts = st.integers(1, 4)


class BruteForce:
    """The same questions, answered from the definition."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken: list[tuple[TimeSpan, int]] = []

    def used(self, moment: datetime) -> int:
        return sum(count for taken, count in self.taken if moment in taken)

    def peak(self, asked: TimeSpan) -> int:
        # The number in use only rises where something starts.
        moments = [asked.start_at, *(taken.start_at for taken, _ in self.taken if taken.start_at in asked)]
        return max(self.used(moment) for moment in moments)

    def free(self, asked: TimeSpan) -> int:
        return max(0, self.capacity - self.peak(asked))

    def earliest(self, count: int, duration: timedelta, not_before: datetime, not_after: datetime) -> TimeSpan | None:
        # The first possible start is the bound itself or a moment at which something ends.
        starts = sorted({not_before, *(taken.end_at for taken, _ in self.taken)})
        for start in starts:
            asked = TimeSpan.starting(start, duration)
            if not_before <= start <= not_after and self.peak(asked) + count <= self.capacity:
                return asked
        return None


class Follows(RuleBasedStateMachine):
    """Bookings come, go, grow, shrink and are undone; after each step both give the same answers."""

    @initialize(capacity=st.integers(0, 6), bucket=st.sampled_from([7, 60, 300]))
    def begin(self, capacity: int, bucket: int) -> None:
        self.index = CapacityIndex(capacity, bucket=bucket * MINUTE)
        self.model = BruteForce(capacity)

    @rule(asked=spans, count=counts)
    def reserve(self, asked: TimeSpan, count: int) -> None:
        fits = self.model.peak(asked) + count <= self.model.capacity
        assert self.index.reserve(asked, count) is fits
        if fits:
            self.model.taken.append((asked, count))

    @rule(asked=spans, count=counts)
    def load(self, asked: TimeSpan, count: int) -> None:
        self.index.add(asked, count)
        self.model.taken.append((asked, count))

    @rule(asked=spans, count=counts)
    def reserve_and_undo(self, asked: TimeSpan, count: int) -> None:
        before = self.index.levels()
        if self.index.reserve(asked, count):
            self.index.release(asked, count)
        assert self.index.levels() == before, "an undo leaves nothing behind"

    @precondition(lambda self: self.model.taken)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(self.model.taken))
        self.model.taken.remove(taken)
        self.index.release(*taken)

    @precondition(lambda self: self.model.taken)
    @rule(data=st.data(), end=minutes)
    def resize(self, data: st.DataObject, end: int) -> None:
        taken, count = data.draw(st.sampled_from(self.model.taken))
        end_at = START + end * MINUTE
        if end_at <= taken.start_at or end_at == taken.end_at:
            return
        if end_at < taken.end_at:
            self.index.release(TimeSpan(end_at, taken.end_at), count)
        else:
            more = TimeSpan(taken.end_at, end_at)
            fits = self.model.peak(more) + count <= self.model.capacity
            assert self.index.reserve(more, count) is fits
            if not fits:
                return
        self.model.taken.remove((taken, count))
        self.model.taken.append((TimeSpan(taken.start_at, end_at), count))

    @rule(capacity=st.integers(0, 6))
    def change_capacity(self, capacity: int) -> None:
        self.index.capacity = self.model.capacity = capacity

    @rule(asked=spans)
    def free(self, asked: TimeSpan) -> None:
        assert self.index.free(asked) == self.model.free(asked)

    @rule(asked=spans, step=st.sampled_from([7, 30, 60, 300, 1000]))
    def free_by_step(self, asked: TimeSpan, step: int) -> None:
        expected = []
        start_at = asked.start_at
        while start_at < asked.end_at:
            expected.append(self.model.free(TimeSpan(start_at, min(start_at + step * MINUTE, asked.end_at))))
            start_at += step * MINUTE
        assert self.index.free_by_step(asked, step * MINUTE) == expected

    @rule(count=counts, length=st.integers(1, 400), after=minutes, reach=st.integers(0, 900))
    def earliest(self, count: int, length: int, after: int, reach: int) -> None:
        not_before = START + after * MINUTE
        not_after = not_before + reach * MINUTE
        found = self.index.earliest(count, length * MINUTE, not_before=not_before, not_after=not_after)
        assert found == self.model.earliest(count, length * MINUTE, not_before, not_after)

    @invariant()
    def steps_are_the_same(self) -> None:
        if not hasattr(self, "model"):
            return
        for moment, level in self.index.levels():
            assert level == self.model.used(moment)


TestFollows = Follows.TestCase
TestFollows.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@given(st.lists(st.tuples(spans, counts), max_size=12), st.randoms())
def test_order_leaves_no_trace(taken: list[tuple[TimeSpan, int]], random) -> None:
    one, other = CapacityIndex(3), CapacityIndex(3)
    for each in taken:
        one.add(*each)
    random.shuffle(taken)
    for each in taken:
        other.add(*each)
    moments = [START + minute * MINUTE for minute in range(0, 721, 5)]
    assert [one.free(TimeSpan.starting(at, MINUTE)) for at in moments] == [
        other.free(TimeSpan.starting(at, MINUTE)) for at in moments
    ]
    for each in taken:
        one.release(*each)
    assert one.levels() == [], "an empty calendar holds no memory"


def test_counted_not_assigned():
    """No device is free throughout, yet at every moment one is: the booking fits."""
    index = CapacityIndex(2)
    for first, last in [(0, 60), (120, 180)]:
        assert index.reserve(span(first, last), 1)
    assert index.reserve(span(60, 120), 2)
    assert index.reserve(span(0, 60), 1)
    assert index.reserve(span(120, 180), 1)
    assert not index.reserve(span(59, 60), 1)
    assert not index.reserve(span(90, 91), 1)


def test_touching_spans_share_a_device():
    index = CapacityIndex(1)
    assert index.reserve(span(0, 30), 1)
    assert index.reserve(span(30, 60), 1)
    assert not index.reserve(TimeSpan(START + 30 * MINUTE - timedelta(microseconds=1), START + 31 * MINUTE), 1)


def test_microseconds_count():
    index = CapacityIndex(1)
    tick = timedelta(microseconds=1)
    assert index.reserve(TimeSpan(START, START + tick), 1)
    assert index.free(TimeSpan(START, START + tick)) == 0
    assert index.free(TimeSpan(START + tick, START + 2 * tick)) == 1


def test_before_1970_and_far_away():
    index = CapacityIndex(1)
    old = TimeSpan(datetime(1969, 12, 31, 23, 30, tzinfo=UTC), datetime(1970, 1, 1, 0, 30, tzinfo=UTC))
    assert index.reserve(old, 1)
    assert index.free(old) == 0
    far = datetime(2400, 1, 1, tzinfo=UTC)
    assert index.earliest(1, MINUTE, not_before=far, not_after=far) == TimeSpan.starting(far, MINUTE)


def test_lower_capacity_never_shows_below_zero():
    index = CapacityIndex(3)
    index.add(span(0, 60), 3)
    index.capacity = 1
    assert index.free(span(0, 60)) == 0
    assert index.free_by_step(span(0, 120), 60 * MINUTE) == [0, 1]


def test_giving_back_too_much_is_loud():
    index = CapacityIndex(1)
    with pytest.raises(AssertionError):
        index.release(span(0, 60), 1)


def test_a_pool_nobody_announced_has_no_room():
    calendar = Calendar()
    assert calendar.of("pool_unknown").free(span(0, 1)) == 0
    calendar.set_capacity("pool_unknown", 2)
    assert calendar.of("pool_unknown").free(span(0, 1)) == 2


def test_no_more_is_ignored_than_is_taken() -> None:
    """A reader's view of the books may be older than the calendar."""
    index = CapacityIndex(2)
    index.add(span(30, 90), 1)
    before = index.levels()
    index.ignore(span(30, 120), 1)
    index.ignore(span(30, 90), 2)
    assert index.levels() == before
    index.ignore(span(30, 90), 1)
    assert index.free(span(0, 120)) == 2


def test_a_draft_is_changed_without_anybody_noticing() -> None:
    calendar = Calendar()
    calendar.set_capacity("pool", 2)
    calendar.of("pool").add(span(30, 90), 1)
    draft = calendar.draft()
    assert draft.of("pool").reserve(span(0, 300), 1)
    draft.of("pool").ignore(span(30, 90), 1)
    assert (draft.of("pool").free(span(0, 300)), calendar.of("pool").free(span(0, 30))) == (1, 2)
    assert calendar.of("pool").free(span(30, 90)) == 1
