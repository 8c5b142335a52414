"""How many devices of a pool are spoken for at each moment, in memory.

Capacity is counted, not assigned: a booking of k devices over a span fits if and only if at every moment of it at
most n - k are used. Which device it gets is picked when its lease starts, so no booking is refused for want of one
device that is free throughout.

The count is a step function of time, cut into buckets of an hour. A bucket knows its highest and lowest level, so a
question about a month reads 744 numbers however many bookings there are, and a booking touches the steps of two
buckets only. The database stays the truth: the index is built from it at the start and follows each transaction.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from datetime import UTC, datetime, timedelta

from computehub_ext.core.timespan import TimeSpan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SETTLE_SECONDS_MAX = 1.0
LATEST_MAX = 500


def _ticks(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(ticks: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ticks)


class _Bucket:
    """The step function within one hour: from ``starts[i]`` on, ``base + levels[i]`` devices are used."""

    __slots__ = ("base", "levels", "peak", "starts", "trough")

    def __init__(self, start: int) -> None:
        self.base = 0
        self.starts = [start]
        self.levels = [0]
        self.peak = self.trough = 0

    def copy(self) -> _Bucket:
        twin = _Bucket(self.starts[0])
        twin.base, twin.peak, twin.trough = self.base, self.peak, self.trough
        twin.starts, twin.levels = self.starts.copy(), self.levels.copy()
        return twin

    def shift(self, change: int) -> None:
        """Change the whole hour, in constant time."""
        self.base += change
        self.peak += change
        self.trough += change

    def change(self, start: int, end: int | None, change: int) -> None:
        """Change the part from ``start`` to ``end``; None is the bucket's end."""
        first = self._cut(start)
        last = len(self.starts) if end is None else self._cut(end)
        self.levels[first:last] = [level + change for level in self.levels[first:last]]
        self._join(last)
        self._join(first)
        self.peak = self.base + max(self.levels)
        self.trough = self.base + min(self.levels)

    def peak_between(self, start: int, end: int) -> int:
        first = max(0, bisect_right(self.starts, start) - 1)
        return self.base + max(self.levels[first : bisect_left(self.starts, end)])

    def trough_between(self, start: int, end: int) -> int:
        first = max(0, bisect_right(self.starts, start) - 1)
        return self.base + min(self.levels[first : bisect_left(self.starts, end)])

    def _cut(self, moment: int) -> int:
        place = bisect_left(self.starts, moment)
        if place == len(self.starts) or self.starts[place] != moment:
            self.starts.insert(place, moment)
            self.levels.insert(place, self.levels[place - 1])
        return place

    def _join(self, place: int) -> None:
        # Steps that no longer rise or fall go, so that memory follows the live bookings and not their history.
        if 0 < place < len(self.starts) and self.levels[place] == self.levels[place - 1]:
            del self.starts[place], self.levels[place]


