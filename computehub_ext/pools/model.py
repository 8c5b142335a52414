"""Pools of like devices, and how a person names a model. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache

from computehub_ext.core.errors import Invalid


@dataclass(frozen=True)
class DeviceSpec:
    """One device as found: its number on its machine, and the id by which the driver knows it for good."""

    index: int
    uuid: str
    name: str


@dataclass(frozen=True)
class PoolSpec:
    """Like devices as found, to be written down by ``sync_pools``. ``name`` says which pool it is from then on."""

    name: str
    backend: str
    model: str
    count: int
    rate_microcredits_per_hour: int
    simulated: bool
    memory_mib: int
    devices: tuple[DeviceSpec, ...] = field(default=())

    def __post_init__(self) -> None:
        assert self.count == len(self.devices), "a pool counts its devices"
        assert self.rate_microcredits_per_hour >= 0, "a rate is not below zero"


@dataclass(frozen=True)
class Pool:
    """What is booked: ``count`` like devices at one rate per device."""

    id: str
    name: str
    backend: str
    model: str
    count: int
    rate_microcredits_per_hour: int
    simulated: bool
    memory_mib: int


@dataclass(frozen=True)
class Device:
    id: str
    pool_id: str
    index: int
    uuid: str
    name: str
    healthy: bool


def of_model(pools: Iterable[Pool], model: str) -> list[Pool]:
    """The pools that a person means by ``model``, cheapest first.

    Case, spaces and underscores don't matter. A family names all its sizes (``A100`` finds ``A100-40GB``), yet never
    its slices: who wants ``A100-1g.10gb`` says so.

    Raises
    ------
    Invalid
        Of field ``model``, listing the models there are and the closest one.
    """
    pools = sorted(pools, key=lambda pool: (pool.rate_microcredits_per_hour, pool.name))
    wanted = _plain(model)
    found = [pool for pool in pools if _plain(pool.model) == wanted]
    if not found and wanted:
        found = [pool for pool in pools if _plain(pool.model).startswith(wanted + "-") and not is_slice(pool.model)]
    if found:
        return found
    known = list(dict.fromkeys(pool.model for pool in pools))
    if not known:
        raise Invalid(f'There is no GPU model "{model}": no pool is known at all.', field="model", known=[])
    close = get_close_matches(wanted, [_plain(name) for name in known], n=1, cutoff=0.5)
    closest = next((name for name in known if close and _plain(name) == close[0]), None)
    raise Invalid(
        f'There is no GPU model "{model}"' + (f"; did you mean {closest}?" if closest else ".")
        + f" Known are {', '.join(known)}.",
        field="model",
        known=known,
        closest=closest,
    )  # fmt: skip


def is_slice(model: str) -> bool:
    """Whether a model is a part of a device (NVIDIA's MIG)."""
    return re.search(r"-[0-9]+g\.[0-9]+gb", model.casefold()) is not None


@lru_cache(maxsize=1024)
def _plain(model: str) -> str:
    return re.sub(r"[\s_-]+", "-", model.strip()).casefold()
