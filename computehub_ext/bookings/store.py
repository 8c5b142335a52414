"""Bookings in SQL."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime
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
    Text,
    UniqueConstraint,
    and_,
    bindparam,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)

from computehub_ext.bookings.model import LIVE_STATES, Booking, BookingState
from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.core.prepared import Prepared
from computehub_ext.core.timespan import TimeSpan

bookings = Table(
    "bookings",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person_id", String(40), ForeignKey("people.id"), nullable=False),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("model", String(80), nullable=False),
    Column("count", Integer, nullable=False),
    Column("start_at", UtcDateTime, nullable=False),
    Column("end_at", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("hold_id", String(40), ForeignKey("holds.id"), nullable=False),
    Column("rate_microcredits_per_hour", BigInteger, nullable=False),
    Column("amount_microcredits", BigInteger, nullable=False),
    Column("notebook_path", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("key", String(200), nullable=False),
    Column("input_hash", String(80), nullable=False),
    # Of a row that the same transaction made. Not a foreign key: SQLite adds a named one by copying the table, which
    # leases and placements point at.
    Column("series_id", String(40)),
    CheckConstraint("count >= 1", name="count_positive"),
    CheckConstraint("end_at > start_at", name="ends_after_it_starts"),
    CheckConstraint("amount_microcredits >= 0", name="amount_not_negative"),
    UniqueConstraint("person_id", "key"),
    Index(None, "person_id", "created_at", "id"),
    Index(None, "person_id", "start_at"),
    Index(None, "state", "end_at"),
    Index(None, "series_id", "start_at"),
)

series = Table(
    "booking_series",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("person_id", String(40), ForeignKey("people.id"), nullable=False, index=True),
    Column("rrule", String(300), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # What was left out and what the clocks moved, as it was answered: JSON.
    Column("remarks", Text, nullable=False),
)

# One row for each change of a booking's end, so that a repeated request is known even after later changes.
resizes = Table(
    "booking_resizes",
    metadata,
    Column("booking_id", String(40), ForeignKey("bookings.id"), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("end_at", UtcDateTime, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

_LIVE = bookings.c.state.in_([state.value for state in LIVE_STATES])
_OF_PERSON = bookings.c.person_id == bindparam("person_id")

_ADD = Prepared(insert(bookings))
_SAVE = Prepared(update(bookings).where(bookings.c.id == bindparam("booking_id")))
_BY_ID = Prepared(select(bookings).where(bookings.c.id == bindparam("booking_id")))
_BY_KEY = Prepared(select(bookings).where(_OF_PERSON, bookings.c.key == bindparam("key")))
_AT = Prepared(
    select(bookings).where(
        _OF_PERSON,
        bookings.c.start_at == bindparam("start_at"),
        bookings.c.end_at == bindparam("end_at"),
        bookings.c.notebook_path.is_not_distinct_from(bindparam("notebook_path")),
        _LIVE,
    )
)
_LIVE_AFTER = Prepared(select(bookings).where(_LIVE, bookings.c.end_at > bindparam("after")))
_BEGINNING = Prepared(
    select(bookings)
    .where(_LIVE, bookings.c.end_at > bindparam("after"), bookings.c.start_at <= bindparam("before"))
    .order_by(bookings.c.start_at, bookings.c.id)
)
_COVERING = Prepared(
    select(bookings)
    .where(_OF_PERSON, _LIVE, bookings.c.start_at <= bindparam("at"), bookings.c.end_at > bindparam("at"))
    .order_by(bookings.c.end_at.desc(), bookings.c.id)
)
_UNUSED = Prepared(
    select(bookings)
    .where(
        bookings.c.state.in_([BookingState.HELD.value, BookingState.CONFIRMED.value]),
        bookings.c.start_at <= bindparam("now"),
    )
    .order_by(bookings.c.start_at, bookings.c.id)
)
_OF_SERIES = Prepared(
    select(bookings).where(bookings.c.series_id == bindparam("series_id")).order_by(bookings.c.start_at, bookings.c.id)
)
_ADD_SERIES = Prepared(insert(series))
_SERIES = Prepared(select(series).where(series.c.id == bindparam("series_id")))
_ADD_RESIZE = Prepared(insert(resizes))
_RESIZE = Prepared(
    select(resizes.c.end_at).where(resizes.c.booking_id == bindparam("booking_id"), resizes.c.key == bindparam("key"))
)


def add(unit: Unit, booking: Booking, *, key: str, input_hash: str) -> None:
    _ADD.run(unit, **_values(booking), key=key, input_hash=input_hash)


def save(unit: Unit, booking: Booking) -> None:
    _SAVE.run(unit, booking_id=booking.id, **_values(booking))


def load(unit: Unit, booking_id: str) -> Booking | None:
    row = _BY_ID.first(unit, booking_id=booking_id)
    return _booking(row) if row else None


def load_by_key(unit: Unit, person_id: str, key: str) -> tuple[Booking, str] | None:
    """The booking that this key made, and the hash of the input that it came with."""
    row = _BY_KEY.first(unit, person_id=person_id, key=key)
    return (_booking(row), row.input_hash) if row else None


def load_same(
    unit: Unit,
    *,
    person_id: str,
    models: Collection[str],
    span: TimeSpan,
    notebook_path: str | None,
    but: str | None = None,
) -> Booking | None:
    """A live booking of the same person, not ``but``, for one of these models, this time and this notebook."""
    rows = _AT.all(unit, person_id=person_id, start_at=span.start_at, end_at=span.end_at, notebook_path=notebook_path)
    return next((_booking(row) for row in rows if row.model in models and row.id != but), None)


def load_live(unit: Unit, *, after: datetime) -> list[Booking]:
    """Every booking that holds capacity at some time after a moment."""
    return [_booking(row) for row in _LIVE_AFTER.all(unit, after=after)]


def load_beginning(unit: Unit, *, now: datetime, before: datetime) -> list[Booking]:
    """The live bookings that begin before a moment, or have begun, and are not over; the first first."""
    return [_booking(row) for row in _BEGINNING.all(unit, after=now, before=before)]


def load_covering(unit: Unit, *, person_id: str, at: datetime) -> list[Booking]:
    """A person's live bookings whose time it is, the one that ends last first."""
    return [_booking(row) for row in _COVERING.all(unit, person_id=person_id, at=at)]


