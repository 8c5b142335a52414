"""What devices say about themselves at a moment. Shown to people; never billed by."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import cos, pi
from typing import Any

from computehub_ext.pools.model import Device
from computehub_ext.pools.nvml import running

_WAVE_SECONDS = 240


@dataclass(frozen=True)
class Reading:
    """One device at one moment; None where it can't say (a slice knows neither its load nor its power)."""

    device_id: str
    at: datetime
    utilisation_percent: int | None
    memory_used_mib: int | None
    memory_total_mib: int | None
    temperature_celsius: int | None
    power_watts: float | None
    simulated: bool


def read_nvml(devices: Sequence[Device], *, at: datetime, nvml: Any = None) -> list[Reading]:
    """Read NVIDIA devices. One that does not answer is left out, all of them where the driver is gone."""
    with running(nvml) as library:
        if library is None:
            return []
        readings = [_read_one(library, device, at) for device in devices]
    return [reading for reading in readings if reading is not None]


def read_simulated(devices: Sequence[Device], *, at: datetime, memory_mib: int, busy: bool = True) -> list[Reading]:
    """Readings of devices that do not exist: smooth, the same for the same moment, and marked as simulated."""
    return [_imagine(device, at, memory_mib, busy) for device in devices]


def _read_one(nvml: Any, device: Device, at: datetime) -> Reading | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(device.uuid)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError:
        return None

    def ask(question: Callable[[], Any]) -> Any:
        try:
            return question()
        except nvml.NVMLError:
            return None

    load = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    milliwatts = ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    # The older call is deprecated, the newer one missing from drivers that are still in use.
    heat = ask(lambda: nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))
    if heat is None:
        heat = ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return Reading(
        device_id=device.id,
        at=at,
        utilisation_percent=load,
        memory_used_mib=int(memory.used) // 2**20,
        memory_total_mib=int(memory.total) // 2**20,
        temperature_celsius=heat,
        power_watts=milliwatts / 1000 if milliwatts is not None else None,
        simulated=False,
    )


def _imagine(device: Device, at: datetime, memory_mib: int, busy: bool) -> Reading:
    phase = zlib.crc32(device.uuid.encode()) % _WAVE_SECONDS
    height = (1 - cos(2 * pi * ((at.timestamp() + phase) % _WAVE_SECONDS) / _WAVE_SECONDS)) / 2 if busy else 0.0
    load = round(20 + 75 * height) if busy else 0
    return Reading(
        device_id=device.id,
        at=at,
        utilisation_percent=load,
        memory_used_mib=round(memory_mib * (0.15 + 0.5 * height)) if busy else 0,
        memory_total_mib=memory_mib,
        temperature_celsius=round(32 + 40 * load / 100),
        power_watts=round(15 + 60 * load / 100, 1),
        simulated=True,
    )
