"""Pools as the control plane tells a place of them, so that it keeps kernels ready."""

from __future__ import annotations

from computehub_ext.pools.model import DeviceSpec, PoolSpec


def pool(model: str = "T4", *uuids: str) -> PoolSpec:
    """Return a pool of these GPUs; without any, one of four simulated ones."""
    devices = [
        DeviceSpec(index, uuid, model) for index, uuid in enumerate(uuids or ("SIM-0", "SIM-1", "SIM-2", "SIM-3"))
    ]
    return PoolSpec(
        name=f"{model} {' '.join(uuids)}",
        backend="place",
        model=model,
        count=len(devices),
        rate_microcredits_per_hour=1_000_000,
        simulated=not uuids,
        memory_mib=16_384,
        devices=tuple(devices),
    )
