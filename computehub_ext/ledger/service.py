"""The use cases of the books. Each runs in the caller's transaction, and a refused one changes nothing.

Every write takes a ``key`` of the caller: the same key with the same input gets the first answer again, however often
it comes; with another input it is refused. Keys are each account's own.
"""

from __future__ import annotations

from datetime import datetime

from computehub_ext.core.credits import in_credits
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import IdempotencyMismatch, IllegalMove, InsufficientCredits, NotFound
from computehub_ext.core.ids import new_id
from computehub_ext.ledger import store
from computehub_ext.ledger.audit import verify
from computehub_ext.ledger.model import (
    SYSTEM_GRANTS,
    SYSTEM_USAGE,
    Balance,
    EntryKind,
    Hold,
    HoldState,
    JournalEntry,
    Origin,
    StatementLine,
    check_amount,
    check_key,
    input_hash,
    moved,
    spend,
    storable,
)

__all__ = [
    "balance",
    "close_hold",
    "draw",
    "find_hold",
    "grant",
    "held",
    "open_account",
    "open_hold",
    "resize_hold",
    "reverse",
    "statement",
    "verify",
]


def open_account(unit: Unit, *, account_id: str, floor_microcredits: int = 0, now: datetime) -> None:
    """Make the account if it isn't there; what is available on it never gets below ``floor_microcredits``."""
    store.open_account(unit, account_id, floor_microcredits, now)


def grant(
    unit: Unit, *, account_id: str, amount_microcredits: int, origin: Origin, key: str, memo: str, now: datetime
) -> JournalEntry:
    """Give an account credits; it is made if it isn't there."""
    check_amount(amount_microcredits, least=1)
    check_key(key)
    memo = storable(memo)
    origin = Origin(origin)
    digest = input_hash("grant", account_id=account_id, amount=amount_microcredits, origin=origin.value, memo=memo)
    if known := _known(unit, account_id, key, digest):
        return _entry(unit, known.id)
    open_account(unit, account_id=account_id, now=now)
    for system in (SYSTEM_GRANTS, SYSTEM_USAGE):
        store.open_account(unit, system, None, now)
    postings = moved([(origin, amount_microcredits)], source=SYSTEM_GRANTS, target=account_id)
    entry = JournalEntry(new_id("entry"), EntryKind.GRANT, account_id, now, memo, key, None, None, postings)
    _post(unit, entry, digest)
    return entry


def open_hold(unit: Unit, *, account_id: str, amount_microcredits: int, key: str, memo: str, now: datetime) -> Hold:
    """Set credits aside.

    Raises
    ------
    InsufficientCredits
        Less is available; the details say how much, and how much was needed.
    """
    check_amount(amount_microcredits, least=0)
    check_key(key)
    memo = storable(memo)
    digest = input_hash("open_hold", account_id=account_id, amount=amount_microcredits, memo=memo)
    if known := _known(unit, account_id, key, digest):
        return store.hold_after(unit, known.id, known.number)
    if not store.change_account(unit, account_id, held=amount_microcredits):
        raise _insufficient(unit, account_id, amount_microcredits)
    hold = Hold(new_id("hold"), account_id, HoldState.OPEN, amount_microcredits, 0, memo, now)
    store.add_hold(unit, hold)
    store.add_change(unit, hold, verb="open", key=key, input_hash=digest, now=now)
    return hold


def resize_hold(unit: Unit, *, hold_id: str, amount_microcredits: int, key: str, now: datetime) -> Hold:
    """Set more aside, or less, but never less than was drawn.

    Raises
    ------
    InsufficientCredits
        The account has not as much more available.
    """
    check_amount(amount_microcredits, least=0)
    check_key(key)
    digest = input_hash("resize_hold", hold_id=hold_id, amount=amount_microcredits)
    hold, known, _ = _hold_and_key(unit, hold_id, key, digest)
    if known:
        return store.hold_after(unit, known.id, known.number)
    resized = hold.resized(amount_microcredits)
    more = resized.held_microcredits - hold.held_microcredits
    if not store.change_account(unit, hold.account_id, held=more):
        raise _insufficient(unit, hold.account_id, more)
    store.save_hold(unit, resized)
    store.add_change(unit, resized, verb="resize", key=key, input_hash=digest, now=now)
    return resized


def draw(unit: Unit, *, hold_id: str, amount_microcredits: int, key: str, memo: str, now: datetime) -> JournalEntry:
    """Move credits that the hold set aside to the system's usage, granted ones first, then purchased, then earned."""
    check_amount(amount_microcredits, least=1)
    check_key(key)
    memo = storable(memo)
    digest = input_hash("draw", hold_id=hold_id, amount=amount_microcredits, memo=memo)
    hold, known, by_origin = _hold_and_key(unit, hold_id, key, digest)
    if known:
        return _entry(unit, known.id)
    hold.drawn(amount_microcredits)
    parts = spend(by_origin, amount_microcredits)
    postings = moved(parts, source=hold.account_id, target=SYSTEM_USAGE)
    entry = JournalEntry(new_id("entry"), EntryKind.DRAW, hold.account_id, now, memo, key, hold_id, None, postings)
    drawn = store.draw_hold(unit, hold_id, amount_microcredits)
    assert drawn, "a hold that was open in this transaction stays so"
    _post(unit, entry, digest, held=-amount_microcredits)
    return entry


