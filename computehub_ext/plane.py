"""The control plane in this server: opened late, once, and alone on its database."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import Unavailable
from computehub_ext.core.settings import Settings

if TYPE_CHECKING:
    from computehub_ext.client import ControlPlane


class LazyPlane:
    """Stands for the control plane before it is open: the first call opens it and waits.

    Parameters
    ----------
    opener:
        Builds the control plane; slow, run in a thread of its own.
    """

    def __init__(self, opener: Callable[[], ControlPlane], log: logging.Logger) -> None:
        self._opener = opener
        self._log = log
        self._opening: asyncio.Task[ControlPlane] | None = None
        self._plane: ControlPlane | None = None

    def open_soon(self) -> asyncio.Task[ControlPlane]:
        """Start opening unless that has begun. A failed opening is tried again by the next call."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(self._report)
        return self._opening

    def _report(self, opening: asyncio.Task[ControlPlane]) -> None:
        if not opening.cancelled() and opening.exception() is not None:
            self._log.error("ComputeHub could not open its control plane: %s", opening.exception())

    async def _open(self) -> ControlPlane:
        with ThreadPoolExecutor(1, thread_name_prefix="computehub-open") as thread:
            plane = await asyncio.get_running_loop().run_in_executor(thread, self._opener)
        plane.start_ticking()
        self._plane = plane
        return plane

    @property
    def opened(self) -> ControlPlane | None:
        """The control plane, if it is open already."""
        return self._plane

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._plane is not None:
            return getattr(self._plane, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            plane = self._plane or await asyncio.shield(self.open_soon())
            return await getattr(plane, name)(*args, **kwargs)

        return call

    async def close(self, *, end_leases: bool) -> None:
        if self._opening is not None:
            with suppress(Exception):  # it was reported when it happened
                await self._opening
        if self._plane is not None:
            await self._plane.close(end_leases=end_leases)
            self._plane = None


class PlaneLock:
    """One control plane on a database: an advisory lock on a file, let go by the kernel when its holder dies.

    Raises
    ------
    Unavailable
        Another server holds it; the message says which.
    """

    def __init__(self, path: Path, server_url: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._file)
            os.close(self._file)
            raise Unavailable(
                f"Another server runs ComputeHub on this database{holder}. Stop it first, or give this one a "
                "database of its own (ComputeHub.database_url).",
                path=str(path),
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, json.dumps({"pid": os.getpid(), "url": server_url}).encode())

    def release(self) -> None:
        os.close(self._file)


def _holder(file: int) -> str:
    with suppress(ValueError, KeyError):
        told = json.loads(os.pread(file, 4096, 0))
        return f": {told['url'].split('?')[0]} (process {told['pid']})"
    return ""


def open_embedded(
    *,
    database_url: str,
    state_dir: Path,
    settings: Settings,
    identity: str,
    simulated: str,
    warm_kernels: int,
    tick_seconds: float,
    server_url: str,
) -> ControlPlane:
    """Open the control plane on the local backend."""
    from computehub_ext.backends.local import LocalBackend
    from computehub_ext.client import ControlPlane
    from computehub_ext.core.clock import SystemClock
    from computehub_ext.core.database import Database
    from computehub_ext.pools import nvml
    from computehub_ext.pools import simulated as simulated_pools

    lock = PlaneLock(_lock_path(database_url, state_dir), server_url)
    try:
        database = Database(database_url)
        database.migrate()
        backend = LocalBackend(state_dir, standby_count=warm_kernels)
        plane = ControlPlane(
            database=database,
            backends={backend.name: backend},
            clock=SystemClock(),
            settings=settings,
            identity=identity,
            tick_seconds=tick_seconds,
            on_close=lock.release,
        )
        specs = [] if simulated == "always" else nvml.discover()
        if simulated == "always" or (simulated == "auto" and not specs):
            specs = [*specs, *simulated_pools.specs()]
        plane.open(specs)
    except BaseException:
        lock.release()
        raise
    return plane


def _lock_path(database_url: str, state_dir: Path) -> Path:
    scheme, _, path = database_url.partition(":///")
    if scheme == "sqlite" and path:
        return Path(path).with_suffix(".lock")
    return state_dir / "control-plane.lock"
