"""The rules of the books: no database, no clock.

    hold    open ──draw──> open ──close──> closed
                 ──resize─>

A hold sets credits of an account aside. Drawing on it moves them to where they were used; closing it releases the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from computehub_ext.core.credits import in_credits
from computehub_ext.core.errors import IllegalMove, Invalid

SYSTEM_GRANTS = "system:grants"
"""Where granted credits come from; its balance is minus all that were ever granted."""
SYSTEM_USAGE = "system:usage"
"""Where used credits go."""
AMOUNT_MAX_MICROCREDITS = 10**15
"""A billion credits: more than anybody has, and sums of it stay far inside 64 bits."""
KEY_LENGTH_MAX = 200
MEMO_LENGTH_MAX = 500

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class Origin(StrEnum):
    """Where a credit came from. The order is the order in which they are spent."""

    GRANTED = "granted"
    PURCHASED = "purchased"
    EARNED = "earned"


class EntryKind(StrEnum):
    GRANT = "grant"
    DRAW = "draw"
    REVERSAL = "reversal"


class HoldState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of an entry: ``amount_microcredits`` is above zero where credits arrive."""

    account_id: str
    origin: Origin
    amount_microcredits: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What happened, never changed afterwards. The postings sum to zero for each origin."""

    id: str
    kind: EntryKind
    account_id: str
    at: datetime
    memo: str
    key: str
    hold_id: str | None
    reverses_id: str | None
    postings: tuple[Posting, ...]

    @property
    def amount_microcredits(self) -> int:
        """What the account that the entry is about gained, or lost if below zero."""
        return sum(posting.amount_microcredits for posting in self.postings if posting.account_id == self.account_id)

    def reversed_postings(self) -> tuple[Posting, ...]:
        if self.kind is EntryKind.REVERSAL:
            raise IllegalMove("A reversal is not reversed itself; post what is right.", entry_id=self.id)
        return tuple(replace(posting, amount_microcredits=-posting.amount_microcredits) for posting in self.postings)


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside. ``drawn_microcredits`` never shrinks, and never passes ``amount_microcredits``."""

    id: str
    account_id: str
    state: HoldState
    amount_microcredits: int
    drawn_microcredits: int
    memo: str
    opened_at: datetime
    closed_at: datetime | None = None

    @property
    def held_microcredits(self) -> int:
        """What is still set aside."""
        return self.amount_microcredits - self.drawn_microcredits if self.state is HoldState.OPEN else 0

    def drawn(self, amount_microcredits: int) -> Hold:
        self._check_open()
        if amount_microcredits > self.held_microcredits:
            raise Invalid(
                f"The hold has {in_credits(self.held_microcredits, 6)} credits left, "
                f"not {in_credits(amount_microcredits, 6)}.",
                field="amount_microcredits",
                hold_id=self.id,
                left_microcredits=self.held_microcredits,
            )
        return replace(self, drawn_microcredits=self.drawn_microcredits + amount_microcredits)

    def resized(self, amount_microcredits: int) -> Hold:
        self._check_open()
        if amount_microcredits < self.drawn_microcredits:
            raise Invalid(
                f"{in_credits(self.drawn_microcredits, 6)} credits of the hold are used already; it can't get smaller.",
                field="amount_microcredits",
                hold_id=self.id,
                drawn_microcredits=self.drawn_microcredits,
            )
        return replace(self, amount_microcredits=amount_microcredits)

    def closed(self, at: datetime) -> Hold:
        self._check_open()
        return replace(self, state=HoldState.CLOSED, closed_at=at)

    def _check_open(self) -> None:
        if self.state is not HoldState.OPEN:
            raise IllegalMove("The hold is closed.", hold_id=self.id, state=self.state.value)


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has: ``posted`` in the books, ``held`` of it set aside, ``available`` to spend."""

    posted_microcredits: int
    held_microcredits: int
    by_origin: Mapping[Origin, int]

    @property
    def available_microcredits(self) -> int:
        return self.posted_microcredits - self.held_microcredits


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One entry as its account sees it. ``origin`` is None where it moved credits of several (see ``by_origin``)."""

    entry_id: str
    at: datetime
    kind: EntryKind
    amount_microcredits: int
    memo: str
    origin: Origin | None
    by_origin: Mapping[Origin, int]
    hold_id: str | None


def spend(by_origin: Mapping[Origin, int], amount_microcredits: int) -> list[tuple[Origin, int]]:
    """Split ``amount_microcredits`` over what there is of each origin, in the order of spending.

    What no origin covers is owed as purchased credits; that happens only below an account's floor of zero, where an
    administrator allowed debts.
    """
    parts: list[tuple[Origin, int]] = []
    left = amount_microcredits
    for origin in Origin:
        part = min(left, max(0, by_origin.get(origin, 0)))
        if part:
            parts.append((origin, part))
            left -= part
    if left:
        owed = dict(parts)
        owed[Origin.PURCHASED] = owed.get(Origin.PURCHASED, 0) + left
        parts = [(origin, owed[origin]) for origin in Origin if origin in owed]
    return parts


def moved(parts: list[tuple[Origin, int]], *, source: str, target: str) -> tuple[Posting, ...]:
    """The postings that move ``parts`` from one account to another: zero in sum, for each origin."""
    return tuple(
        Posting(account_id, origin, signed)
        for origin, amount in parts
        for account_id, signed in ((source, -amount), (target, amount))
    )


def input_hash(verb: str, **values: str | int) -> str:
    """Digest what a caller asked for, so that a key that comes again is known to mean the same.

    Format ``v1:`` is the SHA-256 of canonical JSON (sorted keys, no spaces, ASCII). Its bytes never change; a new way
    of hashing gets a new prefix.
    """
    canonical = _canonical({"input": values, "v": 1, "verb": verb})
    return "v1:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()


def check_amount(amount_microcredits: int, *, least: int) -> None:
    """Refuse what is no amount: a float, a bool, less than ``least``, or absurdly much."""
    if type(amount_microcredits) is not int:
        raise Invalid("An amount is a whole number of microcredits.", field="amount_microcredits")
    if not least <= amount_microcredits <= AMOUNT_MAX_MICROCREDITS:
        raise Invalid(
            f"An amount is between {least} and {AMOUNT_MAX_MICROCREDITS} microcredits, not {amount_microcredits}.",
            field="amount_microcredits",
        )


def check_key(key: str) -> None:
    if not (0 < len(key) <= KEY_LENGTH_MAX and key.isprintable()):
        raise Invalid(f"A key has 1 to {KEY_LENGTH_MAX} printable characters.", field="key")


def storable(memo: str, length_max: int = MEMO_LENGTH_MAX) -> str:
    """The memo as both databases can keep it. Cut rather than refused: a long file name must not stop a meter."""
    memo = memo.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    return memo if len(memo) <= length_max else memo[: length_max - 1] + "…"
