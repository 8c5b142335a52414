"""The backend for this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import NotFound, NotYetEnded, Refused, SkipPlace

from ..capabilities import PoolLike
from ..environment import PASSED_ON, a_standby_can_take, for_placement
from ..model import (
    ENDINGS,
    Backend,
    Ending,
    Health,
    KernelLimits,
    Look,
    LookState,
    Placed,
    StartRequest,
    check_placement_id,
)
from .directory import PlacementDirectory
from .launch import Command, Launcher
from .processes import kill_labelled, labelled, send
from .warm import WarmKernels, WarmSettings, adopt

_POLL_SECONDS = 0.005
_STOP_SECONDS_MAX = 12.0
"""Beyond the grace: a supervisor that has not ended everything by then is ended itself."""
_ENDED_KEPT_SECONDS = 24 * 3600.0
_DISK_BYTES_MIN = 10 * 2**20


class LocalBackend(Backend):
    """Kernels on this machine.

    Parameters
    ----------
    state_dir:
        Where placements are kept, on a local disk. One backend at a time uses it; a successor finds everything there.
    python:
        The interpreter that runs the ``python3`` kernelspec.
    warm:
        How many kernels to keep ready once there are pools for them, and what they may cost.
    start_seconds_max:
        How long a kernel may take until it listens.
    environment_names:
        What of the server's environment kernels get; a name may end in ``*``. Names that look like a secret's are
        left out even so.
    """

    name = "local"

    def __init__(
        self,
        state_dir: str | os.PathLike[str],
        *,
        python: str = sys.executable,
        warm: WarmSettings | None = None,
        start_seconds_max: float = 60.0,
        environment_names: Sequence[str] = PASSED_ON,
    ) -> None:
        self._launcher = Launcher(Path(state_dir).absolute(), python, environment_names)
        self._placements = self._launcher.state_dir / "placements"
        self._start_seconds_max = start_seconds_max
        self._locks = [threading.Lock() for _ in range(64)]
        self._warm = WarmKernels(self._launcher, warm or WarmSettings())

    # Starting

    def start(self, request: StartRequest) -> Placed:
        if request.paid_until <= datetime.now(UTC):
            raise Refused("The time that was paid for has passed before the kernel was started.")
        if not os.path.isdir(request.cwd):
            raise Refused(f"There is no folder {request.cwd} here.", kind="folder")
        command = self._launcher.command(request.kernel_name)
        with self._lock_for(request.placement_id), _translated():
            directory = self._find_or_begin(request, command)
        return self._wait_until_it_listens(directory, request, command)

    def _find_or_begin(self, request: StartRequest, command: Command) -> PlacementDirectory:
        """Return the placement's directory with a supervisor in it, started by this call or by an earlier one."""
        place = self._placements / request.placement_id
        directory = PlacementDirectory(place)
        environment = for_placement(self._launcher.base_environment(), command.env, request)
        environment["COMPUTEHUB_PLACEMENT_ID"] = request.placement_id
        environment["COMPUTEHUB_BACKEND_ID"] = self._launcher.owner
        if not directory.exists():
            if self._take_over_standby(directory, request, command, environment):
                return directory
            made = self._launcher.make(place, label=request.placement_id, paid_until=request.paid_until)
            if made is None:
                return self._find_or_begin(request, command)
            directory, lock = made
        elif directory.is_watched():
            if not self._is_taken_over(directory, request):
                # The server was killed between the renaming and the message.
                directory.pay(request.paid_until)
                self._adopt_or_end(directory, request, environment)
            return directory
        elif self._look_at(directory).state is LookState.ENDED:
            raise self._refusal(directory)
        else:
            # The server was killed after it made the directory and before it started the supervisor.
            found = directory.try_lock()
            if found is None:
                return directory
            lock = found
            directory.pay(request.paid_until)
        self._launcher.spawn(
            directory, lock, command, cwd=request.cwd, environment=environment, session_key=request.session_key
        )
        return directory

    def _take_over_standby(
        self, directory: PlacementDirectory, request: StartRequest, command: Command, environment: dict[str, str]
    ) -> bool:
        warm = self._warm.command
        if warm is None or (warm.argv, warm.is_python) != (command.argv, command.is_python):
            return False
        if not a_standby_can_take(self._warm.environment, environment):
            return False
        standby = self._warm.take(request.model, lambda _: True)
        if standby is None:
            return False
        # The renaming writes down whose it is; from here on whoever looks finds a placement that is paid for a little
        # while, and a repeated start goes on from there.
        try:
            os.rename(standby.directory.path, directory.path)
        except OSError:
            standby.end()
            return False
        directory.pay(request.paid_until)
        try:
            adopt(directory, environment=environment, cwd=request.cwd, session_key=request.session_key)
        except (OSError, ValueError):
            self._end_by_force(directory)
            directory.remove()
            return False
        return True

    def _is_taken_over(self, directory: PlacementDirectory, request: StartRequest) -> bool:
        if directory.label() == request.placement_id:
            return True
        return (directory.read("connection.json") or {}).get("key") == request.session_key.decode("ascii")

    def _adopt_or_end(self, directory: PlacementDirectory, request: StartRequest, environment: dict[str, str]) -> None:
        try:
            adopt(directory, environment=environment, cwd=request.cwd, session_key=request.session_key)
        except (OSError, ValueError) as problem:
            self._end_by_force(directory)
            raise Refused(f"A standby kernel could not be taken over: {problem}.") from problem

    def _wait_until_it_listens(self, directory: PlacementDirectory, request: StartRequest, command: Command) -> Placed:
        deadline = time.monotonic() + self._start_seconds_max
        while True:
            info = directory.connection()
            if info is not None and directory.is_watched() and (command.is_python or _listens(info)):
                kernel = directory.process("kernel")
                if kernel is not None:
                    return Placed(
                        placement_id=request.placement_id,
                        connection_info=info,
                        warm=directory.label() != request.placement_id,
                        pid=kernel[0],
                        python_version=directory.python_version(),
                    )
            if not directory.is_watched():
                raise self._refusal(directory)
            if time.monotonic() > deadline:
                self.stop(request.placement_id, 0)
                raise SkipPlace(f"The kernel did not listen within {self._start_seconds_max:.0f} seconds.")
            time.sleep(_POLL_SECONDS)

    def _refusal(self, directory: PlacementDirectory) -> Refused:
        look = self._look_at(directory)
        tail = directory.log_tail() if look.reason in (Ending.START_FAILED, Ending.CRASHED) else ""
        return Refused(
            f"{look.message or 'Its kernel has ended.'} {tail}".strip(),
            reason=look.reason and look.reason.value,
            exit_code=look.exit_code,
        )

    # Looking

    def look(self, placement_id: str) -> Look:
        self._launcher.reap()
        directory = self._directory(placement_id)
        if not directory.exists():
            if placement_id in labelled(self._launcher.owner).values():
                return Look(placement_id, LookState.RUNNING, message="Found by its label; its record is gone.")
            return Look(placement_id, LookState.UNKNOWN)
        return self._look_at(directory)

    def _look_at(self, directory: PlacementDirectory) -> Look:
        placement_id = directory.path.name
        if directory.read("end.json") is None and directory.is_watched():
            state = LookState.STARTING if directory.connection() is None else LookState.RUNNING
            return Look(placement_id, state)
        end = directory.read("end.json")  # again: a supervisor writes it, then lets go of its lock
        if end is None:
            if directory.process("supervisor") is None:
                return Look(placement_id, LookState.UNKNOWN, message="Its start was begun and given up.")
            # The kernel died with its supervisor; what the kernel had started did not.
            kill_labelled(self._launcher.owner, {placement_id, directory.label()})
            directory.end(Ending.SUPERVISOR_LOST, -signal.SIGKILL)
            end = directory.read("end.json")
            assert end is not None
        reason = Ending(end["reason"])
        ended_at = datetime.fromtimestamp(end["at"], UTC)
        return Look(placement_id, LookState.ENDED, end["exit_code"], reason, ENDINGS[reason], ended_at)

    def list_placements(self) -> list[Look]:
        self._launcher.reap()
        # In this order, since a directory is there before its processes: what is labelled and not in any of the
        # directories read later is nobody's. A standby that is taken over meanwhile is in both.
        labels = set(labelled(self._launcher.owner).values())
        looks, known = [], {path.name for path in (self._launcher.state_dir / "standbys").iterdir()}
        for path in sorted(self._placements.iterdir()):
            directory = PlacementDirectory(path)
            look = self._look_at(directory)
            if directory.is_watched():
                # Also when it has ended: its supervisor wrote that down and is about to go.
                known |= {path.name, directory.label()}
            if look.state in (LookState.STARTING, LookState.RUNNING):
                looks.append(look)
            elif time.time() - (directory.ended_at() or path.stat().st_mtime) > _ENDED_KEPT_SECONDS:
                directory.remove()
        if lost := labels - known:
            lost &= set(labelled(self._launcher.owner).values())  # what went away meanwhile is not lost
        for label in sorted(lost):
            looks.append(Look(label, LookState.RUNNING, message="Found by its label; its record is gone."))
        return looks

    def log(self, placement_id: str) -> str:
        directory = self._directory(placement_id)
        if not directory.exists():
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        return directory.log_tail()

    # Acting

    def interrupt(self, placement_id: str) -> None:
        directory = self._running(placement_id)
        kernel = directory.process("kernel")
        if kernel is None:
            return  # it has not started yet, so nothing runs in it
        # To its whole group, as Jupyter does: a cell may wait for a program that it runs.
        if not send(*kernel, signal.SIGINT, to_group=True):
            raise self._refusal(directory)

    def renew(self, placement_id: str, paid_until: datetime) -> None:
        directory = self._running(placement_id)
        with _translated():
            directory.pay(paid_until)

    def stop(self, placement_id: str, grace_seconds: float = 2.0) -> None:
        directory = self._directory(placement_id)
        with self._lock_for(placement_id):
            if not directory.exists():
                # A late start finds this and refuses.
                made = self._launcher.make(directory.path, label=placement_id, paid_until=datetime.now(UTC))
                if made is not None:
                    directory.end(Ending.STOPPED, None)
                    os.close(made[1])
            elif directory.is_watched():
                self._ask_to_end(directory, grace_seconds)
            elif self._look_at(directory).state is not LookState.ENDED:
                directory.end(Ending.STOPPED, None)
        deadline = time.monotonic() + grace_seconds + _STOP_SECONDS_MAX
        while directory.is_watched():
            if time.monotonic() > deadline:
                self._end_by_force(directory)
                break
            self._launcher.reap()
            time.sleep(_POLL_SECONDS)
        self._look_at(directory)
        if not kill_labelled(self._launcher.owner, {placement_id, directory.label()}):
            raise NotYetEnded("Something that the kernel started does not end.", placement_id=placement_id)
        self._launcher.reap()

    def _ask_to_end(self, directory: PlacementDirectory, grace_seconds: float) -> None:
        try:
            directory.write("stop", repr(float(grace_seconds)))
        except OSError:
            pass  # a full disk: the signal alone ends it as well, with a grace of its own
        if (process := directory.process("supervisor")) is not None:
            send(*process, signal.SIGTERM)

    def _end_by_force(self, directory: PlacementDirectory) -> None:
        """End the supervisor, the kernel with it, and by their label all others."""
        if (process := directory.process("supervisor")) is not None:
            send(*process, signal.SIGKILL)
        kill_labelled(self._launcher.owner, {directory.path.name, directory.label()})
        self._launcher.reap()

    # The rest

    def limits(self) -> KernelLimits:
        return KernelLimits()

    def health(self) -> Health:
        if sys.platform != "linux":
            return Health(False, "Kernels are supervised by means that only Linux has.")
        try:
            free = shutil.disk_usage(self._launcher.state_dir).free
        except OSError as problem:
            return Health(False, f"The folder for kernels can't be used: {problem}.")
        if free < _DISK_BYTES_MIN:
            return Health(False, "The disk that holds the folder for kernels is full.")
        if not os.access(self._placements, os.W_OK | os.X_OK):
            return Health(False, "The folder for kernels can't be written to.")
        if not os.access(self._launcher.python, os.X_OK):
            return Health(False, f"There is no Python at {self._launcher.python}.")
        return Health(True)

    def close(self) -> None:
        self._warm.close()
        self._launcher.reap()

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        command = self._launcher.command("python3")
        base = self._launcher.base_environment()
        self._warm.prepare(pools, command, {**base, **command.env})

    def expect(self, model: str) -> None:
        self._warm.expect(model)

    @property
    def warm_count(self) -> int:
        return self._warm.ready_count

    def _directory(self, placement_id: str) -> PlacementDirectory:
        return PlacementDirectory(self._placements / check_placement_id(placement_id))

    def _running(self, placement_id: str) -> PlacementDirectory:
        directory = self._directory(placement_id)
        if not directory.exists():
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        if self._look_at(directory).state in (LookState.ENDED, LookState.UNKNOWN):
            raise self._refusal(directory)
        return directory

    def _lock_for(self, placement_id: str) -> threading.Lock:
        return self._locks[hash(placement_id) % len(self._locks)]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SkipPlace(f"The folder for kernels can't be written to: {problem.strerror}.") from problem


def _listens(info: dict[str, Any]) -> bool:
    """Tell whether a kernel that was told its ports has bound them; our own tells them once it has."""
    try:
        with socket.create_connection((info["ip"], info["shell_port"]), timeout=1):
            return True
    except OSError:
        return False
