"""The statements that read and write the books, and the rows as values."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Row,
    and_,
    bindparam,
    func,
    literal,
    select,
    text,
    tuple_,
    union_all,
)

from computehub_ext.core.database import Unit, UtcDateTime
from computehub_ext.core.prepared import Prepared
from computehub_ext.ledger.model import (
    Balance,
    EntryKind,
    Hold,
    HoldState,
    JournalEntry,
    Origin,
    Posting,
    StatementLine,
)
from computehub_ext.ledger.tables import accounts, balances, hold_changes, holds, journal_entries, postings

_OPEN_ACCOUNT = Prepared(
    text(
        "INSERT INTO accounts (id, floor_microcredits, posted_microcredits, held_microcredits, created_at)"
        " VALUES (:id, :floor, 0, 0, :now) ON CONFLICT (id) DO NOTHING"
    ).bindparams(bindparam("now", type_=UtcDateTime), bindparam("floor", type_=BigInteger))
)
_ADD_BALANCE = Prepared(
    text(
        "INSERT INTO balances (account_id, origin, posted_microcredits) VALUES (:account_id, :origin, :amount)"
        " ON CONFLICT (account_id, origin) DO UPDATE"
        " SET posted_microcredits = balances.posted_microcredits + excluded.posted_microcredits"
    )
)
_CHANGE_ACCOUNT = Prepared(
    accounts.update()
    .where(
        accounts.c.id == bindparam("account_id"),
        accounts.c.floor_microcredits.is_not(None),
        accounts.c.posted_microcredits + bindparam("posted") - accounts.c.held_microcredits - bindparam("held")
        >= accounts.c.floor_microcredits,
    )
    .values(
        posted_microcredits=accounts.c.posted_microcredits + bindparam("posted"),
        held_microcredits=accounts.c.held_microcredits + bindparam("held"),
    )
)
_BALANCE = Prepared(
    select(accounts.c.floor_microcredits, accounts.c.posted_microcredits, accounts.c.held_microcredits,
           balances.c.origin, balances.c.posted_microcredits.label("of_origin"))
    .select_from(accounts.outerjoin(balances, balances.c.account_id == accounts.c.id))
    .where(accounts.c.id == bindparam("account_id"))
)  # fmt: skip
_SUMS = Prepared(
    select(postings.c.origin, func.sum(postings.c.amount_microcredits).label("amount"))
    .where(postings.c.account_id == bindparam("account_id"))
    .group_by(postings.c.origin)
)
_FIND_KEY = Prepared(
    union_all(
        select(literal("entry").label("kind"), journal_entries.c.id, literal(0).label("number"),
               journal_entries.c.input_hash)
        .where(journal_entries.c.account_id == bindparam("account_id"), journal_entries.c.key == bindparam("key")),
        select(literal("hold"), hold_changes.c.hold_id, hold_changes.c.number, hold_changes.c.input_hash)
        .where(hold_changes.c.account_id == bindparam("account_id"), hold_changes.c.key == bindparam("key")),
    )
)  # fmt: skip
_HOLD = Prepared(select(holds).where(holds.c.id == bindparam("hold_id")))
# A hold, what a key did to its account before, and a row for each origin of that account: all that a write to the hold
# looks at, in one statement.
_HOLD_AND_KEY = Prepared(
    select(
        holds,
        journal_entries.c.id.label("entry_id"),
        journal_entries.c.input_hash.label("entry_hash"),
        hold_changes.c.hold_id.label("changed_id"),
        hold_changes.c.number,
        hold_changes.c.input_hash.label("change_hash"),
        balances.c.origin,
        balances.c.posted_microcredits,
    )
    .select_from(
        holds.outerjoin(
            journal_entries,
            and_(journal_entries.c.account_id == holds.c.account_id, journal_entries.c.key == bindparam("key")),
        )
        .outerjoin(
            hold_changes, and_(hold_changes.c.account_id == holds.c.account_id, hold_changes.c.key == bindparam("key"))
        )
        .outerjoin(balances, balances.c.account_id == holds.c.account_id)
    )
    .where(holds.c.id == bindparam("hold_id"))
)
_ADD_HOLD = Prepared(holds.insert())
_SAVE_HOLD = Prepared(
    holds.update()
    .where(holds.c.id == bindparam("hold_id"), holds.c.state == HoldState.OPEN.value)
    .values(
        state=bindparam("new_state"),
        amount_microcredits=bindparam("amount"),
        drawn_microcredits=bindparam("drawn"),
        closed_at=bindparam("closed"),
    )
)
_DRAW_HOLD = Prepared(
    holds.update()
    .where(holds.c.id == bindparam("hold_id"), holds.c.state == HoldState.OPEN.value)
    .values(drawn_microcredits=holds.c.drawn_microcredits + bindparam("amount"))
)
_ADD_CHANGE = Prepared(
    hold_changes.insert().values(
        number=select(func.count()).where(hold_changes.c.hold_id == bindparam("of_hold")).scalar_subquery()
    )
)
_ADD_FIRST_CHANGE = Prepared(hold_changes.insert().values(number=0))
_CHANGE = Prepared(
    select(hold_changes).where(
        hold_changes.c.hold_id == bindparam("hold_id"), hold_changes.c.number == bindparam("nth")
    )
)
_ENTRY = Prepared(select(journal_entries).where(journal_entries.c.id == bindparam("entry_id")))
_POSTINGS = Prepared(select(postings).where(postings.c.entry_id == bindparam("entry_id")).order_by(postings.c.line))
_ADD_ENTRY = Prepared(journal_entries.insert())
_ADD_POSTINGS = Prepared(postings.insert())
_REVERSAL_OF = Prepared(select(journal_entries.c.id).where(journal_entries.c.reverses_id == bindparam("entry_id")))


def open_account(unit: Unit, account_id: str, floor_microcredits: int | None, now: datetime) -> None:
    """Add the account unless it is there."""
    _OPEN_ACCOUNT.run(unit, id=account_id, floor=floor_microcredits, now=now)


class Known(NamedTuple):
    """What was done under a key: an entry, or change ``number`` of a hold."""

    kind: str
    id: str
    number: int
    input_hash: str


def find_key(unit: Unit, account_id: str, key: str) -> Known | None:
    row = _FIND_KEY.first(unit, account_id=account_id, key=key)
    return Known(*row) if row else None


def change_account(unit: Unit, account_id: str, *, posted: int = 0, held: int = 0) -> bool:
    """Add to what is posted and held, unless that would leave less than the floor."""
    return _CHANGE_ACCOUNT.run(unit, account_id=account_id, posted=posted, held=held) == 1


def add_balance(unit: Unit, account_id: str, origin: Origin, amount: int) -> None:
    _ADD_BALANCE.run(unit, account_id=account_id, origin=origin.value, amount=amount)


def balance(unit: Unit, account_id: str) -> tuple[Balance, int | None]:
    """The balance and the floor; zeros for an account that nobody opened."""
    rows = _BALANCE.all(unit, account_id=account_id)
    amounts = dict.fromkeys(Origin, 0)
    if not rows:
        return Balance(0, 0, amounts), 0
    if rows[0].floor_microcredits is None:
        sums = _SUMS.all(unit, account_id=account_id)
        amounts |= {Origin(row.origin): int(row.amount) for row in sums}  # PostgreSQL sums integers to a Decimal
        return Balance(sum(amounts.values()), 0, amounts), None
    amounts |= {Origin(row.origin): row.of_origin for row in rows if row.origin is not None}
    return Balance(rows[0].posted_microcredits, rows[0].held_microcredits, amounts), rows[0].floor_microcredits


def hold(unit: Unit, hold_id: str) -> Hold | None:
    row = _HOLD.first(unit, hold_id=hold_id)
    return _hold(row) if row else None


def hold_and_key(unit: Unit, hold_id: str, key: str) -> tuple[Hold, Known | None, dict[Origin, int]] | None:
    """The hold, what ``key`` did before, and what its account has of each origin."""
    rows = _HOLD_AND_KEY.all(unit, hold_id=hold_id, key=key)
    if not rows:
        return None
    first, known = rows[0], None
    if first.entry_id is not None:
        known = Known("entry", first.entry_id, 0, first.entry_hash)
    elif first.changed_id is not None:
        known = Known("hold", first.changed_id, first.number, first.change_hash)
    return _hold(first), known, {Origin(row.origin): row.posted_microcredits for row in rows if row.origin is not None}


def _hold(row: Row[Any]) -> Hold:
    return Hold(
        row.id,
        row.account_id,
        HoldState(row.state),
        row.amount_microcredits,
        row.drawn_microcredits,
        row.memo,
        row.opened_at,
        row.closed_at,
    )


def hold_after(unit: Unit, hold_id: str, number: int) -> Hold:
    """The hold as its change ``number`` left it."""
    (now,) = _HOLD.all(unit, hold_id=hold_id)
    (then,) = _CHANGE.all(unit, hold_id=hold_id, nth=number)
    state = HoldState(then.state)
    closed_at = then.at if state is HoldState.CLOSED else None
    return Hold(
        hold_id,
        now.account_id,
        state,
        then.amount_microcredits,
        then.drawn_microcredits,
        now.memo,
        now.opened_at,
        closed_at,
    )


def add_hold(unit: Unit, hold: Hold) -> None:
    _ADD_HOLD.run(
        unit,
        id=hold.id,
        account_id=hold.account_id,
        state=hold.state.value,
        amount_microcredits=hold.amount_microcredits,
        drawn_microcredits=hold.drawn_microcredits,
        memo=hold.memo,
        opened_at=hold.opened_at,
    )


def save_hold(unit: Unit, hold: Hold) -> None:
    """Store a hold that was open until now."""
    saved = _SAVE_HOLD.run(
        unit,
        hold_id=hold.id,
        new_state=hold.state.value,
        amount=hold.amount_microcredits,
        drawn=hold.drawn_microcredits,
        closed=hold.closed_at,
    )
    assert saved == 1, "a hold that was open in this transaction stays so"


def draw_hold(unit: Unit, hold_id: str, amount: int) -> bool:
    return _DRAW_HOLD.run(unit, hold_id=hold_id, amount=amount) == 1


def add_change(unit: Unit, hold: Hold, *, verb: str, key: str | None, input_hash: str, now: datetime) -> None:
    first = verb == "open"
    change = _ADD_FIRST_CHANGE if first else _ADD_CHANGE
    change.run(
        unit,
        hold_id=hold.id,
        **({} if first else {"of_hold": hold.id}),
        account_id=hold.account_id,
        verb=verb,
        key=key,
        input_hash=input_hash,
        state=hold.state.value,
        amount_microcredits=hold.amount_microcredits,
        drawn_microcredits=hold.drawn_microcredits,
        at=now,
    )


def entry(unit: Unit, entry_id: str) -> JournalEntry | None:
    row = _ENTRY.first(unit, entry_id=entry_id)
    if row is None:
        return None
    lines = _POSTINGS.all(unit, entry_id=entry_id)
    return JournalEntry(
        row.id,
        EntryKind(row.kind),
        row.account_id,
        row.at,
        row.memo,
        row.key,
        row.hold_id,
        row.reverses_id,
        tuple(Posting(line.account_id, Origin(line.origin), line.amount_microcredits) for line in lines),
    )


def is_reversed(unit: Unit, entry_id: str) -> bool:
    return _REVERSAL_OF.first(unit, entry_id=entry_id) is not None


def add_entry(unit: Unit, entry: JournalEntry, input_hash: str) -> None:
    _ADD_ENTRY.run(
        unit,
        id=entry.id,
        kind=entry.kind.value,
        account_id=entry.account_id,
        at=entry.at,
        memo=entry.memo,
        key=entry.key,
        input_hash=input_hash,
        hold_id=entry.hold_id,
        reverses_id=entry.reverses_id,
    )
    _ADD_POSTINGS.run_many(
        unit,
        [
            {
                "entry_id": entry.id,
                "line": line,
                "account_id": posting.account_id,
                "origin": posting.origin.value,
                "amount_microcredits": posting.amount_microcredits,
                "at": entry.at,
            }
            for line, posting in enumerate(entry.postings)
        ],
    )


def statement(unit: Unit, account_id: str, before: tuple[datetime, str] | None, limit: int) -> list[StatementLine]:
    """The newest ``limit`` entries of an account older than ``before``, one line for each entry."""
    own = postings.c.account_id == account_id
    page = select(postings.c.at, postings.c.entry_id).where(own).distinct()
    if before is not None:
        moment = literal(before[0], UtcDateTime)
        page = page.where(tuple_(postings.c.at, postings.c.entry_id) < tuple_(moment, literal(before[1])))
    chosen = page.order_by(postings.c.at.desc(), postings.c.entry_id.desc()).limit(limit).subquery()
    entries = journal_entries
    rows = unit.connection.execute(
        select(entries, postings.c.origin, postings.c.amount_microcredits)
        .select_from(
            chosen.join(entries, entries.c.id == chosen.c.entry_id).join(postings, postings.c.entry_id == entries.c.id)
        )
        .where(own)
        .order_by(entries.c.at.desc(), entries.c.id.desc(), postings.c.line)
    )
    of_entry: dict[str, list[Row[Any]]] = {}
    for row in rows:
        of_entry.setdefault(row.id, []).append(row)
    return [_line(lines) for lines in of_entry.values()]


def _line(rows: list[Row[Any]]) -> StatementLine:
    first = rows[0]
    amounts = {Origin(row.origin): row.amount_microcredits for row in rows}
    return StatementLine(
        first.id,
        first.at,
        EntryKind(first.kind),
        sum(amounts.values()),
        first.memo,
        Origin(first.origin) if len(amounts) == 1 else None,
        amounts,
        first.hold_id,
    )
