"""NVIDIA devices, as the driver's management library (NVML) lists them.

A machine without the driver has none; that is an answer and not a failure. A device in MIG mode is not offered itself:
its slices are, each size as a model of its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.pools.model import DeviceSpec, PoolSpec

_log = logging.getLogger(__name__)

# Rate of a whole device in thousandths of a credit per hour; the T4 is the reference device.
_RATES = {
    "K80": 400, "M60": 500, "P4": 500, "P40": 900, "P100": 1_200, "V100": 2_500, "T4": 1_000, "T4G": 1_000,
    "A2": 600, "A10": 1_800, "A10G": 1_800, "A16": 600, "A30": 2_200, "A40": 2_200, "A100": 4_000, "A800": 4_000,
    "L4": 1_300, "L20": 2_200, "L40": 2_500, "L40S": 3_000, "H20": 4_000, "H100": 8_000, "H800": 8_000,
    "H200": 10_000, "GH200": 10_000, "B100": 14_000, "B200": 16_000, "GB200": 16_000, "B300": 20_000,
    "RTX-A4000": 1_000, "RTX-A5000": 1_500, "RTX-A6000": 2_000, "RTX-6000-Ada": 2_800,
    "RTX-3090": 1_500, "RTX-4090": 2_500, "RTX-5090": 3_500,
}  # fmt: skip
_SLICES_PER_RATE = 5
"""A slice costs a fifth of its device per compute unit though there are seven: its device can't be had whole."""
_MIB_PER_CREDIT = 16_384
"""An unknown device costs a credit per hour for each 16 GiB of its memory, as the T4 about does."""

_BRANDS = {"nvidia", "tesla", "geforce", "graphics", "device", "generation", "gpu", "with", "tensor", "core"}
_FORM_FACTOR = re.compile(r"(sxm\d*|pcie|hbm\d*e?|nvl\d*|oam|dgxs?|fhhl|lhr)", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+)\s*gb", re.IGNORECASE)


def short_model(name: str) -> str:
    """The model by which people ask for a device, from the name that its driver gives.

    ``NVIDIA A100-SXM4-40GB`` is ``A100-40GB``, ``NVIDIA GeForce RTX 3090`` is ``RTX-3090`` and the slice
    ``NVIDIA A100-SXM4-80GB MIG 1g.10gb`` is ``A100-1g.10gb``. How a device is plugged in does not matter to a notebook.
    """
    whole, _, profile = name.partition(" MIG ")
    words = [word for word in re.split(r"[\s_-]+", whole.strip()) if word]
    kept = [word for word in words if word.casefold() not in _BRANDS and not _FORM_FACTOR.fullmatch(word)]
    if profile:
        kept = [word for word in kept if not _MEMORY.fullmatch(word)]
        kept.append(profile.strip().replace(" ", ""))
    return "-".join(_MEMORY.sub(r"\1GB", word) if _MEMORY.fullmatch(word) else word for word in kept) or "GPU"


def default_rate(model: str, memory_mib: int) -> int:
    """Microcredits per hour for a model that the administrator has set no rate for."""
    family = model.partition("-")[0]
    profile = re.search(r"(\d+)g\.\d+gb", model)
    if profile:
        family = model[: profile.start()].rstrip("-")
    candidates = (model, family, re.sub(r"-\d+GB$", "", model))
    rate = next((_RATES[name] for name in candidates if name in _RATES), None)
    if rate is None:
        return max(MICROCREDITS_PER_CREDIT // 10, memory_mib * MICROCREDITS_PER_CREDIT // _MIB_PER_CREDIT)
    rate = rate * MICROCREDITS_PER_CREDIT // 1000
    if profile:
        rate = min(rate, rate * int(profile[1]) // _SLICES_PER_RATE)
    return rate


def discover(
    nvml: Any = None, *, backend: str = "local", rates_microcredits_per_hour: Mapping[str, int] | None = None
) -> list[PoolSpec]:
    """The machine's NVIDIA devices as pools of like ones; empty where there is no driver.

    Parameters
    ----------
    nvml:
        The module ``pynvml``; by default the installed one is loaded.
    backend:
        The backend that can start kernels on them.
    rates_microcredits_per_hour:
        The administrator's rates by model; the others have a default.
    """
    rates = rates_microcredits_per_hour or {}
    with running(nvml) as library:
        if library is None:
            return []
        pools: dict[tuple[str, int], list[DeviceSpec]] = {}
        for device, memory_mib in _schedulable(library):
            # Two of a model may differ by a few MiB of reserved memory; whole GiB keep them in one pool.
            pools.setdefault((short_model(device.name), memory_mib // 1024), []).append(device)
    models = [model for model, _ in pools]
    specs = []
    for (model, memory_gib), devices in pools.items():
        if models.count(model) > 1:  # same name, other memory: they are not interchangeable
            model = f"{model}-{memory_gib}GB"
        memory_mib = memory_gib * 1024
        rate = rates.get(model, default_rate(model, memory_mib))
        specs.append(
            PoolSpec(f"{backend} {model}", backend, model, len(devices), rate, False, memory_mib, tuple(devices))
        )
    return specs


@contextmanager
def running(nvml: Any = None) -> Iterator[Any]:
    """NVML between its start and its shutdown, or None where it or the driver is missing."""
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            yield None
            return
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        # Without the driver's library NVML was not even loaded. A driver that is there and broken is worth a line.
        if not isinstance(error, nvml.NVMLError_LibraryNotFound):
            _log.warning("NVIDIA's driver does not answer, so its devices are not offered: %s", error)
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _schedulable(nvml: Any) -> Iterator[tuple[DeviceSpec, int]]:
    """What a kernel can be started on, with its MiB: whole devices, and the slices of those in MIG mode."""
    slices = 0
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            if not _in_mig_mode(nvml, handle):
                yield _described(nvml, handle, index)
                continue
            for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                try:
                    part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
                except nvml.NVMLError_NotFound:  # places are numbered with gaps
                    continue
                yield _described(nvml, part, slices)
                slices += 1
        except nvml.NVMLError as error:
            _log.warning("GPU %d does not answer and is not offered: %s", index, error)


def _described(nvml: Any, handle: Any, index: int) -> tuple[DeviceSpec, int]:
    name, uuid = (_text(value) for value in (nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)))
    return DeviceSpec(index, uuid, name), int(nvml.nvmlDeviceGetMemoryInfo(handle).total) // 2**20


def _in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError_NotSupported:
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
