"""What there is to book."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from computehub_ext.core.database import Unit
from computehub_ext.core.errors import NotFound
from computehub_ext.core.ids import new_id
from computehub_ext.pools import store
from computehub_ext.pools.model import Device, DeviceSpec, Pool, PoolSpec, of_model

__all__ = [
    "Device",
    "DeviceSpec",
    "Pool",
    "PoolSpec",
    "devices_of",
    "get_pool",
    "list_pools",
    "pools_of_model",
    "sync_pools",
]


def sync_pools(unit: Unit, *, specs: Sequence[PoolSpec], now: datetime) -> list[Pool]:
    """Make the books say what was found, and return the pools that are offered from now on.

    A pool keeps its id as long as its name does. One that was not found is retired: its bookings stay readable and
    nothing fits into it any more. A device that is gone is kept too, as not healthy, since leases name it.
    """
    known = {pool.name: pool for pool in store.load_pools(unit, with_retired=True)}
    found = []
    for spec in specs:
        pool = Pool(
            id=known[spec.name].id if spec.name in known else new_id("pool"),
            name=spec.name,
            backend=spec.backend,
            model=spec.model,
            count=spec.count,
            rate_microcredits_per_hour=spec.rate_microcredits_per_hour,
            simulated=spec.simulated,
            memory_mib=spec.memory_mib,
        )
        if spec.name in known:
            store.save_pool(unit, pool)
        else:
            store.add_pool(unit, pool, now)
        _sync_devices(unit, pool, spec.devices)
        found.append(pool)
    for pool in store.load_pools(unit):
        if pool.name not in {spec.name for spec in specs}:
            store.retire_pool(unit, pool.id, now)
            _sync_devices(unit, pool, ())
    return found


def list_pools(unit: Unit) -> list[Pool]:
    """The pools on offer, cheapest first."""
    return store.load_pools(unit)


def get_pool(unit: Unit, pool_id: str) -> Pool:
    """One pool, on offer or retired."""
    pool = store.load_pool(unit, pool_id)
    if pool is None:
        raise NotFound(f"There is no pool {pool_id}.", pool_id=pool_id)
    return pool


def pools_of_model(unit: Unit, model: str) -> list[Pool]:
    """The pools that a person means by ``model``, cheapest first; ``Invalid`` names the models there are."""
    return of_model(list_pools(unit), model)


def devices_of(unit: Unit, pool_id: str) -> list[Device]:
    """The devices of a pool by their number, those that are gone included (``healthy`` is False)."""
    return store.load_devices(unit, pool_id)


def _sync_devices(unit: Unit, pool: Pool, specs: Sequence[DeviceSpec]) -> None:
    known = {device.uuid: device for device in store.load_devices(unit, pool.id)}
    for spec in specs:
        device = known.pop(spec.uuid, None)
        if device is None:
            store.add_device(unit, Device(new_id("dev"), pool.id, spec.index, spec.uuid, spec.name, healthy=True))
        else:
            store.save_device(unit, replace(device, index=spec.index, name=spec.name, healthy=True))
    for device in known.values():
        if device.healthy:
            store.save_device(unit, replace(device, healthy=False))
