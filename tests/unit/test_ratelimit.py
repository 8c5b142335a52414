"""Asking too often is refused with the time to wait, for the one who asks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computehub_ext.core import ratelimit
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


@given(st.integers(1, 4), st.lists(st.integers(0, 40), max_size=60))
def test_no_minute_has_more_than_the_limit_and_none_is_refused_that_has_room(most: int, pauses: list[int]) -> None:
    now, let_in = 0.0, list[float]()
    limits = RateLimits({"write": f"{most}/minute"}, clock=lambda: now)
    for pause in pauses:
        now += pause
        recent = [at for at in let_in if at > now - 60]
        if len(recent) < most:
            limits.hit("alice", "write")
            let_in.append(now)
            continue
        with pytest.raises(TooManyRequests) as refusal:
            limits.hit("alice", "write")
        assert recent[0] + 60 == now + refusal.value.details["retry_after_seconds"]


def test_people_who_come_no_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "SWEEP_AT", 3)
    now = 0.0
    limits = RateLimits({"write": "1/minute", "read": "1/day"}, clock=lambda: now)
    for name, kind in (("alice", "write"), ("alice", "read"), ("bob", "write")):
        limits.hit(name, kind)
    now = 61.0
    limits.hit("alice-2", "write")
    assert len(limits._hits) == 2
    with pytest.raises(TooManyRequests):
        limits.hit("alice", "read")
