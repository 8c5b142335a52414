"""The books against a model in plain integers: whatever is asked in whatever order, they agree and nothing is lost."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, metadata
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger import tables
from computehub_ext.ledger.model import Origin

BOOKS = [tables.accounts, tables.balances, tables.holds, tables.hold_changes, tables.journal_entries, tables.postings]
ACCOUNTS = ("person:ada", "person:bob")
amounts = st.integers(1, 30)
account_ids = st.sampled_from(ACCOUNTS)


class BooksMachine(RuleBasedStateMachine):
    """``holds`` and ``entries`` name what was made; the model knows what each should have come to."""

    holds = Bundle("holds")
    entries = Bundle("entries")
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.database = Database("sqlite://", clock=self.clock)
        self.database.write(_create_books)
        self.posted = dict.fromkeys(ACCOUNTS, 0)
        self.hold_of: dict[str, dict[str, Any]] = {}
        self.worth: dict[str, tuple[str, int]] = {}
        self.reversed: set[str] = set()
        self.number = 0

    def teardown(self) -> None:
        self.database.close()

    def available(self, account_id: str) -> int:
        held = sum(h["amount"] - h["drawn"] for h in self.hold_of.values() if h["account"] == account_id and h["open"])
        return self.posted[account_id] - held

    def call(self, service: Any, **inputs: Any) -> Any:
        """Do it; the answer or the refusal's code. Every second call is made twice, as after a lost answer."""
        self.number += 1
        now = self.clock.advance(seconds=1)
        try:
            answer = self.database.write(lambda unit: service(unit, now=now, **inputs))
        except ComputeHubError as refusal:
            return refusal.code
        if "key" in inputs and self.number % 2:
            assert self.database.write(lambda unit: service(unit, now=now, **inputs)) == answer
        return answer

    @property
    def key(self) -> str:
        return f"key {self.number}"

    @rule(target=entries, account_id=account_ids, amount=amounts, origin=st.sampled_from(Origin))
    def grant(self, account_id: str, amount: int, origin: Origin) -> Any:
        entry = self.call(
            ledger.grant, account_id=account_id, amount_microcredits=amount, origin=origin, key=self.key, memo=""
        )
        self.posted[account_id] += amount
        self.worth[entry.id] = (account_id, amount)
        return entry.id

    @rule(target=holds, account_id=account_ids, amount=st.integers(0, 30))
    def open_hold(self, account_id: str, amount: int) -> Any:
        opened = account_id in {account for account, _ in self.worth.values()}
        answer = self.call(ledger.open_hold, account_id=account_id, amount_microcredits=amount, key=self.key, memo="")
        if not opened or amount > self.available(account_id):
            assert answer == "insufficient_credits"
            return multiple()
        self.hold_of[answer.id] = {"account": account_id, "amount": amount, "drawn": 0, "open": True}
        return answer.id

    @rule(hold_id=holds, amount=st.integers(0, 40))
    def resize_hold(self, hold_id: str, amount: int) -> None:
        hold = self.hold_of[hold_id]
        answer = self.call(ledger.resize_hold, hold_id=hold_id, amount_microcredits=amount, key=self.key)
        if not hold["open"]:
            assert answer == "illegal_move"
        elif amount < hold["drawn"]:
            assert answer == "invalid"
        elif amount - hold["amount"] > self.available(hold["account"]):
            assert answer == "insufficient_credits"
        else:
            assert answer.amount_microcredits == amount
            hold["amount"] = amount

    @rule(target=entries, hold_id=holds, amount=amounts)
    def draw(self, hold_id: str, amount: int) -> Any:
        hold = self.hold_of[hold_id]
        answer = self.call(ledger.draw, hold_id=hold_id, amount_microcredits=amount, key=self.key, memo="")
        if not hold["open"]:
            assert answer == "illegal_move"
            return multiple()
        if hold["drawn"] + amount > hold["amount"]:
            assert answer == "invalid"
            return multiple()
        hold["drawn"] += amount
        self.posted[hold["account"]] -= amount
        self.worth[answer.id] = (hold["account"], -amount)
        return answer.id

    @rule(hold_id=holds)
    def close_hold(self, hold_id: str) -> None:
        answer = self.call(ledger.close_hold, hold_id=hold_id)
        if not self.hold_of[hold_id]["open"]:
            assert answer == "illegal_move"
        self.hold_of[hold_id]["open"] = False

    @rule(entry_id=entries)
    def reverse(self, entry_id: str) -> None:
        account_id, amount = self.worth[entry_id]
        answer = self.call(ledger.reverse, entry_id=entry_id, key=self.key, memo="")
        if entry_id in self.reversed:
            assert answer == "illegal_move"
        elif amount > self.available(account_id):
            assert answer == "insufficient_credits"
        else:
            assert answer.amount_microcredits == -amount
            self.posted[account_id] -= amount
            self.reversed.add(entry_id)

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        for account_id in ACCOUNTS:
            balance = self.database.read(lambda unit, account_id=account_id: ledger.balance(unit, account_id))
            assert balance.posted_microcredits == self.posted[account_id]
            assert balance.available_microcredits == self.available(account_id) >= 0

    @invariant()
    def the_books_agree_with_themselves(self) -> None:
        assert self.database.read(ledger.verify) == []

    @invariant()
    def no_credit_is_made_or_lost(self) -> None:
        all_accounts = (*ACCOUNTS, ledger.SYSTEM_GRANTS, ledger.SYSTEM_USAGE)
        total = sum(
            self.database.read(lambda unit, account_id=account_id: ledger.balance(unit, account_id)).posted_microcredits
            for account_id in all_accounts
        )
        assert total == 0


def _create_books(unit: Any) -> None:
    """Only the books' tables: there is a new database for each of many runs."""
    metadata.create_all(unit.connection, tables=BOOKS)


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, print_blob=True)
