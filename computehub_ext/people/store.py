"""People, what their kernels spent, and their approvals, as tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Row,
    String,
    Table,
    bindparam,
    func,
    select,
)

from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.core.prepared import Prepared
from computehub_ext.people.model import Approval, ApprovalState, Defaults, Person

_ID = String(40)

people = Table(
    "people",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("username", String(255), nullable=False, unique=True),
    Column("display_name", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # NULL follows the administrator's setting, also when that changes.
    Column("allowance_microcredits", BigInteger),
    Column("idle_timeout_seconds", Integer),
    Column("duration_seconds", Integer),
    Column("max_rate_microcredits_per_hour", BigInteger),
    Column("defaults_changed_at", UtcDateTime),
    CheckConstraint("allowance_microcredits >= 0", name="allowance"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("person_id", _ID, ForeignKey(people.c.id), nullable=False),
    Column("kernel_id", String(100)),
    Column("notebook_path", String(4096)),
    Column("purpose", String(500), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("input_hash", String(80), nullable=False),
    Index(None, "person_id", "created_at"),
)

spendings = Table(
    "spendings",
    metadata,
    Column("person_id", _ID, ForeignKey(people.c.id), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("input_hash", String(80), nullable=False),
    Column("purpose", String(500), nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("released_microcredits", BigInteger, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    # What was approved is no part of the allowance.
    Column("approval_id", _ID, ForeignKey(approvals.c.id), unique=True),
    # What the spending was for, once that exists: a booking's id.
    Column("reference", _ID, index=True),
    CheckConstraint("released_microcredits >= 0 AND released_microcredits <= amount_microcredits", name="released"),
    Index(None, "person_id", "at"),
)

_OF_PERSON = spendings.c.person_id == bindparam("person_id")

_BY_NAME = Prepared(select(people).where(people.c.username == bindparam("username")))
_BY_ID = Prepared(select(people).where(people.c.id == bindparam("person_id")))
_SPENT_SINCE = Prepared(
    select(
        func.coalesce(func.sum(spendings.c.amount_microcredits - spendings.c.released_microcredits), 0).label("spent")
    ).where(_OF_PERSON, spendings.c.at > bindparam("since"), spendings.c.approval_id.is_(None))
)
_SPENDING = Prepared(select(spendings).where(_OF_PERSON, spendings.c.key == bindparam("key")))
_ADD_SPENDING = Prepared(spendings.insert())


def find(unit: Unit, username: str) -> Person | None:
    row = _BY_NAME.first(unit, username=username)
    return _person(row) if row else None


def get(unit: Unit, person_id: str) -> tuple[Person, int | None] | None:
    """The person and the allowance of their own, if they chose one."""
    row = _BY_ID.first(unit, person_id=person_id)
    return (_person(row), row.allowance_microcredits) if row else None


def _person(row: Row[Any]) -> Person:
    defaults = Defaults(
        idle_timeout=_length(row.idle_timeout_seconds),
        duration=_length(row.duration_seconds),
        max_rate_microcredits_per_hour=row.max_rate_microcredits_per_hour,
        changed_at=row.defaults_changed_at,
    )
    return Person(row.id, row.username, row.display_name, row.created_at, defaults)


def _length(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def add(unit: Unit, person: Person) -> None:
    unit.connection.execute(
        people.insert(),
        {
            "id": person.id,
            "username": person.username,
            "display_name": person.display_name,
            "created_at": person.created_at,
        },
    )


def rename(unit: Unit, person_id: str, display_name: str) -> None:
    unit.connection.execute(people.update().where(people.c.id == person_id), {"display_name": display_name})


def set_allowance(unit: Unit, person_id: str, amount: int) -> None:
    unit.connection.execute(people.update().where(people.c.id == person_id), {"allowance_microcredits": amount})


def set_defaults(unit: Unit, person_id: str, chosen: Defaults) -> None:
    lengths = {"idle_timeout_seconds": chosen.idle_timeout, "duration_seconds": chosen.duration}
    values = {
        **{name: None if length is None else int(length.total_seconds()) for name, length in lengths.items()},
        "max_rate_microcredits_per_hour": chosen.max_rate_microcredits_per_hour,
        "defaults_changed_at": chosen.changed_at,
    }
    unit.connection.execute(people.update().where(people.c.id == person_id), values)


def spent_since(unit: Unit, person_id: str, since: datetime) -> int:
    """What kernels put on hold after ``since`` without an approval, less what flowed back."""
    return int(_SPENT_SINCE.all(unit, person_id=person_id, since=since)[0].spent)


def spending(unit: Unit, person_id: str, key: str) -> Row[Any] | None:
    return _SPENDING.first(unit, person_id=person_id, key=key)


def spendings_for(unit: Unit, reference: str) -> list[Row[Any]]:
    """Newest first: the last extension is what was not needed."""
    found = select(spendings).where(spendings.c.reference == reference).order_by(spendings.c.at.desc(), spendings.c.key)
    return list(unit.connection.execute(found))


def add_spending(unit: Unit, **values: Any) -> None:
    _ADD_SPENDING.run(unit, released_microcredits=0, **values)


def change_spending(unit: Unit, person_id: str, key: str, **values: Any) -> None:
    rows = spendings.c
    unit.connection.execute(spendings.update().where(rows.person_id == person_id, rows.key == key), values)


def approval(unit: Unit, approval_id: str) -> Approval | None:
    row = unit.connection.execute(select(approvals).where(approvals.c.id == approval_id)).first()
    return _approval(row) if row else None


def approvals_of(unit: Unit, person_id: str, limit: int) -> list[Approval]:
    own = select(approvals).where(approvals.c.person_id == person_id)
    rows = unit.connection.execute(own.order_by(approvals.c.created_at.desc(), approvals.c.id.desc()).limit(limit))
    return [_approval(row) for row in rows]


def open_approval(unit: Unit, person_id: str, input_hash: str, now: datetime) -> Approval | None:
    """One that was asked for the same and is not yet declined, used or expired; an approved one comes first."""
    rows = approvals.c
    found = (
        select(approvals)
        .where(rows.person_id == person_id, rows.input_hash == input_hash, rows.expires_at > now)
        .where(rows.state.in_([ApprovalState.PENDING.value, ApprovalState.APPROVED.value]))
        .order_by(rows.state, rows.created_at, rows.id)
    )
    row = unit.connection.execute(found).first()
    return _approval(row) if row else None


def count_pending(unit: Unit, person_id: str, now: datetime) -> int:
    rows = approvals.c
    pending = (rows.person_id == person_id, rows.state == ApprovalState.PENDING.value, rows.expires_at > now)
    return int(unit.connection.execute(select(func.count()).where(*pending)).scalar_one())


def add_approval(unit: Unit, approval: Approval, input_hash: str) -> None:
    unit.connection.execute(
        approvals.insert(),
        {
            "id": approval.id,
            "person_id": approval.person_id,
            "kernel_id": approval.kernel_id,
            "notebook_path": approval.notebook_path,
            "purpose": approval.purpose,
            "amount_microcredits": approval.amount_microcredits,
            "state": approval.state.value,
            "created_at": approval.created_at,
            "expires_at": approval.expires_at,
            "input_hash": input_hash,
        },
    )


def save_approval(unit: Unit, approval: Approval) -> None:
    unit.connection.execute(
        approvals.update().where(approvals.c.id == approval.id),
        {"state": approval.state.value, "decided_at": approval.decided_at},
    )


def _approval(row: Row[Any]) -> Approval:
    return Approval(
        row.id,
        row.person_id,
        row.kernel_id,
        row.notebook_path,
        row.purpose,
        row.amount_microcredits,
        ApprovalState(row.state),
        row.created_at,
        row.decided_at,
        row.expires_at,
    )
