"""Recompute the books from their entries, and say what does not agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row, func, select

from computehub_ext.core.database import Unit
from computehub_ext.ledger.model import EntryKind, HoldState, Origin, input_hash
from computehub_ext.ledger.tables import accounts, balances, hold_changes, holds, journal_entries, postings


def verify(unit: Unit) -> list[str]:
    """Problems, each a sentence; empty when every sum, state and hash agrees with the entries."""
    return [
        *_entries(unit),
        *_accounts(unit),
        *_holds(unit),
    ]


def _entries(unit: Unit) -> Iterator[str]:
    lines = _postings_by_entry(unit)
    entries = {row.id: row for row in unit.connection.execute(select(journal_entries))}
    for entry_id, entry in entries.items():
        own = lines.pop(entry_id, [])
        if not own:
            yield f"Entry {entry_id} has no postings."
        sums: dict[str, int] = defaultdict(int)
        for line in own:
            sums[line.origin] += line.amount_microcredits
        for origin, total in sums.items():
            if total:
                yield f"Entry {entry_id} does not balance: {total} microcredits of {origin} too many."
        if entry.input_hash != _expected_hash(entry, own):
            yield f"Entry {entry_id} is not what was asked for: its hash differs."
        if entry.reverses_id is not None:
            both = own + _postings_by_entry(unit, entry.reverses_id).get(entry.reverses_id, [])
            net: dict[tuple[str, str], int] = defaultdict(int)
            for line in both:
                net[line.account_id, line.origin] += line.amount_microcredits
            if any(net.values()):
                yield f"Entry {entry_id} does not undo {entry.reverses_id}, which it reverses."
    for entry_id in lines:
        yield f"Postings name an entry that does not exist: {entry_id}."


def _postings_by_entry(unit: Unit, entry_id: str | None = None) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {}
    wanted = select(postings).order_by(postings.c.entry_id, postings.c.line)
    if entry_id is not None:
        wanted = wanted.where(postings.c.entry_id == entry_id)
    for row in unit.connection.execute(wanted):
        found.setdefault(row.entry_id, []).append(row)
    return found


def _expected_hash(entry: Row[Any], lines: list[Row[Any]]) -> str:
    own = [line for line in lines if line.account_id == entry.account_id]
    amount = sum(line.amount_microcredits for line in own)
    match EntryKind(entry.kind):
        case EntryKind.GRANT:
            origin = own[0].origin if own else ""
            return input_hash("grant", account_id=entry.account_id, amount=amount, origin=origin, memo=entry.memo)
        case EntryKind.DRAW:
            return input_hash("draw", hold_id=entry.hold_id, amount=-amount, memo=entry.memo)
        case EntryKind.REVERSAL:
            return input_hash("reverse", entry_id=entry.reverses_id, memo=entry.memo)


def _accounts(unit: Unit) -> Iterator[str]:
    posted: dict[str, int] = defaultdict(int)
    of_origin: dict[tuple[str, str], int] = defaultdict(int)
    amount = func.sum(postings.c.amount_microcredits)
    sums = select(postings.c.account_id, postings.c.origin, amount).group_by(postings.c.account_id, postings.c.origin)
    for account_id, origin, total in unit.connection.execute(sums):
        posted[account_id] += int(total)
        of_origin[account_id, origin] += int(total)
    held: dict[str, int] = defaultdict(int)
    still = func.sum(holds.c.amount_microcredits - holds.c.drawn_microcredits)
    open_holds = select(holds.c.account_id, still).where(holds.c.state == HoldState.OPEN.value)
    for account_id, total in unit.connection.execute(open_holds.group_by(holds.c.account_id)):
        held[account_id] = int(total)
    kept = {(row.account_id, row.origin): row.posted_microcredits for row in unit.connection.execute(select(balances))}
    for account in unit.connection.execute(select(accounts)):
        if account.floor_microcredits is None:
            continue  # its sums are not stored
        if account.posted_microcredits != posted[account.id]:
            yield f"Account {account.id} says {account.posted_microcredits}; its postings sum to {posted[account.id]}."
        if account.held_microcredits != held[account.id]:
            yield f"Account {account.id} says {account.held_microcredits} held; its holds sum to {held[account.id]}."
        if account.posted_microcredits - account.held_microcredits < account.floor_microcredits:
            yield f"Account {account.id} is below its floor."
        for origin in Origin:
            stored, summed = kept.get((account.id, origin), 0), of_origin[account.id, origin]
            if stored != summed:
                yield f"Account {account.id} says {stored} {origin}; its postings sum to {summed}."


def _holds(unit: Unit) -> Iterator[str]:
    drawn: dict[str, int] = defaultdict(int)
    draws = (
        select(journal_entries.c.hold_id, func.sum(postings.c.amount_microcredits))
        .join(postings, postings.c.entry_id == journal_entries.c.id)
        .where(journal_entries.c.kind == EntryKind.DRAW.value, postings.c.account_id == journal_entries.c.account_id)
        .group_by(journal_entries.c.hold_id)
    )
    for hold_id, total in unit.connection.execute(draws):
        drawn[hold_id] = -int(total)
    latest: dict[str, Row[Any]] = {}
    for change in unit.connection.execute(select(hold_changes).order_by(hold_changes.c.hold_id, hold_changes.c.number)):
        latest[change.hold_id] = change
    for hold in unit.connection.execute(select(holds)):
        if hold.drawn_microcredits != drawn[hold.id]:
            yield f"Hold {hold.id} says {hold.drawn_microcredits} drawn; its draws sum to {drawn[hold.id]}."
        if not 0 <= hold.drawn_microcredits <= hold.amount_microcredits:
            yield f"Hold {hold.id} is drawn beyond its amount."
        last = latest.get(hold.id)
        if last is None or (last.state, last.amount_microcredits) != (hold.state, hold.amount_microcredits):
            yield f"Hold {hold.id} is not as its last change left it."
