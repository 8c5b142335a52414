"""What a start on a lease is asked with, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from computehub_ext.backends.model import Placed
from computehub_ext.leases.model import Placement
from computehub_ext.pools.model import Device


@dataclass(frozen=True)
class KernelRequest:
    """How the notebook's server wants the kernel: what a lease does not know."""

    cwd: str
    kernel_name: str
    session_key: bytes
    username: str
    env: Mapping[str, str]


@dataclass(frozen=True)
class StartedPlacement:
    placement: Placement
    placed: Placed
    devices: tuple[Device, ...]