class CapacityIndex:
    """The calendar of one pool; safe to read from any thread.

    Parameters
    ----------
    capacity:
        How many devices the pool has. It may be lowered below what is booked: nothing more fits then.
    bucket:
        The grain; any value gives the same answers.
    """

    def __init__(self, capacity: int, *, bucket: timedelta = timedelta(hours=1)) -> None:
        self.capacity = capacity
        self._width = bucket // _MICROSECOND
        assert self._width > 0, "a bucket has a length"
        self._buckets: dict[int, _Bucket] = {}
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._unsettled: dict[object, tuple[TimeSpan, int]] = {}
        self._latest: deque[tuple[float, TimeSpan]] = deque(maxlen=LATEST_MAX)

    def copy(self) -> CapacityIndex:
        """As it is now, to try things out on: a few milliseconds for 10,000 bookings."""
        twin = CapacityIndex(self.capacity, bucket=self._width * _MICROSECOND)
        with self._lock:
            twin._buckets = {number: bucket.copy() for number, bucket in self._buckets.items()}
        return twin

    def reserve(self, span: TimeSpan, count: int, *, by: object = None) -> bool:
        """Take ``count`` devices over ``span`` if they fit at every moment, and say whether they did.

        Parameters
        ----------
        by:
            Stands for the transaction that asks, if it may still fail; its end is told by ``settle``. Where one of
            another thread is in the way, its end is waited for.
        """
        assert count > 0, "checked with the person's input"
        start, end = _ticks(span.start_at), _ticks(span.end_at)

        def fits() -> bool:
            return self._peak(start, end) + count <= self.capacity

        def nobody_else() -> bool:
            others = (taken for taken, thread in self._unsettled.values() if thread != threading.get_ident())
            return not any(taken.overlaps(span) for taken in others)

        with self._lock:
            if not fits():
                if by is not None:
                    self._settled.wait_for(lambda: fits() or nobody_else(), SETTLE_SECONDS_MAX)
                if by is None or not fits():
                    return False
            self._change(start, end, count)
            if by is not None:
                self._unsettled[by] = (span, threading.get_ident())
            return True

    def settle(self, by: object) -> None:
        """The transaction ``by`` is over, whichever way."""
        with self._lock:
            if by in self._unsettled:
                self._latest.append((time.monotonic(), self._unsettled.pop(by)[0]))
            self._settled.notify_all()

    def settled_since(self, monotonic: float, span: TimeSpan) -> bool:
        """Whether a transaction that took a part of ``span`` ended since then, or goes on."""
        with self._lock:
            return any(taken.overlaps(span) for taken, _ in self._unsettled.values()) or any(
                at >= monotonic and taken.overlaps(span) for at, taken in self._latest
            )

    def add(self, span: TimeSpan, count: int) -> None:
        """Take ``count`` devices over ``span`` whether they fit or not: what the database holds is a fact."""
        with self._lock:
            self._change(_ticks(span.start_at), _ticks(span.end_at), count)

    def release(self, span: TimeSpan, count: int) -> None:
        """Give back what ``reserve`` or ``add`` took, or a part of its time."""
        with self._lock:
            self._change(_ticks(span.start_at), _ticks(span.end_at), -count)

    def ignore(self, span: TimeSpan, count: int) -> None:
        """As ``release``, where as much is taken: what the caller read may be older than this calendar."""
        with self._lock:
            if self._trough(_ticks(span.start_at), _ticks(span.end_at)) >= count:
                self._change(_ticks(span.start_at), _ticks(span.end_at), -count)

    def free(self, span: TimeSpan) -> int:
        """How many devices are free throughout ``span``; never below 0."""
        with self._lock:
            return max(0, self.capacity - self._peak(_ticks(span.start_at), _ticks(span.end_at)))

    def free_by_step(self, span: TimeSpan, step: timedelta) -> list[int]:
        """``free`` for each step of ``span``; the last step may be a short one."""
        start, end, stride = _ticks(span.start_at), _ticks(span.end_at), step // _MICROSECOND
        assert stride > 0, "checked with the person's input"
        with self._lock:
            if stride == self._width and start % stride == 0 and end % stride == 0:
                numbers = range(start // stride, end // stride)
                peaks = [bucket.peak if bucket else 0 for bucket in map(self._buckets.get, numbers)]
            else:
                peaks = [self._peak(at, min(at + stride, end)) for at in range(start, end, stride)]
            return [max(0, self.capacity - peak) for peak in peaks]

    def earliest(
        self, count: int, duration: timedelta, *, not_before: datetime, not_after: datetime
    ) -> TimeSpan | None:
        """The first span of this length that has room and starts within the two bounds, both included."""
        length, latest = duration // _MICROSECOND, _ticks(not_after)
        start = _ticks(not_before)
        with self._lock:
            room = self.capacity - count
            number = start // self._width
            while room >= 0 and start <= latest:
                start, found = self._run_through(number, start, length, room)
                if found and start <= latest:
                    return TimeSpan(_moment(start), _moment(start + length))
                number += 1
        return None

    def fits_until(self, count: int, span: TimeSpan) -> datetime:
        """How far into ``span``, from its start, there is room for ``count``."""
        start, end, room = _ticks(span.start_at), _ticks(span.end_at), self.capacity - count
        with self._lock:
            for number in range(start // self._width, (end - 1) // self._width + 1):
                bucket = self._buckets.get(number)
                if room >= 0 and (bucket is None or bucket.peak <= room):
                    continue
                if bucket is None:
                    return span.start_at
                closes = [*bucket.starts[1:], (number + 1) * self._width]
                for opens, level, close in zip(bucket.starts, bucket.levels, closes, strict=True):
                    if close > start and bucket.base + level > room:
                        return min(span.end_at, max(span.start_at, _moment(opens)))
        return span.end_at

    def levels(self) -> list[tuple[datetime, int]]:
        """Each moment from which on another number of devices is used, in order. For tests and for support."""
        with self._lock:
            return [
                (_moment(start), bucket.base + level)
                for _, bucket in sorted(self._buckets.items())
                for start, level in zip(bucket.starts, bucket.levels, strict=True)
            ]

    def _run_through(self, number: int, start: int, length: int, room: int) -> tuple[int, bool]:
        """Walk one bucket: the first start that is still possible, and whether its end lies within the bucket."""
        bucket, end = self._buckets.get(number), (number + 1) * self._width
        if bucket is not None and bucket.trough > room:
            return end, False
        if bucket is not None and bucket.peak > room:
            ends = [*bucket.starts[1:], end]
            for place in range(max(0, bisect_right(bucket.starts, start) - 1), len(ends)):
                if bucket.base + bucket.levels[place] > room:
                    start = ends[place]
                elif start + length <= ends[place]:
                    return start, True
        return start, start + length <= end

    def _peak(self, start: int, end: int) -> int:
        first, last = start // self._width, (end - 1) // self._width
        peak = 0
        for number in range(first, last + 1):
            bucket = self._buckets.get(number)
            # A bucket whose highest level is no news needs no look inside.
            if bucket is None or bucket.peak <= peak:
                continue
            inside = first < number < last
            peak = max(peak, bucket.peak if inside else bucket.peak_between(start, end))
        return peak

    def _trough(self, start: int, end: int) -> int:
        buckets = (self._buckets.get(number) for number in range(start // self._width, (end - 1) // self._width + 1))
        return min(bucket.trough_between(start, end) if bucket else 0 for bucket in buckets)

    def _change(self, start: int, end: int, change: int) -> None:
        width = self._width
        for number in range(start // width, (end - 1) // width + 1):
            opens, closes = number * width, (number + 1) * width
            bucket = self._buckets.get(number)
            if bucket is None:
                bucket = self._buckets[number] = _Bucket(opens)
            if start <= opens and closes <= end:
                bucket.shift(change)
            else:
                bucket.change(max(start, opens), end if end < closes else None, change)
            assert bucket.trough >= 0, "more was given back than was taken"
            if bucket.peak == 0:
                del self._buckets[number]


class Calendar:
    """The indexes of all pools.

    Readers may see what a transaction took and has not yet committed. That errs on the safe side: they may be refused
    what comes free a moment later. A group of writes that is served again (``core/writer``) shows for some milliseconds
    as free what it takes again: who asks for a price may see that, who books comes after it.
    """

    def __init__(self) -> None:
        self._indexes: dict[str, CapacityIndex] = {}
        self._lock = threading.Lock()

    def set_capacity(self, pool_id: str, count: int) -> None:
        """Add a pool, or change how many devices it has."""
        with self._lock:
            index = self._indexes.get(pool_id)
            if index is None:
                self._indexes[pool_id] = CapacityIndex(count)
            else:
                index.capacity = count

    def of(self, pool_id: str) -> CapacityIndex:
        """The index of one pool; a pool that nobody announced has no capacity."""
        with self._lock:
            index = self._indexes.get(pool_id)
            if index is None:
                index = self._indexes[pool_id] = CapacityIndex(0)
            return index

    def draft(self) -> Calendar:
        """A calendar that begins as this one is and may be changed without anybody noticing."""
        return _Draft(self)


class _Draft(Calendar):
    """Copies a pool's index when it is first looked at."""

    def __init__(self, of: Calendar) -> None:
        super().__init__()
        self._real = of

    def of(self, pool_id: str) -> CapacityIndex:
        if pool_id not in self._indexes:
            self._indexes[pool_id] = self._real.of(pool_id).copy()
        return self._indexes[pool_id]
