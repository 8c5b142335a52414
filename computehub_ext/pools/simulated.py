"""Devices that are none, so that everything but CUDA works without a GPU. They are called simulated wherever shown."""

from __future__ import annotations

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.pools.model import DeviceSpec, PoolSpec

# model, devices, rate in thousandths of a credit per hour, memory; the T4 is the reference device
_MODELS = (
    ("T4", 2, 1_000, 15_360),
    ("V100", 1, 2_500, 16_384),
    ("A100", 1, 4_000, 81_920),
    ("A100-1g.10gb", 7, 800, 9_728),
)


def specs(backend: str = "local") -> list[PoolSpec]:
    """The pools that a machine without GPUs gets."""
    return [
        PoolSpec(
            name=f"simulated {model}",
            backend=backend,
            model=model,
            count=count,
            rate_microcredits_per_hour=rate * MICROCREDITS_PER_CREDIT // 1000,
            simulated=True,
            memory_mib=memory,
            devices=tuple(
                DeviceSpec(index, f"SIM-{model}-{index}".upper(), f"Simulated {model}") for index in range(count)
            ),
        )
        for model, count, rate, memory in _MODELS
    ]
