"""Asking too often is refused with the time to wait, for the one who asks."""

from __future__ import annotations

import pytest

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
