"""Standby kernels on this machine. Devices are given to one when it is taken: it serves all models."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from computehub_ext.core.errors import Refused

from .. import standby_keeper
from ..capabilities import PoolLike
from ..standby_keeper import StandbyKeeper
from ..standby_rules import Group
from .directory import PlacementDirectory
from .launch import Command, Launcher
from .processes import resident_mib, send


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
    idle_seconds:
        When nobody wanted a kernel for so long they go, until somebody looks at a move or starts one. 0 keeps them.
    age_seconds_max:
        After this a standby is replaced, so that it does not run what an upgrade removed from the disk.
    start_seconds_max:
        A standby that is not ready by then counts as failed.
    """

    count: int = 0
    memory_mib_max: float = 256.0
    replace_delay_seconds: float = 3.0
    lifetime_seconds: float = 30.0
    idle_seconds: float = 1800.0
    age_seconds_max: float = 3600.0
    start_seconds_max: float = 60.0


_ADOPT_SECONDS_MAX = 5.0
_PYTHON = "python3"


@dataclass(eq=False)
class Standby(standby_keeper.Standby[str]):
    directory: PlacementDirectory

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


class WarmKernels(StandbyKeeper[str, Standby]):
    """Keeps standbys of one command ready."""

    def __init__(self, launcher: Launcher, settings: WarmSettings) -> None:
        bounds = standby_keeper.Bounds(
            lifetime_seconds=settings.lifetime_seconds,
            age_seconds_max=settings.age_seconds_max,
            start_seconds_max=settings.start_seconds_max,
            replace_delay_seconds=settings.replace_delay_seconds,
            idle_seconds=settings.idle_seconds,
        )
        super().__init__("local", bounds)
        self.launcher, self.settings = launcher, settings
        self.command: Command | None = None
        self.environment: dict[str, str] = {}
        self._discard_leftovers()

    def prepare(self, pools: Sequence[PoolLike], command: Command, environment: dict[str, str]) -> None:
        self.command, self.environment = command, environment
        models = frozenset(pool.model for pool in pools)
        count = self.settings.count if command.is_python and models else 0
        self.keep([Group(models, (_PYTHON,) * count, count)])

    def _end_all(self, standbys: Sequence[Standby]) -> None:
        for standby in standbys:
            standby.end()
        for standby in standbys:
            standby.forget()

    # The thread

    def _start(self, kind: str) -> Standby:
        assert self.command is not None
        label = f"standby-{secrets.token_hex(8)}"
        paid_until = datetime.now(UTC) + timedelta(seconds=self.settings.lifetime_seconds)
        made = self.launcher.make(self.launcher.state_dir / "standbys" / label, label=label, paid_until=paid_until)
        assert made is not None, "the name is random"
        directory, lock = made
        try:
            directory.write("adopt.secret", secrets.token_hex(32))
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
        return Standby(kind, self._clock(), False, directory)

    def _end(self, standby: Standby) -> None:
        standby.end()
        standby.forget()

    def _pay(self, standby: Standby, until: datetime) -> None:
        standby.directory.pay(until)

    def _is_there(self, standby: Standby) -> bool:
        return standby.directory.is_watched()

    def _has_ended(self, standby: Standby) -> bool:
        return not standby.directory.is_watched()

    def _is_listening(self, standby: Standby) -> bool:
        return (standby.directory / "adopt.sock").exists()

    def _log_tail(self, standby: Standby) -> str:
        return standby.directory.log_tail()

    def _amiss(self, standbys: Sequence[Standby]) -> Iterable[tuple[Standby, str, bool]]:
        for standby in standbys:
            process = standby.directory.process("kernel") if standby.is_ready else None
            mib = 0.0 if process is None else resident_mib(process[0])
            if mib > self.settings.memory_mib_max:
                self._wait_for(standby_keeper.FAILURE_WAIT_SECONDS_MAX)
                yield standby, f"it holds {mib:.0f} MiB", True

    def _after_round(self) -> None:
        self.launcher.reap()

    def _discard_leftovers(self) -> None:
        """End what a server that was killed left behind; its successor has another secret and other settings."""
        for path in (self.launcher.state_dir / "standbys").iterdir():
            directory = PlacementDirectory(path)
            if directory.is_watched():
                Standby(_PYTHON, 0.0, False, directory).end()
            else:
                directory.remove()
