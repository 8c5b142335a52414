"""The books as tables.

``journal_entries`` and ``postings`` are only ever added to; the sums in ``accounts`` and ``balances`` change in the
same transaction, and ``verify`` recomputes them. The checks are the last guard: whatever the code above does wrong, no
available balance is stored below its floor, and no hold is drawn beyond its amount. Accounts without a floor (the
system's) keep no sums, or every write of everybody would queue up for one row; theirs are added up when asked.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from computehub_ext.core.tables import UtcDateTime, metadata

_ID, _ACCOUNT_ID = String(40), String(80)

accounts = Table(
    "accounts",
    metadata,
    Column("id", _ACCOUNT_ID, primary_key=True),
    Column("floor_microcredits", BigInteger),
    Column("posted_microcredits", BigInteger, nullable=False),
    Column("held_microcredits", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint(
        "floor_microcredits IS NULL OR posted_microcredits - held_microcredits >= floor_microcredits", name="floor"
    ),
    CheckConstraint("held_microcredits >= 0", name="held"),
)

balances = Table(
    "balances",
    metadata,
    Column("account_id", _ACCOUNT_ID, ForeignKey(accounts.c.id), primary_key=True),
    Column("origin", String(16), primary_key=True),
    Column("posted_microcredits", BigInteger, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", _ACCOUNT_ID, ForeignKey(accounts.c.id), nullable=False, index=True),
    Column("state", String(8), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("drawn_microcredits", BigInteger, nullable=False),
    Column("memo", String(500), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("closed_at", UtcDateTime),
    CheckConstraint("drawn_microcredits >= 0 AND drawn_microcredits <= amount_microcredits", name="drawn"),
    CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed"),
)

# What was done to a hold, with the state that it was left in: the first answer to its key.
hold_changes = Table(
    "hold_changes",
    metadata,
    Column("hold_id", _ID, ForeignKey(holds.c.id), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("account_id", _ACCOUNT_ID, ForeignKey(accounts.c.id), nullable=False),
    Column("verb", String(16), nullable=False),
    Column("key", String(200)),
    Column("input_hash", String(80), nullable=False),
    Column("state", String(8), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("drawn_microcredits", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    UniqueConstraint("account_id", "key"),
)

journal_entries = Table(
    "journal_entries",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("account_id", _ACCOUNT_ID, ForeignKey(accounts.c.id), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("memo", String(500), nullable=False),
    Column("key", String(200), nullable=False),
    Column("input_hash", String(80), nullable=False),
    Column("hold_id", _ID, ForeignKey(holds.c.id), index=True),
    Column("reverses_id", _ID, ForeignKey("journal_entries.id"), unique=True),
    # Keys are each account's own: two people who choose the same one don't meet.
    UniqueConstraint("account_id", "key"),
)

postings = Table(
    "postings",
    metadata,
    Column("entry_id", _ID, ForeignKey(journal_entries.c.id), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("account_id", _ACCOUNT_ID, ForeignKey(accounts.c.id), nullable=False),
    Column("origin", String(16), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    CheckConstraint("amount_microcredits <> 0", name="amount"),
    Index(None, "account_id", "at", "entry_id"),
)
