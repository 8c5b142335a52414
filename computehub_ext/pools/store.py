"""Pools and devices in SQL."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    insert,
    select,
    update,
)

from computehub_ext.core.database import Unit, UtcDateTime, metadata
from computehub_ext.core.prepared import Prepared
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

# In the order of the dataclasses' fields, so that a row is one.
_POOL = [pools.c[name] for name in Pool.__dataclass_fields__]
_DEVICE = [devices.c[name] for name in Device.__dataclass_fields__]

_POOLS = Prepared(select(*_POOL).order_by(pools.c.rate_microcredits_per_hour, pools.c.name))
_OFFERED = Prepared(
    select(*_POOL).where(pools.c.retired_at.is_(None)).order_by(pools.c.rate_microcredits_per_hour, pools.c.name)
)
_BY_ID = Prepared(select(*_POOL).where(pools.c.id == bindparam("pool_id")))
_DEVICES = Prepared(
    select(*_DEVICE).where(devices.c.pool_id == bindparam("pool_id")).order_by(devices.c["index"], devices.c.id)
)


def add_pool(unit: Unit, pool: Pool, now: datetime) -> None:
    unit.connection.execute(insert(pools).values(**_pool_values(pool), created_at=now))
    unit.seen.pop(_OFFERED, None)


def save_pool(unit: Unit, pool: Pool) -> None:
    """Write the pool as it is now, offered again if it was retired."""
    unit.connection.execute(update(pools).where(pools.c.id == pool.id).values(**_pool_values(pool), retired_at=None))
    unit.seen.pop(_OFFERED, None)


def retire_pool(unit: Unit, pool_id: str, now: datetime) -> None:
    unit.connection.execute(update(pools).where(pools.c.id == pool_id).values(count=0, retired_at=now))
    unit.seen.pop(_OFFERED, None)


def load_pools(unit: Unit, *, with_retired: bool = False) -> list[Pool]:
    if with_retired:
        return [_pool(*row) for row in _POOLS.all(unit)]
    # Every booking looks at them, more than once; within a transaction nobody but itself could have changed them.
    offered: dict[str, Pool] | None = unit.seen.get(_OFFERED)
    if offered is None:
        offered = unit.seen[_OFFERED] = {pool.id: pool for pool in (_pool(*row) for row in _OFFERED.all(unit))}
    return list(offered.values())


def load_pool(unit: Unit, pool_id: str) -> Pool | None:
    offered: dict[str, Pool] = unit.seen.get(_OFFERED, {})
    if pool_id in offered:
        return offered[pool_id]
    row = _BY_ID.first(unit, pool_id=pool_id)
    return _pool(*row) if row else None


_pool = lru_cache(maxsize=1024, typed=True)(Pool)
"""Equal rows share one value: the same few pools are looked at for every booking."""


def load_devices(unit: Unit, pool_id: str) -> list[Device]:
    return [Device(*row) for row in _DEVICES.all(unit, pool_id=pool_id)]


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