def load_unused(unit: Unit, *, now: datetime) -> list[Booking]:
    """Bookings that have begun, or are over, and that no lease uses."""
    return [_booking(row) for row in _UNUSED.all(unit, now=now)]


def load_by_start(
    unit: Unit,
    person_id: str,
    *,
    ends_after: datetime | None,
    starts_before: datetime | None,
    live_only: bool,
    over_at: datetime | None,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Booking]:
    """A person's bookings in the order of their start; ``after`` is the ``(start_at, id)`` of the last one seen."""
    query = select(bookings).where(bookings.c.person_id == person_id)
    if ends_after is not None:
        query = query.where(bookings.c.end_at > ends_after)
    if starts_before is not None:
        query = query.where(bookings.c.start_at < starts_before)
    if live_only:
        query = query.where(_LIVE)
    if over_at is not None:
        query = query.where(or_(not_(_LIVE), bookings.c.end_at <= over_at))
    if after is not None:
        at, booking_id = after
        later = bookings.c.start_at > at
        query = query.where(or_(later, and_(bookings.c.start_at == at, bookings.c.id > booking_id)))
    query = query.order_by(bookings.c.start_at, bookings.c.id).limit(limit)
    return [_booking(row) for row in unit.connection.execute(query)]


def load_newest(
    unit: Unit, person_id: str, *, before: tuple[datetime, str] | None, limit: int, over_at: datetime | None = None
) -> list[Booking]:
    """A person's bookings, newest first; with ``over_at`` only those that hold no time after that moment."""
    query = select(bookings).where(bookings.c.person_id == person_id)
    if over_at is not None:
        query = query.where(or_(not_(_LIVE), bookings.c.end_at <= over_at))
    if before is not None:
        at, booking_id = before
        older = bookings.c.created_at < at
        query = query.where(or_(older, and_(bookings.c.created_at == at, bookings.c.id < booking_id)))
    query = query.order_by(bookings.c.created_at.desc(), bookings.c.id.desc()).limit(limit)
    return [_booking(row) for row in unit.connection.execute(query)]


def add_series(
    unit: Unit, *, series_id: str, person_id: str, rrule: str, time_zone: str, created_at: datetime, remarks: str
) -> None:
    _ADD_SERIES.run(unit, id=series_id, person_id=person_id, rrule=rrule, time_zone=time_zone, created_at=created_at,
                    remarks=remarks)  # fmt: skip


def load_series(unit: Unit, series_id: str) -> Any | None:
    """The series as its row has it."""
    return _SERIES.first(unit, series_id=series_id)


def load_of_series(unit: Unit, series_id: str) -> list[Booking]:
    """The bookings of a series, soonest first."""
    return [_booking(row) for row in _OF_SERIES.all(unit, series_id=series_id)]


def add_resize(unit: Unit, *, booking_id: str, key: str, end_at: datetime, at: datetime) -> None:
    _ADD_RESIZE.run(unit, booking_id=booking_id, key=key, end_at=end_at, at=at)


def load_resize(unit: Unit, booking_id: str, key: str) -> datetime | None:
    """The end that this key asked for before."""
    row = _RESIZE.first(unit, booking_id=booking_id, key=key)
    return row.end_at if row else None


def begun(unit: Unit) -> float | None:
    """When this transaction began, by the monotonic clock; None where there is only one at a time (SQLite)."""
    if unit.connection.dialect.name != "postgresql":
        return None
    # The server's clock may differ from ours, a length of time does not.
    age = text("SELECT extract(epoch FROM clock_timestamp() - transaction_timestamp())::float8")
    seconds: float = unit.connection.execute(age).scalar_one()
    return time.monotonic() - seconds


def try_again(unit: Unit) -> None:
    """Have the database run this transaction once more, as after any race lost to another (PostgreSQL)."""
    message = "another booking came first"
    unit.connection.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = '40001'; END $$")


def _values(booking: Booking) -> dict[str, Any]:
    return {
        "id": booking.id,
        "person_id": booking.person_id,
        "pool_id": booking.pool_id,
        "model": booking.model,
        "count": booking.count,
        "start_at": booking.span.start_at,
        "end_at": booking.span.end_at,
        "state": booking.state.value,
        "hold_id": booking.hold_id,
        "rate_microcredits_per_hour": booking.rate_microcredits_per_hour,
        "amount_microcredits": booking.amount_microcredits,
        "notebook_path": booking.notebook_path,
        "created_at": booking.created_at,
        "changed_at": booking.changed_at,
        "series_id": booking.series_id,
    }


def _booking(row: Row[Any]) -> Booking:
    (booking_id, person_id, pool_id, model, count, start_at, end_at, state, hold_id, rate, amount, notebook_path,
     created_at, changed_at, _key, _input_hash, series_id) = row  # fmt: skip
    return Booking(
        booking_id,
        person_id,
        pool_id,
        model,
        count,
        TimeSpan(start_at, end_at),
        BookingState(state),
        hold_id,
        rate,
        amount,
        notebook_path,
        created_at,
        changed_at,
        series_id,
    )
