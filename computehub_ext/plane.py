"""The control plane as this server has it: opened late, once; its own, or that of the first server on the same data."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import Unavailable
from computehub_ext.core.settings import Settings

if TYPE_CHECKING:
    from tornado.httpserver import HTTPServer

    from computehub_ext.client.control_plane import ControlPlane
    from computehub_ext.client.remote import RemotePlane


SOCKET_PATH_BYTES_MAX = 107
OTHER_STARTS_SECONDS = 20.0


@dataclass(frozen=True)
class Opened:
    """A control plane to use; with ``socket_path`` it is ours, and other servers are to reach it there."""

    plane: ControlPlane | RemotePlane
    socket_path: Path | None


class LazyPlane:
    """Stands for the control plane before it is open: the first call opens it and waits.

    When the server that ran the control plane is gone, the next call opens it here.

    Parameters
    ----------
    opener:
        Builds or finds the control plane; slow, run in a thread of its own.
    """

    def __init__(self, opener: Callable[[], Opened], log: logging.Logger) -> None:
        self._opener = opener
        self._log = log
        self._opening: asyncio.Task[Any] | None = None
        self._plane: Any = None
        self._is_ours = False
        self._server: HTTPServer | None = None
        self._socket_path: Path | None = None
        self._on_open: list[Callable[[Any], None]] = []

    def on_open(self, action: Callable[[Any], None]) -> None:
        """Call ``action`` with the control plane, on the event loop, each time it was opened."""
        self._on_open.append(action)

    def open_soon(self) -> asyncio.Task[Any]:
        """Start opening unless that has begun. A failed opening is tried again by the next call."""
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(self._report)
        return self._opening

    def _report(self, opening: asyncio.Task[Any]) -> None:
        if not opening.cancelled() and opening.exception() is not None:
            self._log.error("ComputeHub could not open its control plane", exc_info=opening.exception())

    async def _open(self) -> Any:
        with ThreadPoolExecutor(1, thread_name_prefix="computehub-open") as thread:
            opened = await asyncio.get_running_loop().run_in_executor(thread, self._opener)
        try:
            if opened.socket_path is not None:
                from computehub_ext.client import remote

                self._socket_path = opened.socket_path
                self._server = remote.serve(opened.plane, opened.socket_path)
            opened.plane.start_ticking()
        except BaseException:
            # It holds the database's lock: left open, no later try here or in another server could have it.
            await self._stop_serving()
            await opened.plane.close(end_leases=False)
            raise
        self._plane, self._is_ours = opened.plane, opened.socket_path is not None
        for action in self._on_open:
            action(opened.plane)
        return opened.plane

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._is_ours:
            return getattr(self._plane, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            plane = self._plane or await asyncio.shield(self.open_soon())
            try:
                return await getattr(plane, name)(*args, **kwargs)
            except Unavailable:
                if self._is_ours:
                    raise
            # Its server may have stopped; whoever gets the lock now runs the control plane.
            if self._plane is plane:
                self._plane = self._opening = None
                await plane.close(end_leases=False)
            plane = await asyncio.shield(self.open_soon())
            return await getattr(plane, name)(*args, **kwargs)

        return call

    async def close(self, *, end_leases: bool, kernel_ids: Collection[str] | None = None) -> None:
        """Stop serving others and close; with ``end_leases`` those of ``kernel_ids`` are settled, or of all kernels."""
        if self._opening is not None:
            with suppress(Exception):  # it was reported when it happened
                await self._opening
        await self._stop_serving()
        if self._plane is not None:
            plane, self._plane, self._is_ours = self._plane, None, False
            await plane.close(end_leases=end_leases, kernel_ids=kernel_ids)

    async def _stop_serving(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            await server.close_all_connections()
        path, self._socket_path = self._socket_path, None
        if path is not None:
            path.unlink(missing_ok=True)
            if path.parent.name.startswith("computehub-"):
                shutil.rmtree(path.parent, ignore_errors=True)


class PlaneLock:
    """One control plane on a database: an advisory lock on a file, let go by the operating system when its holder dies.

    Raises
    ------
    Unavailable
        Another server holds it; ``details["socket"]`` is where that one answers.
    """

    def __init__(self, path: Path, socket_path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            told = os.pread(self._file, 4096, 0)
            self.release()
            raise Unavailable("Another server runs the control plane on this database.", **_told(told)) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, json.dumps({"pid": os.getpid(), "socket": str(socket_path)}).encode())

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _told(content: bytes) -> dict[str, Any]:
    with suppress(ValueError):
        told = json.loads(content)
        if isinstance(told, dict):
            return told
    return {}


def open_plane(
    *,
    database_url: str,
    state_dir: Path,
    settings: Settings,
    identity: str,
    simulated: str,
    warm_kernels: int,
    tick_seconds: float,
    warm_idle_seconds: float = 1800.0,
    places: Mapping[str, Mapping[str, Any]] | None = None,
    pools: Sequence[Mapping[str, Any]] = (),
) -> Opened:
    """Open the control plane on its places, or become a client of the server that has it.

    Raises
    ------
    Unavailable
        Another server holds the database's lock and does not say where it answers.
    """
    socket_path = _socket_path(state_dir)
    lock = _lock_or_others_socket(_lock_path(database_url, state_dir), socket_path)
    if isinstance(lock, Path):
        from computehub_ext.client.remote import RemotePlane

        return Opened(RemotePlane(lock), None)
    try:
        plane = _open_embedded(
            database_url,
            state_dir,
            settings,
            identity,
            simulated,
            warm_kernels,
            warm_idle_seconds,
            tick_seconds,
            places or {},
            pools,
            lock.release,
        )
    except BaseException:
        lock.release()
        raise
    return Opened(plane, socket_path)


def _lock_or_others_socket(path: Path, socket_path: Path) -> PlaneLock | Path:
    """The lock, or where the server answers that has it. One that is only starting has it before it answers."""
    deadline = time.monotonic() + OTHER_STARTS_SECONDS
    while True:
        try:
            return PlaneLock(path, socket_path)
        except Unavailable as held:
            if "socket" not in held.details:
                raise
            other = Path(held.details["socket"])
            if other.exists() or time.monotonic() > deadline:
                return other
            time.sleep(0.05)


def _open_embedded(
    database_url: str,
    state_dir: Path,
    settings: Settings,
    identity: str,
    simulated: str,
    warm_kernels: int,
    warm_idle_seconds: float,
    tick_seconds: float,
    places: Mapping[str, Mapping[str, Any]],
    pools: Sequence[Mapping[str, Any]],
    on_close: Callable[[], None],
) -> ControlPlane:
    from computehub_ext import places as configured
    from computehub_ext.backends.local import LocalBackend, WarmSettings
    from computehub_ext.client.control_plane import ControlPlane
    from computehub_ext.core.clock import SystemClock
    from computehub_ext.core.database import Database
    from computehub_ext.pools import nvml
    from computehub_ext.pools import simulated as simulated_pools

    database = Database(database_url)
    database.migrate()
    backend = LocalBackend(state_dir, warm=WarmSettings(count=warm_kernels, idle_seconds=warm_idle_seconds))
    plane = ControlPlane(
        database=database,
        backends={backend.name: backend, **configured.backends(places, state_dir)},
        clock=SystemClock(),
        settings=settings,
        identity=identity,
        tick_seconds=tick_seconds,
        terminals_at=configured.with_terminals(places),
        on_close=on_close,
    )
    specs = configured.pool_specs(pools)
    if simulated != "always":
        specs += nvml.discover()
    if simulated == "always" or (simulated == "auto" and not specs):
        specs = [*specs, *simulated_pools.specs()]
    plane.open(specs)
    return plane


def _socket_path(state_dir: Path) -> Path:
    """One socket a process, so that a stale one of a killed server is never mistaken for ours.

    A socket's address has at most 107 bytes; beside a deep folder it goes into a short private one.
    """
    path = state_dir / f"plane-{os.getpid()}.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    return Path(tempfile.mkdtemp(prefix="computehub-")) / path.name


def _lock_path(database_url: str, state_dir: Path) -> Path:
    scheme, _, path = database_url.partition(":///")
    if scheme == "sqlite" and path:
        return Path(path).with_suffix(".lock")
    return state_dir / "control-plane.lock"