def close_hold(unit: Unit, *, hold_id: str, now: datetime) -> Hold:
    """Release what was not drawn. Once: closing a closed hold is an IllegalMove."""
    hold = find_hold(unit, hold_id)
    closed = hold.closed(now)
    store.save_hold(unit, closed)
    released = store.change_account(unit, hold.account_id, held=-hold.held_microcredits)
    assert released, "releasing a hold can't leave less available"
    digest = input_hash("close_hold", hold_id=hold_id)
    store.add_change(unit, closed, verb="close", key=None, input_hash=digest, now=now)
    return closed


def reverse(unit: Unit, *, entry_id: str, key: str, memo: str, now: datetime) -> JournalEntry:
    """Post the opposite of an entry, once.

    Credits of a reversed draw become available again; what the hold says was drawn stays, since a meter that posts
    "all so far, less what was posted" would otherwise charge it a second time.

    Raises
    ------
    IllegalMove
        The entry was reversed before, or is a reversal.
    InsufficientCredits
        A grant is taken back of which too much is spent or held.
    """
    check_key(key)
    memo = storable(memo)
    entry = _entry(unit, entry_id)
    digest = input_hash("reverse", entry_id=entry_id, memo=memo)
    if known := _known(unit, entry.account_id, key, digest):
        return _entry(unit, known.id)
    postings = entry.reversed_postings()
    if store.is_reversed(unit, entry_id):
        raise IllegalMove("The entry has been reversed already.", entry_id=entry_id)
    reversal = JournalEntry(
        new_id("entry"), EntryKind.REVERSAL, entry.account_id, now, memo, key, None, entry_id, postings
    )
    _post(unit, reversal, digest)
    return reversal


def balance(unit: Unit, account_id: str) -> Balance:
    """What the account has; zeros for one that nobody opened."""
    return store.balance(unit, account_id)[0]


def find_hold(unit: Unit, hold_id: str) -> Hold:
    found = store.hold(unit, hold_id)
    if found is None:
        raise _no_hold(hold_id)
    return found


def held(unit: Unit, hold_id: str) -> int:
    """Microcredits that the hold still sets aside; zero once it is closed."""
    return find_hold(unit, hold_id).held_microcredits


def statement(
    unit: Unit, account_id: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
) -> list[StatementLine]:
    """The account's entries, newest first; ``before`` is the ``(at, entry_id)`` of the last line seen."""
    return store.statement(unit, account_id, before, limit)


def _known(unit: Unit, account_id: str, key: str, digest: str) -> store.Known | None:
    """What this key did before, if it came before; refuse it if it came with something else."""
    return _same(store.find_key(unit, account_id, key), key, digest)


def _hold_and_key(
    unit: Unit, hold_id: str, key: str, digest: str
) -> tuple[Hold, store.Known | None, dict[Origin, int]]:
    found = store.hold_and_key(unit, hold_id, key)
    if found is None:
        raise _no_hold(hold_id)
    hold, known, by_origin = found
    return hold, _same(known, key, digest), by_origin


def _same(known: store.Known | None, key: str, digest: str) -> store.Known | None:
    if known is not None and known.input_hash != digest:
        raise IdempotencyMismatch("This key was used before, for something else.", key=key)
    return known


def _no_hold(hold_id: str) -> NotFound:
    return NotFound(f"There is no hold {hold_id}.", hold_id=hold_id)


def _entry(unit: Unit, entry_id: str) -> JournalEntry:
    found = store.entry(unit, entry_id)
    if found is None:
        raise NotFound(f"There is no entry {entry_id}.", entry_id=entry_id)
    return found


def _post(unit: Unit, entry: JournalEntry, digest: str, *, held: int = 0) -> None:
    """Write the entry and move its account's sums; the one step that may be refused comes first."""
    if not store.change_account(unit, entry.account_id, posted=entry.amount_microcredits, held=held):
        raise _insufficient(unit, entry.account_id, -entry.amount_microcredits)
    store.add_entry(unit, entry, digest)
    for posting in entry.postings:
        if posting.account_id == entry.account_id:
            store.add_balance(unit, posting.account_id, posting.origin, posting.amount_microcredits)


def _insufficient(unit: Unit, account_id: str, needed: int) -> InsufficientCredits:
    owned, floor = store.balance(unit, account_id)
    spendable = owned.available_microcredits - (floor or 0)
    return InsufficientCredits(
        f"This needs {in_credits(needed)} credits; {in_credits(spendable)} are available.",
        available_microcredits=spendable,
        needed_microcredits=needed,
    )
