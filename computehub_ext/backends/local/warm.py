"""Standby kernels: started before anybody asks, so that a lease begins within milliseconds.

Nobody is billed for one that nobody leased. They are bounded in number and memory, and each is paid for in advance for
half a minute only, so that they end by themselves soon after the server is gone.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from computehub_ext.core.errors import Refused

from .directory import PlacementDirectory
from .launch import Command, Launcher
from .processes import resident_mib, send

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmSettings:
    """How many kernels to keep ready, and what they may cost.

    Parameters
    ----------
    count:
        Kernels kept ready; 0 keeps none.
    memory_mib_max:
        A standby that has grown beyond this is ended and not replaced for a minute.
    replace_delay_seconds:
        How long after one was taken the next is started: the user's first cell runs meanwhile.
    lifetime_seconds:
        A standby ends by itself when the server has not been heard of for so long.
    age_seconds_max:
        After this a standby is replaced, so that it does not run what an upgrade removed from the disk.
    start_seconds_max:
        A standby that is not ready by then counts as failed.
    """

    count: int = 0
    memory_mib_max: float = 256.0
    replace_delay_seconds: float = 3.0
    lifetime_seconds: float = 30.0
    age_seconds_max: float = 3600.0
    start_seconds_max: float = 60.0


_TICK_SECONDS = 0.25
_FAILURE_WAIT_SECONDS_MAX = 60.0
_ADOPT_SECONDS_MAX = 5.0


@dataclass
class Standby:
    directory: PlacementDirectory
    secret: str
    started_at: float
    is_ready: bool = False

    def end(self) -> None:
        try:
            self.directory.write("stop", "0")  # found by a supervisor that is only starting, too
        except OSError:
            return  # its directory is gone, and its supervisor ends for that
        if (process := self.directory.process("supervisor")) is not None:
            send(*process, signal.SIGTERM)

    def forget(self, seconds_max: float = 5.0) -> None:
        """Remove its files once it is gone; a later start removes those of one that takes longer."""
        deadline = time.monotonic() + seconds_max
        while self.directory.is_watched():
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        self.directory.remove()


def adopt(directory: PlacementDirectory, *, environment: Mapping[str, str], cwd: str, session_key: bytes) -> None:
    """Turn the standby kernel in ``directory`` into the placement's; the answer comes within milliseconds.

    Raises
    ------
    OSError
        It does not listen, does not answer in time, or refuses; it must not be used then.
    """
    secret = (directory / "adopt.secret").read_text(encoding="ascii")
    message = {
        "secret": secret,
        "directory": str(directory.path),
        "environment": dict(environment),
        "cwd": cwd,
        "session_key": session_key.decode("ascii"),
    }
    descriptor = os.open(directory.path, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ADOPT_SECONDS_MAX)
            connection.connect(f"/proc/self/fd/{descriptor}/adopt.sock")  # a socket's own path holds 107 bytes
            connection.sendall(json.dumps(message).encode() + b"\n")
            with connection.makefile("rb") as reader:
                line = reader.readline(65536)
    finally:
        os.close(descriptor)
    answer = json.loads(line) if line.endswith(b"\n") else {"ok": False, "message": "no answer"}
    if not answer["ok"]:
        raise OSError(f"the standby kernel refused: {answer['message']}")
    for name in ("adopt.sock", "adopt.secret"):
        (directory / name).unlink(missing_ok=True)


class WarmKernels:
    """Keeps standbys of one command ready, from one thread that starts with the first ``prepare``."""

    def __init__(self, launcher: Launcher, settings: WarmSettings) -> None:
        self.launcher, self.settings = launcher, settings
        self.wanted = 0
        self.command: Command | None = None
        self.environment: dict[str, str] = {}
        self._standbys: list[Standby] = []
        self._not_before = 0.0
        self._failures = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._discard_leftovers()

    @property
    def ready_count(self) -> int:
        with self._lock:
            return sum(standby.is_ready and standby.directory.is_watched() for standby in self._standbys)

    def prepare(self, count: int, command: Command, environment: dict[str, str]) -> None:
        with self._lock:
            if self._closed:
                return
            self.wanted, self.command, self.environment = count, command, environment
            if self._thread is None and count:
                self._thread = threading.Thread(target=self._keep, name="computehub-standby", daemon=True)
                self._thread.start()
        self._wake.set()

    def take(self) -> Standby | None:
        """Return a ready standby that is from now on the caller's, or None."""
        with self._lock:
            for standby in self._standbys:
                if standby.is_ready and standby.directory.is_watched():
                    self._standbys.remove(standby)
                    self._not_before = time.monotonic() + self.settings.replace_delay_seconds
                    return standby
        return None

    def close(self) -> None:
        with self._lock:
            self._closed, self.wanted = True, 0
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        with self._lock:
            standbys, self._standbys = self._standbys, []
        for standby in standbys:
            standby.end()
        for standby in standbys:
            standby.forget()

    # The thread

    def _keep(self) -> None:
        renewed_at = 0.0
        while not self._closed:
            try:
                if time.monotonic() - renewed_at > self.settings.lifetime_seconds / 3:
                    # A third, so that two missed beats are survivable.
                    renewed_at = time.monotonic()
                    self._renew()
                self._look_after_all()
                self._top_up()
                self.launcher.reap()
            except Exception:
                log.exception("Keeping standby kernels failed; trying again.")
                self._note_failure()
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()

    def _renew(self) -> None:
        for standby in self._copy():
            try:
                standby.directory.pay(self._paid_until())
            except OSError:
                pass  # taken or removed in this moment

    def _look_after_all(self) -> None:
        now = time.monotonic()
        for standby in self._copy():
            directory = standby.directory
            age = now - standby.started_at
            if not directory.is_watched():
                self._drop(standby, "it ended by itself", failed=not standby.is_ready)
            elif not standby.is_ready:
                if (directory / "adopt.sock").exists():
                    standby.is_ready, self._failures = True, 0
                elif age > self.settings.start_seconds_max:
                    self._drop(standby, "it was not ready in time", failed=True)
            elif (mib := self._memory_mib(directory)) > self.settings.memory_mib_max:
                self._not_before = now + _FAILURE_WAIT_SECONDS_MAX
                self._drop(standby, f"it holds {mib:.0f} MiB", failed=True)
            elif age > self.settings.age_seconds_max:
                self._drop(standby, "it is old", failed=False)
        with self._lock:
            surplus = self._standbys[self.wanted :]
        for standby in surplus:
            self._drop(standby, "", failed=False)

    def _top_up(self) -> None:
        with self._lock:
            starting = any(not standby.is_ready for standby in self._standbys)
            wanted = len(self._standbys) < self.wanted and not starting and time.monotonic() >= self._not_before
        if not wanted or self._closed:  # one at a time, since a start takes a whole core
            return
        standby = self._start()
        with self._lock:
            self._standbys.append(standby)  # also when closed meanwhile: close() waits for this thread, then ends all

    def _start(self) -> Standby:
        assert self.command is not None
        label = f"standby-{secrets.token_hex(8)}"
        made = self.launcher.make(
            self.launcher.state_dir / "standbys" / label, label=label, paid_until=self._paid_until()
        )
        assert made is not None, "the name is random"
        directory, lock = made
        secret = secrets.token_hex(32)
        try:
            directory.write("adopt.secret", secret)
        except OSError:
            os.close(lock)
            raise
        try:
            self.launcher.spawn(
                directory,
                lock,
                self.command,
                cwd="/",
                environment=self.environment,
                # Nobody ever signs with this one: the kernel gets its placement's key when it is taken.
                session_key=secrets.token_hex(32).encode(),
                standby=True,
            )
        except Refused:
            directory.remove()
            raise
        return Standby(directory, secret, time.monotonic())

    def _drop(self, standby: Standby, why: str, *, failed: bool) -> None:
        with self._lock:
            if standby not in self._standbys:
                return  # taken in this moment
            self._standbys.remove(standby)
        if why:
            tail = standby.directory.log_tail() if failed else ""
            log.warning("A standby kernel was dropped: %s. %s", why, tail)
        if failed:
            self._note_failure()
        standby.end()
        standby.forget()

    def _note_failure(self) -> None:
        self._failures += 1
        wait = min(_FAILURE_WAIT_SECONDS_MAX, 2.0**self._failures)
        self._not_before = max(self._not_before, time.monotonic() + wait)

    def _discard_leftovers(self) -> None:
        """End what a server that was killed left behind; its successor has another secret and other settings."""
        for path in (self.launcher.state_dir / "standbys").iterdir():
            directory = PlacementDirectory(path)
            if directory.is_watched():
                Standby(directory, "", 0.0).end()
            else:
                directory.remove()

    def _memory_mib(self, directory: PlacementDirectory) -> float:
        process = directory.process("kernel")
        return 0.0 if process is None else resident_mib(process[0])

    def _paid_until(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.settings.lifetime_seconds)

    def _copy(self) -> list[Standby]:
        with self._lock:
            return list(self._standbys)
