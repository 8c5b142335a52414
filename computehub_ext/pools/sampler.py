"""What the devices of running leases said about themselves, an hour back: in memory, shown and never billed by."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from computehub_ext.core.clock import Clock
from computehub_ext.pools.model import Device
from computehub_ext.pools.readings import Reading, read_nvml, read_simulated

INTERVAL_SECONDS = 5.0
KEPT = timedelta(hours=1)
ANSWER_SECONDS = 2.0
"""How long a round waits for its devices; one that answers later is not asked again before it has."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """The devices that serve one running lease."""

    lease_id: str
    devices: tuple[Device, ...]
    simulated: bool
    memory_mib: int
    busy: bool


@dataclass
class _Kept:
    device: Device
    readings: deque[Reading] = field(default_factory=deque)


class Sampler:
    """Reads devices again and again, in a thread of its own: a driver that hangs holds up nothing but its readings.

    Readings are kept by lease, not by device: the next one on a device sees nothing of the one before.

    Parameters
    ----------
    watched:
        Says what to read; called once a round.
    read:
        ``(devices, at=...) -> readings`` for devices that exist.
    """

    def __init__(
        self,
        watched: Callable[[], list[Watched]],
        clock: Clock,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        read: Callable[..., list[Reading]] = read_nvml,
    ) -> None:
        self.interval_seconds = interval_seconds
        self._watched, self._clock, self._read = watched, clock, read
        self._answer_seconds = answer_seconds
        self._most = math.ceil(KEPT.total_seconds() / interval_seconds)
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._asked: set[str] = set()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._forever, name="computehub-readings", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop; a device that does not answer is not waited for longer than its round would."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2 * self._answer_seconds)

    def of(self, lease_id: str) -> list[tuple[Device, list[Reading]]]:
        """The lease's devices with their readings of the last hour, oldest first."""
        oldest = self._clock.now() - KEPT
        with self._lock:
            kept = [(each.device, list(each.readings)) for each in self._kept.get(lease_id, {}).values()]
        return [(device, [reading for reading in readings if reading.at > oldest]) for device, readings in kept]

    def sample(self) -> None:
        """Read every device once."""
        now, asked = self._clock.now(), []
        for lease in self._watched():
            if lease.simulated:
                for reading, device in zip(
                    read_simulated(lease.devices, at=now, memory_mib=lease.memory_mib, busy=lease.busy),
                    lease.devices,
                    strict=True,
                ):
                    self._keep(lease.lease_id, device, reading)
                continue
            asked += [self._ask(lease.lease_id, device, now) for device in lease.devices]
        deadline = time.monotonic() + self._answer_seconds
        for thread in filter(None, asked):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._forget(now - KEPT)

    def _ask(self, lease_id: str, device: Device, now: datetime) -> threading.Thread | None:
        """Read one device in a thread of its own, unless the last one still waits for it."""
        with self._lock:
            if device.id in self._asked:
                return None
            self._asked.add(device.id)

        def ask() -> None:
            try:
                for reading in self._read([device], at=now):
                    self._keep(lease_id, device, reading)
            except Exception:
                log.exception("device %s could not be read", device.uuid)
            finally:
                with self._lock:
                    self._asked.discard(device.id)

        thread = threading.Thread(target=ask, name=f"computehub-reading-{device.index}", daemon=True)
        thread.start()
        return thread

    def _keep(self, lease_id: str, device: Device, reading: Reading) -> None:
        with self._lock:
            devices = self._kept.setdefault(lease_id, {})
            kept = devices.setdefault(device.id, _Kept(device, deque(maxlen=self._most)))
            kept.readings.append(reading)

    def _forget(self, before: datetime) -> None:
        with self._lock:
            for lease_id, devices in list(self._kept.items()):
                if all(not kept.readings or kept.readings[-1].at < before for kept in devices.values()):
                    del self._kept[lease_id]

    def _forever(self) -> None:
        while not self._closing.wait(self.interval_seconds):
            try:
                self.sample()
            except Exception:
                log.exception("a round of readings failed; the next one is tried")
