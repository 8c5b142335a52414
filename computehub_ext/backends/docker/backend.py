"""The backend for a Docker engine on this machine.

A placement is a container whose *name* says whose it is; its labels say what it was started as. All that has to outlive
the control plane is in the engine (the container), in the two folders that it is given, and in one small record.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from computehub_ext.core.errors import BackendError, NoCapacity, NotFound, Refused, SkipPlace, Unreachable

from ..capabilities import PoolLike, Terminal, TerminalRequest
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
from . import endings, recipe, terminals
from .adoption import Takeover
from .complaints import Gone, NameTaken
from .containers import Containers
from .engine import Container, Image
from .folders import Folder
from .records import Record, Records
from .settings import DockerSettings
from .warm import WarmContainers

log = logging.getLogger(__name__)

_INSPECT_SECONDS = 0.1
_OVERDUE_SECONDS = 6.0
"""A supervisor ends what is unpaid within two; one that does not was tampered with."""
_SWEEP_SECONDS = 60.0
_LATE_SECONDS = 1.0
_REMOVED = "The kernel's container was removed by somebody else."
_DISK_BYTES_MIN = 10 * 2**20


class DockerBackend(Backend):
    """Kernels in containers.

    Parameters
    ----------
    state_dir:
        Where records and folders are kept, on a local disk that the engine's machine sees under the same path. One
        backend of this ``name`` at a time uses it; a successor finds everything there.
    settings:
        What the administrator chose.
    name:
        As pools name this place.
    """

    def __init__(self, state_dir: str | os.PathLike[str], settings: DockerSettings, name: str = "docker") -> None:
        self.name, self.settings = name, settings
        self._state_dir = Path(state_dir).absolute() / name
        self.containers = Containers(self._state_dir, settings)
        self.engine, self.folders = self.containers.engine, self.containers.folders
        self._records = Records(self._state_dir / "records")
        self._locks = [threading.RLock() for _ in range(64)]
        self._swept_at = 0.0
        self._warm = WarmContainers(self.containers, name)
        self._takeover = Takeover(self.containers, self._warm)

    # Starting

    def start(self, request: StartRequest) -> Placed:
        if request.paid_until <= datetime.now(UTC):
            raise Refused("The time that was paid for has passed before the kernel was started.")
        wanted = recipe.wanted_by(self.settings, request)
        with self._lock_for(request.placement_id), _translated():
            self.containers.network.ensure()
            container, folder = self._find_or_begin(request, wanted)
            self._records.write(request.placement_id, Record(folder.key))
        return self._wait_until_it_listens(request, container, folder)

    def _find_or_begin(self, request: StartRequest, wanted: recipe.Wanted) -> tuple[Container, Folder]:
        """Return the placement's container, running; started by this call or by an earlier one."""
        placement_id, name = request.placement_id, self.containers.name_of(request.placement_id)
        record = self._records.read(placement_id)
        if record is not None and record.reason is not None:
            raise self._refusal(self.look(placement_id))
        container = self.engine.inspect(name)
        if container is None:
            if record is not None:
                raise self._refusal(self.look(placement_id))
            self._check_room()
            try:
                return self._takeover.take(request, wanted) or self._begin(request, wanted)
            except NameTaken:  # by another control plane over the same folder, a moment ago
                container = self.engine.inspect(name)
                if container is None:
                    raise SkipPlace("The container went away while it was started.") from None
        folder = self.containers.folder_of(container)
        if container.is_over:
            raise self._refusal(self.look(placement_id))
        if container.status == "created":  # its creator was killed before it could start it
            image = self.containers.image(container.image_id)
            self.containers.resume(container, wanted, self._filling(request, wanted, image), request.paid_until)
        elif record is None and container.labels.get(recipe.PLACEMENT_LABEL) != placement_id:
            # Without a record nobody's code has run in it yet, so that its folder can be trusted.
            self._takeover.finish(container, folder, request, wanted)
        return container, folder

    def _begin(self, request: StartRequest, wanted: recipe.Wanted) -> tuple[Container, Folder]:
        image, placement_id = self.containers.image(), request.placement_id
        fill = self._filling(request, wanted, image)
        name = self.containers.name_of(placement_id)
        return self.containers.make(name, placement_id, image, wanted, fill, request.paid_until)

    def _filling(self, request: StartRequest, wanted: recipe.Wanted, image: Image) -> Callable[[Folder], None]:
        containers, key = self.containers, request.session_key.decode("ascii")

        def fill(folder: Folder) -> None:
            environment = recipe.kernel_environment(self.settings, image, wanted, request, folder, containers.owner)
            told, arguments = containers.way.told(folder, request.placement_id), containers.way.arguments()
            recipe.fill(folder, self.settings, wanted, environment, key, told, arguments=arguments)

        return fill

    def _check_room(self) -> None:
        most = self.settings.kernels_max
        if most and sum(self.containers.placement_of(each.name) is not None for each in self.containers.all()) >= most:
            raise NoCapacity(f"{most} kernels run on {self.name}, which is all that its settings allow.")

    def _wait_until_it_listens(self, request: StartRequest, container: Container, folder: Folder) -> Placed:
        deadline = time.monotonic() + self.settings.start_seconds_max
        look_again_at = time.monotonic() + _INSPECT_SECONDS
        while folder.ports() is None:
            if time.monotonic() > look_again_at:
                look = self.look(request.placement_id)
                if look.state not in (LookState.STARTING, LookState.RUNNING):
                    raise self._refusal(look)
                look_again_at = time.monotonic() + _INSPECT_SECONDS
            if time.monotonic() > deadline:
                self.stop(request.placement_id, 0)
                limit = self.settings.start_seconds_max
                raise SkipPlace(f"The kernel did not listen within {limit:.0f} seconds.")
            time.sleep(folder.poll_seconds)
        label = container.labels.get(recipe.PLACEMENT_LABEL, request.placement_id)
        # Once more, since only what runs has ports that are published.
        reached = self.containers.way.reached(self.engine.inspect(container.id) or container, folder, label)
        info, details = reached.pop("connection_info"), reached.pop("details", {})
        return Placed(
            placement_id=request.placement_id,
            connection_info={
                **info,
                "key": request.session_key.decode("ascii"),
                "signature_scheme": "hmac-sha256",
            },
            warm=label != request.placement_id,
            pid=None,
            python_version=folder.python_version(),
            details={
                "image": self.settings.image,
                "image_digest": self.containers.image(container.image_id).digest,
                "container": container.id[:12],
                **details,
            },
            **reached,
        )

    def _refusal(self, look: Look) -> Refused:
        tail = self.log(look.placement_id) if look.reason in (Ending.START_FAILED, Ending.CRASHED) else ""
        return Refused(
            f"{look.message or 'Its kernel has ended.'} {tail[-2000:]}".strip(),
            reason=look.reason and look.reason.value,
            exit_code=look.exit_code,
        )

    # Looking

    def look(self, placement_id: str) -> Look:
        check_placement_id(placement_id)
        record = self._records.read(placement_id)
        if record is not None and record.reason is not None:
            return self._look_at_ended(placement_id, record)
        container = self.engine.inspect(self.containers.name_of(placement_id))
        if container is not None:
            return self._look_at(placement_id, container)
        with self._lock_for(placement_id):
            record = self._records.read(placement_id)  # again: it may have ended in between, or have been started
            if record is None:
                return Look(placement_id, LookState.UNKNOWN)
            if record.reason is None:
                if self.engine.inspect(self.containers.name_of(placement_id)) is not None:
                    return Look(placement_id, LookState.STARTING)
                lost = replace(record, reason=Ending.SUPERVISOR_LOST, ended_at=time.time(), message=_REMOVED)
                record = self._clear(placement_id, lost, None)
            return record.as_look(placement_id)

    def _look_at_ended(self, placement_id: str, record: Record) -> Look:
        """An end is written before its container is removed: go on where a control plane was killed in between."""
        if record.is_gone:
            return record.as_look(placement_id)
        lock = self._lock_for(placement_id)
        if not lock.acquire(blocking=False):
            return Look(placement_id, LookState.RUNNING, message="It is being ended.")
        try:
            record = self._records.read(placement_id) or record
            if not record.is_gone:
                record = self._clear(placement_id, record, self.engine.inspect(self.containers.name_of(placement_id)))
        finally:
            lock.release()
        return record.as_look(placement_id)

    def _look_at(self, placement_id: str, container: Container) -> Look:
        folder = self.containers.folder_of(container)
        if container.is_over:
            return self._conclude(placement_id)
        if folder.paid_until() + _OVERDUE_SECONDS < time.time():
            return self._end_unpaid(placement_id)
        is_listening = container.is_alive and folder.ports() is not None
        return Look(placement_id, LookState.RUNNING if is_listening else LookState.STARTING)

    def _conclude(self, placement_id: str) -> Look:
        """Write down how a container ended by itself, and remove it."""
        with self._lock_for(placement_id):
            record = self._records.read(placement_id)
            container = self.engine.inspect(self.containers.name_of(placement_id))
            if (record is not None and record.reason is not None) or container is None:
                return self.look(placement_id)
            folder = self.containers.folder_of(container)
            said = self.engine.output(container.id) if not folder.log_tail() else ""
            record = endings.of(container, folder, said)
            return self._clear(placement_id, record, container).as_look(placement_id)

    def _end_unpaid(self, placement_id: str) -> Look:
        with self._lock_for(placement_id):
            container = self.engine.inspect(self.containers.name_of(placement_id))
            if container is None or container.is_over:
                return self.look(placement_id)
            folder = self.containers.folder_of(container)
            if folder.paid_until() + _OVERDUE_SECONDS >= time.time():
                return Look(placement_id, LookState.RUNNING)
            log.warning("%s ran on unpaid, which its own supervisor should have ended; it is ended now.", placement_id)
            message = ENDINGS[Ending.UNPAID]
            record = Record(folder.key, Ending.UNPAID, None, message, time.time(), log=folder.log_tail())
            return self._clear(placement_id, record, container).as_look(placement_id)

    def _clear(self, placement_id: str, record: Record, container: Container | None) -> Record:
        """Write the end down, then remove all that is left; the record that says so is the last."""
        self._records.write(placement_id, record)
        if container is not None:
            self.engine.remove(container.id)
        if record.folder:
            self.folders.of(record.folder, self.containers.name_of(placement_id)).remove()
        return self._records.write(placement_id, replace(record, is_gone=True))

    def list_placements(self) -> list[Look]:
        keys = self.folders.keys()  # before the containers: each has its folder before it is there
        looks, containers = [], self.containers.all()
        for container in containers:
            placement_id = self.containers.placement_of(container.name)
            if placement_id is None:
                self._warm.discard_if_lost(container)
                continue
            look = self.look(placement_id)
            if look.state in (LookState.STARTING, LookState.RUNNING):
                looks.append(look)
        self._sweep(keys - {each.labels.get(recipe.FOLDER_LABEL, "") for each in containers})
        return looks

    def _sweep(self, keys: set[str]) -> None:
        """Remove folders that nobody made a container for, and finish ends that were cut off."""
        for key in keys:
            with self.folders.unowned(key) as folder:
                if folder is not None and not self.engine.list(f"{recipe.FOLDER_LABEL}={key}"):
                    folder.remove()
        if time.monotonic() - self._swept_at > _SWEEP_SECONDS or not self._swept_at:
            self._swept_at = time.monotonic()
            for placement_id in self._records.unfinished():
                self.look(placement_id)
            self.folders.sweep()

    def log(self, placement_id: str) -> str:
        record = self._records.read(check_placement_id(placement_id))
        if record is not None and record.reason is not None:
            return record.log
        container = self.engine.inspect(self.containers.name_of(placement_id))
        if container is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        return self.containers.folder_of(container).log_tail() or self.engine.output(container.id)

    # Acting

    def interrupt(self, placement_id: str) -> None:
        self._running(placement_id).interrupt()

    def renew(self, placement_id: str, paid_until: datetime) -> None:
        with _translated():
            self._running(placement_id).pay(paid_until)

    def stop(self, placement_id: str, grace_seconds: float = 2.0) -> None:
        check_placement_id(placement_id)
        with self._lock_for(placement_id):
            record = self._records.read(placement_id)
            if record is not None and record.is_gone:
                return
            container = self.engine.inspect(self.containers.name_of(placement_id))
            if record is None or record.reason is None:
                if container is not None and container.is_over:
                    self._conclude(placement_id)
                    return
                key = container.labels[recipe.FOLDER_LABEL] if container else record.folder if record else ""
                record = Record(key, Ending.STOPPED, None, ENDINGS[Ending.STOPPED], time.time())
                self._records.write(placement_id, record)  # a late start finds this and refuses
            if container is not None:
                folder = self.containers.folder_of(container)
                if grace_seconds > 0 and container.status == "running":
                    self._ask_to_end(container, folder, grace_seconds)
                code = (folder.end() or {}).get("exit_code")
                record = replace(
                    record,
                    exit_code=code if isinstance(code, int) else None,
                    ended_at=time.time(),
                    log=folder.log_tail(),
                )
            self._clear(placement_id, record, container)

    def _ask_to_end(self, container: Container, folder: Folder, grace_seconds: float) -> None:
        """Let the kernel end by itself: its supervisor says when it has. What doesn't is removed by the caller."""
        try:
            folder.ask_to_end(grace_seconds)
        except Unreachable:
            raise
        except (OSError, BackendError, Gone):
            return  # a full disk, or it has ended
        deadline = time.monotonic() + grace_seconds + _LATE_SECONDS
        look_again_at = time.monotonic() + _INSPECT_SECONDS
        while folder.end() is None and time.monotonic() < deadline:
            if time.monotonic() > look_again_at:
                found = self.engine.inspect(container.id)
                if found is None or not found.is_alive:
                    return
                look_again_at = time.monotonic() + _INSPECT_SECONDS
            time.sleep(folder.poll_seconds)

    def open_terminal(self, request: TerminalRequest) -> Terminal:
        self._running(request.placement_id)
        container = self.engine.inspect(self.containers.name_of(request.placement_id))
        if container is None:
            raise self._refusal(self.look(request.placement_id))
        return terminals.open_terminal(self.containers, container, request)

    # The rest

    def limits(self) -> KernelLimits:
        return KernelLimits(self.settings.memory_mib or None, self.settings.cpus or None)

    def health(self) -> Health:
        try:
            if self.settings.user != "account":
                recipe.user_of(self.settings, "")
            self.engine.ping()
            self.containers.way.check()
            self.containers.image()
            self.containers.network.look_after()
            free = min(shutil.disk_usage(path).free for path in (self._state_dir, *self.folders.disks))
        except (BackendError, OSError) as problem:
            message = problem.message if isinstance(problem, BackendError) else str(problem)
            return Health(False, message, soon=isinstance(problem, NoCapacity))  # the image is being pulled
        if free < _DISK_BYTES_MIN:
            return Health(False, "The disk that holds the folders for kernels is full.")
        return Health(True)

    def close(self) -> None:
        self._warm.close()
        self.containers.close()

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        self._warm.prepare(pools)

    def expect(self, model: str) -> None:
        self._warm.expect(model)

    @property
    def warm_count(self) -> int:
        return self._warm.ready_count

    def _running(self, placement_id: str) -> Folder:
        look = self.look(placement_id)
        if look.state is LookState.UNKNOWN:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        record = self._records.read(placement_id)
        if look.state is LookState.ENDED or (record is not None and record.reason is not None):
            raise self._refusal(look)
        if record is not None:
            return self.folders.of(record.folder, self.containers.name_of(placement_id))
        container = self.engine.inspect(self.containers.name_of(placement_id))
        if container is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        return self.containers.folder_of(container)

    def _lock_for(self, placement_id: str) -> threading.RLock:
        return self._locks[hash(placement_id) % len(self._locks)]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SkipPlace(f"The folder for kernels can't be written to: {problem.strerror}.") from problem
