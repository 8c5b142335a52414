"""Leases, placements and claimed devices in SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    text,
    update,
)

from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.core.prepared import Prepared
from computehub_ext.leases.berths import Berth, BerthState, Losses
from computehub_ext.leases.model import LIVE, EndReason, Lease, LeaseState, Placement, PlacementState

leases = Table(
    "leases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("booking_id", String(40), ForeignKey("bookings.id"), nullable=False),
    Column("hold_id", String(40), ForeignKey("holds.id"), nullable=False),
    Column("person_id", String(40), ForeignKey("people.id"), nullable=False),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("model", String(80), nullable=False),
    Column("count", Integer, nullable=False),
    Column("rate_microcredits_per_hour", BigInteger, nullable=False),
    Column("kernel_id", String(80), nullable=False),
    Column("notebook_path", Text),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("idle_timeout_seconds", Integer, nullable=False),
    Column("on_the_spot", Boolean, nullable=False),
    Column("started_at", UtcDateTime),
    Column("billed_from_at", UtcDateTime),
    Column("paid_until", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("end_reason", String(24)),
    Column("end_message", Text),
    Column("posted_microcredits", BigInteger, nullable=False),
    Column("busy", Boolean, nullable=False),
    Column("last_activity_at", UtcDateTime),
    Column("warned", String(120), nullable=False),
    CheckConstraint("posted_microcredits >= 0", name="posted_not_negative"),
    Index("leases_person", "person_id", "created_at"),
    Index(None, "hold_id"),
    # One live lease a kernel: two would bill one notebook twice.
    Index(
        "leases_one_live_per_kernel",
        "kernel_id",
        unique=True,
        sqlite_where=text("state <> 'closed'"),
        postgresql_where=text("state <> 'closed'"),
    ),
)

placements = Table(
    "placements",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("lease_id", String(40), ForeignKey("leases.id"), nullable=False, index=True),
    Column("backend", String(40), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("warm", Boolean, nullable=False),
    Column("ended_at", UtcDateTime),
    # What the place told of it, as JSON text: an image's digest, a job's number.
    Column("details", Text),
)

# The primary key is the rule: a device serves one placement at a time.
device_claims = Table(
    "device_claims",
    metadata,
    Column("device_id", String(40), ForeignKey("devices.id"), primary_key=True),
    Column("placement_id", String(40), ForeignKey("placements.id"), nullable=False, index=True),
)

# What is asked of a place before there is a lease: the id is that of the placement which it may become.
berths = Table(
    "berths",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("booking_id", String(40), ForeignKey("bookings.id"), nullable=False, index=True),
    Column("backend", String(40), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("model", String(80), nullable=False),
    Column("count", Integer, nullable=False),
    Column("username", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("kept_until", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("ready_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("message", Text),
)

_ADD_LEASE = Prepared(insert(leases))
_SAVE_LEASE = Prepared(update(leases).where(leases.c.id == bindparam("lease_id")))
_LEASE = Prepared(select(leases).where(leases.c.id == bindparam("lease_id")))
_LIVE_OF_KERNEL = Prepared(
    select(leases).where(leases.c.kernel_id == bindparam("kernel_id"), leases.c.state != LeaseState.CLOSED.value)
)
_OF_BOOKING = Prepared(
    select(leases).where(leases.c.booking_id == bindparam("booking_id")).order_by(leases.c.created_at.desc()).limit(1)
)
_ADD_PLACEMENT = Prepared(insert(placements))
_PLACEMENT = Prepared(select(placements).where(placements.c.id == bindparam("placement_id")))
_PLACEMENTS_OF = Prepared(
    select(placements)
    .where(placements.c.lease_id == bindparam("lease_id"))
    .order_by(placements.c.created_at, placements.c.id)
)
_OPEN_PLACEMENTS = Prepared(select(placements).where(placements.c.state != PlacementState.ENDED.value))
_ADD_BERTH = Prepared(insert(berths))
_OPEN_BERTHS = Prepared(
    select(berths).where(berths.c.state == BerthState.ASKED.value).order_by(berths.c.created_at, berths.c.id)
)
_OPEN_BERTH_OF = Prepared(
    select(berths)
    .where(berths.c.booking_id == bindparam("booking_id"), berths.c.state == BerthState.ASKED.value)
    .order_by(berths.c.created_at, berths.c.id)
)
_BERTH_IS_OPEN = Prepared(
    select(berths.c.id).where(berths.c.id == bindparam("berth_id"), berths.c.state == BerthState.ASKED.value)
)
_ADD_CLAIM = Prepared(insert(device_claims))
_CLAIMS = Prepared(select(device_claims.c.device_id))
_CLAIMS_OF = Prepared(
    select(device_claims.c.device_id).where(device_claims.c.placement_id == bindparam("placement_id"))
)


def _lease_row(lease: Lease) -> dict[str, Any]:
    row = {column.name: getattr(lease, column.name, None) for column in leases.columns}
    row["idle_timeout_seconds"] = int(lease.idle_timeout.total_seconds())
    row["state"] = lease.state.value
    row["end_reason"] = lease.end_reason.value if lease.end_reason else None
    row["warned"] = ",".join(sorted(lease.warned))
    return row


def _lease(row: Any) -> Lease:
    values = row._asdict()
    values["idle_timeout"] = timedelta(seconds=values.pop("idle_timeout_seconds"))
    values["state"] = LeaseState(values["state"])
    values["end_reason"] = EndReason(values["end_reason"]) if values["end_reason"] else None
    values["warned"] = frozenset(filter(None, values["warned"].split(",")))
    return Lease(**values)


def _placement(row: Any) -> Placement:
    details = json.loads(row.details) if row.details else {}
    return Placement(**{**row._asdict(), "state": PlacementState(row.state), "details": details})


def add_lease(unit: Unit, lease: Lease) -> None:
    _ADD_LEASE.run(unit, **_lease_row(lease))


def save_lease(unit: Unit, lease: Lease) -> None:
    _SAVE_LEASE.run(unit, lease_id=lease.id, **_lease_row(lease))


def lease(unit: Unit, lease_id: str) -> Lease | None:
    row = _LEASE.first(unit, lease_id=lease_id)
    return _lease(row) if row else None


def live_lease_of_kernel(unit: Unit, kernel_id: str) -> Lease | None:
    row = _LIVE_OF_KERNEL.first(unit, kernel_id=kernel_id)
    return _lease(row) if row else None


def lease_of_booking(unit: Unit, booking_id: str) -> Lease | None:
    row = _OF_BOOKING.first(unit, booking_id=booking_id)
    return _lease(row) if row else None


def in_states(unit: Unit, states: Iterable[LeaseState] = LIVE) -> list[Lease]:
    query = select(leases).where(leases.c.state.in_([s.value for s in states])).order_by(leases.c.created_at)
    return [_lease(row) for row in unit.connection.execute(query)]


def of_person(
    unit: Unit, person_id: str | None, *, is_open: bool | None, before: tuple[datetime, str] | None, limit: int
) -> list[Lease]:
    query = select(leases).order_by(leases.c.created_at.desc(), leases.c.id.desc()).limit(limit)
    if person_id is not None:
        query = query.where(leases.c.person_id == person_id)
    if is_open is not None:
        closed = leases.c.state == LeaseState.CLOSED.value
        query = query.where(not_(closed) if is_open else closed)
    if before is not None:
        at, lease_id = before
        query = query.where(or_(leases.c.created_at < at, and_(leases.c.created_at == at, leases.c.id < lease_id)))
    return [_lease(row) for row in unit.connection.execute(query)]


def ids_by_hold(unit: Unit, hold_ids: Iterable[str]) -> dict[str, str]:
    """The lease that each hold pays for, newest where a booking had several; holds without one are left out."""
    query = select(leases.c.hold_id, leases.c.id).where(leases.c.hold_id.in_(set(hold_ids)))
    return {row.hold_id: row.id for row in unit.connection.execute(query.order_by(leases.c.created_at))}


def closed_of_notebook(unit: Unit, person_id: str, notebook_path: str, limit: int) -> list[Lease]:
    query = (
        select(leases)
        .where(
            leases.c.person_id == person_id,
            leases.c.notebook_path == notebook_path,
            leases.c.state == LeaseState.CLOSED.value,
            leases.c.started_at.is_not(None),
        )
        .order_by(leases.c.created_at.desc())
        .limit(limit)
    )
    return [_lease(row) for row in unit.connection.execute(query)]


def add_placement(unit: Unit, placement: Placement, device_ids: Iterable[str]) -> None:
    row = {column.name: getattr(placement, column.name) for column in placements.columns}
    _ADD_PLACEMENT.run(unit, **{**row, "state": placement.state.value, "details": None})
    _ADD_CLAIM.run_many(unit, [{"device_id": device_id, "placement_id": placement.id} for device_id in device_ids])


def placement(unit: Unit, placement_id: str) -> Placement | None:
    row = _PLACEMENT.first(unit, placement_id=placement_id)
    return _placement(row) if row else None


def placements_of(unit: Unit, lease_id: str) -> list[Placement]:
    return [_placement(row) for row in _PLACEMENTS_OF.all(unit, lease_id=lease_id)]


def open_placements(unit: Unit) -> list[Placement]:
    return [_placement(row) for row in _OPEN_PLACEMENTS.all(unit)]


def wanted_ids(unit: Unit) -> set[str]:
    """What may run under our label: open placements, and berths that may become one."""
    return {each.id for each in open_placements(unit)} | {each.id for each in open_berths(unit)}


def placement_started(unit: Unit, placement_id: str, *, warm: bool, details: Mapping[str, str]) -> None:
    change = update(placements).where(
        placements.c.id == placement_id, placements.c.state == PlacementState.INTENDED.value
    )
    told = json.dumps(dict(details)) if details else None
    unit.connection.execute(change.values(state=PlacementState.STARTED.value, warm=warm, details=told))


def placement_ended(unit: Unit, placement_id: str, now: datetime) -> None:
    change = update(placements).where(placements.c.id == placement_id, placements.c.state != PlacementState.ENDED.value)
    unit.connection.execute(change.values(state=PlacementState.ENDED.value, ended_at=now))
    unit.connection.execute(delete(device_claims).where(device_claims.c.placement_id == placement_id))


def claimed_devices(unit: Unit, placement_id: str | None = None) -> list[str]:
    rows = _CLAIMS.all(unit) if placement_id is None else _CLAIMS_OF.all(unit, placement_id=placement_id)
    return [row.device_id for row in rows]


# -- berths ------------------------------------------------------------------------------------------------------------


def add_berth(unit: Unit, berth: Berth) -> None:
    row = {column.name: getattr(berth, column.name) for column in berths.columns}
    _ADD_BERTH.run(unit, **{**row, "state": berth.state.value})


def open_berths(unit: Unit) -> list[Berth]:
    """Those that are asked for, the oldest first."""
    return [_berth(row) for row in _OPEN_BERTHS.all(unit)]


def open_berth_of(unit: Unit, booking_id: str) -> Berth | None:
    row = _OPEN_BERTH_OF.first(unit, booking_id=booking_id)
    return _berth(row) if row else None


def berth_is_open(unit: Unit, berth_id: str) -> bool:
    """Whether it is still asked for: neither taken nor at its end."""
    return _BERTH_IS_OPEN.first(unit, berth_id=berth_id) is not None


def change_berth(unit: Unit, berth_id: str, **values: Any) -> bool:
    """Change one that is still asked for; False for one that came to its end meanwhile, which stays as it is."""
    change = update(berths).where(berths.c.id == berth_id, berths.c.state == BerthState.ASKED.value)
    return unit.connection.execute(change.values(**values)).rowcount > 0


def end_berth(unit: Unit, berth_id: str, state: BerthState, now: datetime, message: str | None = None) -> bool:
    return change_berth(unit, berth_id, state=state.value, ended_at=now, message=message)


def losses_of(unit: Unit, booking_ids: Iterable[str]) -> dict[str, Losses]:
    """How often each booking's berth was lost; bookings that lost none are left out."""
    query = (
        select(berths.c.booking_id, func.count(), func.max(berths.c.ended_at, type_=UtcDateTime))
        .where(berths.c.booking_id.in_(set(booking_ids)), berths.c.state == BerthState.LOST.value)
        .group_by(berths.c.booking_id)
    )
    return {booking_id: Losses(count, last_at) for booking_id, count, last_at in unit.connection.execute(query)}


def _berth(row: Any) -> Berth:
    return Berth(**{**row._asdict(), "state": BerthState(row.state)})
