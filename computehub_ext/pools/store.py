"""Pools and devices in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    insert,
    select,
    update,
)

from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.pools.model import Device, Pool

pools = Table(
    "pools",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("backend", String(40), nullable=False),
    Column("model", String(80), nullable=False),
    Column("count", Integer, nullable=False),
    Column("rate_microcredits_per_hour", BigInteger, nullable=False),
    Column("simulated", Boolean, nullable=False),
    Column("memory_mib", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Bookings name their pool for good, so a pool whose devices are gone is kept, and no longer offered.
    Column("retired_at", UtcDateTime),
    CheckConstraint("count >= 0", name="count_not_negative"),
    CheckConstraint("rate_microcredits_per_hour >= 0", name="rate_not_negative"),
)

devices = Table(
    "devices",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("index", Integer, nullable=False),
    Column("uuid", String(120), nullable=False),
    Column("name", String(120), nullable=False),
    Column("healthy", Boolean, nullable=False),
    UniqueConstraint("pool_id", "uuid"),
)


def add_pool(unit: Unit, pool: Pool, now: datetime) -> None:
    unit.connection.execute(insert(pools).values(**_pool_values(pool), created_at=now))


def save_pool(unit: Unit, pool: Pool) -> None:
    """Write the pool as it is now, offered again if it was retired."""
    unit.connection.execute(update(pools).where(pools.c.id == pool.id).values(**_pool_values(pool), retired_at=None))


def retire_pool(unit: Unit, pool_id: str, now: datetime) -> None:
    unit.connection.execute(update(pools).where(pools.c.id == pool_id).values(count=0, retired_at=now))


def load_pools(unit: Unit, *, with_retired: bool = False) -> list[Pool]:
    query = select(pools).order_by(pools.c.rate_microcredits_per_hour, pools.c.name)
    if not with_retired:
        query = query.where(pools.c.retired_at.is_(None))
    return [_pool(row) for row in unit.connection.execute(query)]


def load_pool(unit: Unit, pool_id: str) -> Pool | None:
    row = unit.connection.execute(select(pools).where(pools.c.id == pool_id)).first()
    return _pool(row) if row else None


def load_devices(unit: Unit, pool_id: str) -> list[Device]:
    query = select(devices).where(devices.c.pool_id == pool_id).order_by(devices.c["index"], devices.c.id)
    # By mapping: a row's own ``index`` and ``count`` are methods of tuples.
    rows = unit.connection.execute(query).mappings()
    return [Device(**{name: row[name] for name in Device.__dataclass_fields__}) for row in rows]


def add_device(unit: Unit, device: Device) -> None:
    unit.connection.execute(insert(devices).values(_device_values(device)))


def save_device(unit: Unit, device: Device) -> None:
    unit.connection.execute(update(devices).where(devices.c.id == device.id).values(_device_values(device)))


def _device_values(device: Device) -> dict[str, Any]:
    return {
        "id": device.id,
        "pool_id": device.pool_id,
        "index": device.index,
        "uuid": device.uuid,
        "name": device.name,
        "healthy": device.healthy,
    }


def _pool_values(pool: Pool) -> dict[str, Any]:
    return {
        "id": pool.id,
        "name": pool.name,
        "backend": pool.backend,
        "model": pool.model,
        "count": pool.count,
        "rate_microcredits_per_hour": pool.rate_microcredits_per_hour,
        "simulated": pool.simulated,
        "memory_mib": pool.memory_mib,
    }


def _pool(row: Row[Any]) -> Pool:
    values = row._mapping
    return Pool(**{name: values[name] for name in Pool.__dataclass_fields__})
