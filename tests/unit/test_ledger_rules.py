"""The rules of the books: origins, keys, hashes, statements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import IdempotencyMismatch, InsufficientCredits, Invalid, NotFound
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import (
    AMOUNT_MAX_MICROCREDITS,
    MEMO_LENGTH_MAX,
    SYSTEM_GRANTS,
    SYSTEM_USAGE,
    Hold,
    Origin,
    input_hash,
    spend,
    storable,
)

InUnit = Callable[..., Any]
ADA = "person:ada"


@pytest.fixture
def now(clock: ManualClock) -> Any:
    return clock.now()


def grant(in_unit: InUnit, now: Any, amount: int, origin: Origin = Origin.GRANTED, **others: Any) -> Any:
    inputs = {"account_id": ADA, "key": f"{amount} {origin}", "memo": "", **others}
    return in_unit(ledger.grant, amount_microcredits=amount, origin=origin, now=now, **inputs)


def test_credits_are_spent_granted_first_then_purchased_then_earned(in_unit: InUnit, now: Any) -> None:
    for amount, origin in ((30, Origin.EARNED), (20, Origin.PURCHASED), (10, Origin.GRANTED)):
        grant(in_unit, now, amount, origin)
    hold = in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=60, key="h", memo="", now=now)
    spent = []
    for number, amount in enumerate((5, 10, 20)):
        entry = in_unit(ledger.draw, hold_id=hold.id, amount_microcredits=amount, key=f"d{number}", memo="", now=now)
        spent.append([(p.origin.value, p.amount_microcredits) for p in entry.postings if p.account_id == ADA])
    assert spent == [
        [("granted", -5)],
        [("granted", -5), ("purchased", -5)],
        [("purchased", -15), ("earned", -5)],
    ]
    assert in_unit(ledger.balance, ADA).by_origin == {Origin.GRANTED: 0, Origin.PURCHASED: 0, Origin.EARNED: 25}
    assert in_unit(ledger.balance, SYSTEM_USAGE).by_origin == {
        Origin.GRANTED: 10,
        Origin.PURCHASED: 20,
        Origin.EARNED: 5,
    }
    assert in_unit(ledger.balance, SYSTEM_GRANTS).posted_microcredits == -60


def test_a_refusal_says_what_is_available_and_what_was_needed(in_unit: InUnit, now: Any) -> None:
    grant(in_unit, now, 1_000_000)
    with pytest.raises(InsufficientCredits, match=r"2\.50 credits; 1\.00 are available") as refusal:
        in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=2_500_000, key="h", memo="", now=now)
    assert refusal.value.details == {"available_microcredits": 1_000_000, "needed_microcredits": 2_500_000}


def test_a_floor_below_zero_lets_an_account_owe_that_much_and_no_more(in_unit: InUnit, now: Any) -> None:
    in_unit(ledger.open_account, account_id=ADA, floor_microcredits=-100, now=now)
    grant(in_unit, now, 30)
    hold = in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=130, key="h", memo="", now=now)
    with pytest.raises(InsufficientCredits):
        in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=1, key="h2", memo="", now=now)
    in_unit(ledger.draw, hold_id=hold.id, amount_microcredits=130, key="d", memo="", now=now)
    assert in_unit(ledger.balance, ADA).by_origin == {Origin.GRANTED: 0, Origin.PURCHASED: -100, Origin.EARNED: 0}
    assert in_unit(ledger.verify) == []


def test_the_same_key_with_another_input_is_refused(in_unit: InUnit, now: Any) -> None:
    first = grant(in_unit, now, 10, key="k")
    assert grant(in_unit, now, 10, key="k") == first
    for other in ({"amount": 11}, {"origin": Origin.EARNED}, {"memo": "other"}):
        inputs = {"amount": 10, **other}
        with pytest.raises(IdempotencyMismatch):
            grant(in_unit, now, **inputs, key="k")
    with pytest.raises(IdempotencyMismatch):
        in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=10, key="k", memo="", now=now)
    assert grant(in_unit, now, 10, key="k", account_id="person:bob").id != first.id, "keys are each account's own"


def test_a_key_of_a_hold_answers_with_the_hold_as_it_was(in_unit: InUnit, now: Any) -> None:
    grant(in_unit, now, 10)
    opening = {"account_id": ADA, "amount_microcredits": 4, "key": "h", "memo": "m", "now": now}
    opened: Hold = in_unit(ledger.open_hold, **opening)
    resizing = {"hold_id": opened.id, "amount_microcredits": 6, "key": "r", "now": now}
    resized = in_unit(ledger.resize_hold, **resizing)
    in_unit(ledger.draw, hold_id=opened.id, amount_microcredits=3, key="d", memo="", now=now)
    in_unit(ledger.close_hold, hold_id=opened.id, now=now)
    assert in_unit(ledger.open_hold, **opening) == opened
    assert in_unit(ledger.resize_hold, **resizing) == resized
    assert (opened.amount_microcredits, resized.amount_microcredits) == (4, 6)


@pytest.mark.parametrize("amount", [0, -1, 1.0, True, None, "1", AMOUNT_MAX_MICROCREDITS + 1])
def test_what_is_no_amount_is_refused(in_unit: InUnit, now: Any, amount: Any) -> None:
    with pytest.raises(Invalid) as refusal:
        grant(in_unit, now, amount)
    assert refusal.value.details["field"] == "amount_microcredits"


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "a\nb"])
def test_what_is_no_key_is_refused(in_unit: InUnit, now: Any, key: str) -> None:
    with pytest.raises(Invalid):
        grant(in_unit, now, 1, key=key)


def test_what_is_not_there_is_not_found(in_unit: InUnit, now: Any) -> None:
    with pytest.raises(NotFound):
        in_unit(ledger.draw, hold_id="hold_x", amount_microcredits=1, key="k", memo="", now=now)
    with pytest.raises(NotFound):
        in_unit(ledger.reverse, entry_id="entry_x", key="k", memo="", now=now)
    assert in_unit(ledger.balance, "person:nobody").available_microcredits == 0


def test_a_statement_is_newest_first_and_read_page_by_page(in_unit: InUnit, clock: ManualClock) -> None:
    for number in range(1, 8):
        grant(in_unit, clock.advance(seconds=1), number, memo=f"no. {number}")
    for origin in (Origin.PURCHASED, Origin.EARNED):
        grant(in_unit, clock.advance(seconds=1), 100, origin)
    hold = in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=150, key="h", memo="", now=clock.now())
    in_unit(ledger.draw, hold_id=hold.id, amount_microcredits=130, key="d", memo="used", now=clock.advance(seconds=1))
    lines: list[ledger.StatementLine] = []
    while page := in_unit(ledger.statement, ADA, before=(lines[-1].at, lines[-1].entry_id) if lines else None, limit=3):
        assert len(page) <= 3
        lines += page
    assert [line.amount_microcredits for line in lines] == [-130, 100, 100, 7, 6, 5, 4, 3, 2, 1]
    assert lines[0].origin is None
    assert lines[0].by_origin == {Origin.GRANTED: -28, Origin.PURCHASED: -100, Origin.EARNED: -2}
    assert (lines[0].memo, lines[0].hold_id, lines[1].origin) == ("used", hold.id, Origin.EARNED)


def test_the_audit_names_what_was_changed_behind_its_back(database: Database, in_unit: InUnit, now: Any) -> None:
    grant(in_unit, now, 100)
    hold = in_unit(ledger.open_hold, account_id=ADA, amount_microcredits=50, key="h", memo="", now=now)
    in_unit(ledger.draw, hold_id=hold.id, amount_microcredits=20, key="d", memo="", now=now)
    assert in_unit(ledger.verify) == []
    changes = {
        "UPDATE accounts SET posted_microcredits = posted_microcredits + 1": "its postings sum to",
        "UPDATE accounts SET held_microcredits = held_microcredits + 1": "its holds sum to",
        "UPDATE balances SET posted_microcredits = posted_microcredits + 1": "granted; its postings sum to",
        "UPDATE holds SET drawn_microcredits = 21": "its draws sum to",
        "UPDATE holds SET amount_microcredits = 51": "not as its last change left it",
        "UPDATE journal_entries SET memo = 'something else'": "its hash differs",
        "DELETE FROM postings WHERE account_id = 'system:usage'": "does not balance",
        "DELETE FROM postings": "has no postings",
    }

    def problems_after(statement: str) -> list[str]:
        found: list[str] = []

        def tamper(unit: Any) -> None:
            unit.connection.exec_driver_sql(statement)
            found.extend(ledger.verify(unit))
            raise Invalid("taken back")

        with pytest.raises(Invalid, match="taken back"):
            database.write(tamper)
        return found

    for statement, problem in changes.items():
        found = problems_after(statement)
        assert any(problem in line for line in found), (statement, found)
    assert in_unit(ledger.verify) == []


def test_the_hash_of_an_input_never_changes() -> None:
    """Format v1, frozen: stored keys of years ago must still be recognised."""
    assert (
        input_hash("open_hold", account_id="person:ada", amount=1_500_000, memo="2 × T4 für 1 h")
        == "v1:530da53fec6bcfd88aa2a5d2d3a99c2fb101d5d57a6779949bc6fc7038e5974c"
    )


def test_a_memo_is_cut_rather_than_refused() -> None:
    assert storable("x" * 1000) == "x" * (MEMO_LENGTH_MAX - 1) + "…"
    assert storable("a\0b\ud800c") == "ab?c"


amounts = st.integers(0, 10**12)


@given(st.dictionaries(st.sampled_from(Origin), st.integers(-(10**6), 10**12)), amounts)
def test_spending_takes_exactly_the_amount_and_in_order(by_origin: dict[Origin, int], amount: int) -> None:
    parts = dict(spend(by_origin, amount))
    assert sum(parts.values()) == amount
    assert all(part > 0 for part in parts.values())
    there = {origin: max(0, by_origin.get(origin, 0)) for origin in Origin}
    if amount <= sum(there.values()):
        before = list(Origin)
        for origin, part in parts.items():
            assert part <= there[origin]
            earlier = before[: before.index(origin)]
            assert all(parts.get(other, 0) == there[other] for other in earlier), "an earlier origin had some left"


@given(
    st.integers(0, 10**10),
    st.lists(st.integers(0, 10**10).map(lambda microseconds: timedelta(microseconds=microseconds)), max_size=20),
    st.integers(1, 8),
)
def test_metering_in_parts_costs_what_the_whole_costs(rate: int, parts: list[timedelta], count: int) -> None:
    """A meter posts rated(all so far) less what it posted; rounding each part would add up."""
    posted, passed = 0, timedelta()
    for part in parts:
        passed += part
        due = rated(rate, passed, count) - posted
        assert due >= 0
        posted += due
    assert posted == rated(rate, sum(parts, timedelta()), count)


@given(st.integers(0, 10**10), st.timedeltas(timedelta(0), timedelta(days=60)), st.integers(1, 8))
def test_rating_rounds_down_and_by_less_than_a_microcredit(rate: int, duration: timedelta, count: int) -> None:
    exact = rate * count * (duration // timedelta(microseconds=1))
    assert rated(rate, duration, count) * 3_600_000_000 <= exact < (rated(rate, duration, count) + 1) * 3_600_000_000
