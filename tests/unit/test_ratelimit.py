"""Asking too often is refused with the time to wait, for the one who asks."""

from __future__ import annotations

import threading
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from computehub_ext.core import window
from computehub_ext.core.errors import TooManyRequests
from computehub_ext.core.ratelimit import RateLimits


def test_the_third_of_two_is_refused_and_told_when_to_come_back() -> None:
    limits = RateLimits({"write": "2/minute"})
    limits.hit("alice", "write")
    limits.hit("alice", "write")
    with pytest.raises(TooManyRequests) as refusal:
        limits.hit("alice", "write")
    assert 1 <= refusal.value.details["retry_after_seconds"] <= 60


def test_people_and_classes_are_counted_by_themselves() -> None:
    limits = RateLimits({"write": "1/minute", "kernel-write": "1/minute"})
    limits.hit("alice", "write")
    limits.hit("alice", "kernel-write")
    limits.hit("bob", "write")
    with pytest.raises(TooManyRequests):
        limits.hit("bob", "write")


def test_a_class_without_a_limit_has_none() -> None:
    limits = RateLimits({})
    for _ in range(1000):
        limits.hit("alice", "write")


def test_a_limit_that_nobody_can_read_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="write"):
        RateLimits({"write": "often"})


@given(limit=st.integers(1, 4), waits=st.lists(st.sampled_from([0.0, 0.5, 15.0, 20.0, 30.0, 60.0, 61.0]), max_size=25))
def test_what_counts_is_what_the_library_counts(limit: int, waits: list[float]) -> None:
    item, now = RateLimitItemPerMinute(limit), 1_700_000_000.0
    ours, theirs = (MovingWindowRateLimiter(storage()) for storage in (window.QuietStorage, MemoryStorage))
    with patch("time.time", lambda: now), patch("time.monotonic", lambda: now):
        for number, wait in enumerate(waits):
            now += wait + 0.001  # never a whole minute: at that moment, the library's thread decides
            who = f"person-{number % 2}"
            assert ours.hit(item, who) == theirs.hit(item, who)
            assert ours.get_window_stats(item, who) == theirs.get_window_stats(item, who)


def test_those_who_stopped_asking_are_forgotten_without_a_thread() -> None:
    storage = window.QuietStorage()
    storage.timer.join()
    strategy, now = MovingWindowRateLimiter(storage), 1_700_000_000.0
    threads = threading.active_count()
    with patch("time.time", lambda: now), patch("time.monotonic", lambda: now):
        for number in range(50):
            strategy.hit(RateLimitItemPerMinute(5), f"person-{number}")
        now += window.SWEEP_SECONDS + 1
        strategy.hit(RateLimitItemPerMinute(5), "person-50")
    assert len(storage.events) == 1
    assert threading.active_count() == threads
