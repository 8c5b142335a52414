"""The rules of a lease: its moves, its cost, and what is due when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computehub_ext.core.credits import rated
from computehub_ext.core.errors import IllegalMove
from computehub_ext.core.settings import Settings
from computehub_ext.leases.model import EndReason, Lease, LeaseState, OrderKind, due_orders

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SETTINGS = Settings()


def a_lease(**changes: object) -> Lease:
    lease = Lease(
        id="lease_1",
        booking_id="booking_1",
        hold_id="hold_1",
        person_id="person_1",
        pool_id="pool_1",
        model="T4",
        count=1,
        rate_microcredits_per_hour=1_000_000,
        kernel_id="kernel_1",
        notebook_path="a.ipynb",
        state=LeaseState.PROVISIONING,
        created_at=NOON,
        ends_at=NOON + timedelta(hours=2),
        idle_timeout=timedelta(minutes=20),
        on_the_spot=True,
    )
    return replace(lease, **changes)


def running(**changes: object) -> Lease:
    return replace(a_lease().running(NOON, SETTINGS.paid_horizon), **changes)


def kinds(lease: Lease, after: timedelta) -> list[OrderKind]:
    return [order.kind for order in due_orders(lease, NOON + after, SETTINGS)]


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (LeaseState.REQUESTED, LeaseState.RUNNING),
        (LeaseState.RUNNING, LeaseState.PROVISIONING),
        (LeaseState.CLOSED, LeaseState.RUNNING),
        (LeaseState.CLOSED, LeaseState.CLOSING),
        (LeaseState.RUNNING, LeaseState.CLOSED),
    ],
)
def test_a_move_that_no_arrow_shows_is_refused(state: LeaseState, wanted: LeaseState) -> None:
    with pytest.raises(IllegalMove, match=f"is {state} and can't become {wanted}"):
        a_lease(state=state).moved(wanted)


def test_nothing_is_owed_before_the_kernel_runs() -> None:
    assert a_lease().cost_microcredits(NOON + timedelta(hours=1)) == 0


def test_a_lease_taken_on_the_spot_is_billed_from_its_first_running_moment() -> None:
    lease = a_lease().running(NOON + timedelta(seconds=30), SETTINGS.paid_horizon)
    assert lease.cost_microcredits(NOON + timedelta(seconds=30, hours=1)) == 1_000_000


def test_a_lease_on_a_booking_is_billed_from_the_start_of_its_slot() -> None:
    booked = a_lease(on_the_spot=False, billed_from_at=NOON)
    lease = booked.running(NOON + timedelta(minutes=30), SETTINGS.paid_horizon)
    assert lease.cost_microcredits(NOON + timedelta(hours=1)) == 1_000_000


def test_the_cost_stops_at_the_end_of_the_lease_and_at_its_ending() -> None:
    assert running().cost_microcredits(NOON + timedelta(days=3)) == 2_000_000
    ended = running(ended_at=NOON + timedelta(minutes=30))
    assert ended.cost_microcredits(NOON + timedelta(days=3)) == 500_000


@given(
    rate=st.integers(0, 50_000_000),
    count=st.integers(1, 8),
    beats=st.lists(st.integers(0, 600_000_000), min_size=1, max_size=30),
)
def test_metering_in_parts_posts_what_the_whole_costs(rate: int, count: int, beats: list[int]) -> None:
    lease = running(rate_microcredits_per_hour=rate, count=count, ends_at=NOON + timedelta(days=30))
    posted, at = 0, NOON
    for microseconds in beats:
        at += timedelta(microseconds=microseconds)
        due = lease.cost_microcredits(at) - posted
        assert due >= 0
        posted += due
    assert posted == rated(rate, at - NOON, count)


def test_paying_ahead_never_goes_past_the_end_or_back() -> None:
    lease = running()
    assert lease.paid_until == NOON + SETTINGS.paid_horizon
    later = lease.renewed(NOON + timedelta(hours=1, minutes=55), SETTINGS.paid_horizon)
    assert later.paid_until == lease.ends_at
    assert later.renewed(NOON, SETTINGS.paid_horizon).paid_until == lease.ends_at


@pytest.mark.parametrize(
    ("after", "busy", "due"),
    [
        (timedelta(minutes=1), False, []),
        (timedelta(minutes=18), False, [OrderKind.IDLE_WARNING]),
        (timedelta(minutes=18), True, []),
        (timedelta(minutes=20), False, [OrderKind.IDLE_RELEASE]),
        (timedelta(minutes=20), True, []),
        (timedelta(minutes=109), True, [OrderKind.ENDING_10]),
        (timedelta(minutes=117, seconds=30), True, [OrderKind.ENDING_2]),
        (timedelta(minutes=119), True, [OrderKind.CLOSING]),
    ],
)
def test_what_is_due_when(after: timedelta, busy: bool, due: list[OrderKind]) -> None:
    assert kinds(running(busy=busy), after) == due


def test_a_warning_is_given_once() -> None:
    told = running(busy=True, warned=frozenset({OrderKind.ENDING_2}))
    assert kinds(told, timedelta(minutes=117, seconds=30)) == []


def test_a_lease_shorter_than_its_warning_is_not_warned_at_its_start() -> None:
    short = running(busy=True, ends_at=NOON + timedelta(minutes=8))
    assert kinds(short, timedelta(seconds=1)) == []
    assert kinds(short, timedelta(minutes=6)) == [OrderKind.ENDING_2]


def test_a_lease_that_does_not_run_has_no_orders() -> None:
    closing = replace(running(), state=LeaseState.CLOSING, end_reason=EndReason.IDLE)
    assert due_orders(closing, NOON + timedelta(hours=3), SETTINGS) == []
