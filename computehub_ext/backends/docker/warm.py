"""Standby kernels in containers, started before anybody asks.

Nobody is billed for one that nobody leased. They are bounded in number and in memory, and each is paid for in advance
for half a minute only, so that they end by themselves soon after the control plane is gone.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from computehub_ext.core.errors import BackendError, NoCapacity, Refused

from . import late, mounting, recipe
from .containers import Containers
from .engine import Container, NameTaken
from .folders import Folder
from .shared import SharedFolder, SharedFolders

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_MEMORY_SECONDS = 10.0
_FAILURE_WAIT_SECONDS_MAX = 60.0
_NO_ROOM_WAIT_SECONDS = 2.0


@dataclass
class Standby:
    container: Container
    folder: SharedFolder
    wanted: recipe.Wanted
    environment: dict[str, str]
    started_at: float
    is_ready: bool = False


class WarmContainers:
    """Keeps standbys ready, from one thread that starts with the first ``prepare``."""

    def __init__(self, containers: Containers, name: str) -> None:
        self._containers, self._settings, self._name = containers, containers.settings, name
        self._wanted_count = 0
        self._kinds: list[recipe.Wanted] = []
        self._standbys: list[Standby] = []
        self._known: set[str] = set()
        self._not_before = 0.0
        self._failures = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def ready_count(self) -> int:
        with self._lock:
            return sum(standby.is_ready for standby in self._standbys)

    def prepare(self, count: int) -> None:
        # A container's GPUs are given to it when it is made, so that there is one kind for each.
        devices: list[tuple[str, ...]] = [(uuid,) for uuid in self._settings.warm_devices] or [()]
        try:
            points = self._late_points() if count else ()
            home = recipe.LATE_HOME if late.moves_home(self._settings) else self._settings.home
            kinds = [recipe.for_standby(self._settings, each, points, home) for each in devices]
        except late.NotLate as why:
            log.warning("%s keeps no kernels ready, and starts them on demand: %s.", self._name, why)
            kinds, count = [], 0
        with self._lock:
            if self._closed:
                return
            self._wanted_count, self._kinds = count, kinds
            if self._thread is None and count:
                name = f"computehub-standby-{self._name}"
                self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
                self._thread.start()
        self._wake.set()

    def _late_points(self) -> tuple[str, ...]:
        """Return where people's own folders are mounted late, if there are such. Raises ``NotLate``."""
        settings, folders = self._settings, self._containers.folders
        if settings.is_remote:
            raise late.NotLate("its engine is on another machine")
        if settings.user == "account":
            raise late.NotLate("they run as each person's own account, and a process can't change whose it is")
        points = late.points(settings, str(folders.sockets) if isinstance(folders, SharedFolders) else "")
        if points and (lacking := mounting.lacking()):
            raise late.NotLate(f"people have folders of their own, and {lacking}")
        return points

    def give_up(self, why: str) -> None:
        """Keep no kernels ready any more, since none could become anybody's here."""
        log.warning("%s keeps no kernels ready any more, and starts them on demand: %s.", self._name, why)
        with self._lock:
            self._wanted_count, self._kinds = 0, []
        self._wake.set()

    def take(self, wanted: recipe.Wanted) -> Standby | None:
        """Return a ready standby that is from now on the caller's, or None where none can become what is wanted."""
        suits = late.standby_for(self._settings, wanted)
        with self._lock:
            for standby in self._standbys:
                if standby.is_ready and replace(standby.wanted, late=()) == suits:
                    self._standbys.remove(standby)
                    self._not_before = time.monotonic() + self._settings.warm_replace_delay_seconds
                    return standby
        return None

    def give_back(self, standby: Standby) -> None:
        with self._lock:
            self._standbys.append(standby)

    def forget(self, standby: Standby) -> None:
        """Let ``discard_if_lost`` have it, if it is found under a standby's name again."""
        with self._lock:
            self._known.discard(standby.container.name)

    def discard_if_lost(self, container: Container) -> None:
        """Remove a standby that a control plane before this one left behind."""
        with self._lock:
            known = container.name in self._known
        if not known:
            try:
                self._containers.remove(container, self._containers.folder_of(container))
            except BackendError as problem:
                log.warning("A standby of an earlier control plane could not be removed: %s", problem)

    def close(self) -> None:
        with self._lock:
            self._closed, self._wanted_count = True, 0
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        with self._lock:
            standbys, self._standbys = self._standbys, []
        for standby in standbys:
            self._end(standby)

    # The thread

    def _keep(self) -> None:
        renewed_at = measured_at = 0.0
        while not self._closed:
            now = time.monotonic()
            try:
                if now - renewed_at > self._settings.warm_lifetime_seconds / 3:
                    # A third, so that two missed beats are survivable.
                    renewed_at = now
                    self._renew()
                self._look_after_all()
                if now - measured_at > _MEMORY_SECONDS:
                    measured_at = now
                    self._look_at_memory()
                self._top_up()
            except Exception as problem:
                if isinstance(problem, NoCapacity):  # the image is being pulled, which is logged there
                    self._not_before = time.monotonic() + _NO_ROOM_WAIT_SECONDS
                elif isinstance(problem, BackendError):
                    log.warning("Keeping standby kernels failed; trying again. %s", problem)
                    self._note_failure()
                else:
                    log.exception("Keeping standby kernels failed; trying again.")
                    self._note_failure()
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()

    def _renew(self) -> None:
        for standby in self._copy():
            try:
                standby.folder.pay(self._paid_until())
            except OSError:
                pass  # taken or removed in this moment
        image_id = self._containers.image().id
        for standby in self._copy():
            if standby.container.image_id != image_id:
                self._drop(standby, "its image is no longer the one of that name", failed=False)

    def _look_after_all(self) -> None:
        now = time.monotonic()
        for standby in self._copy():
            age = now - standby.started_at
            if standby.folder.end() is not None:
                self._drop(standby, "it ended by itself", failed=not standby.is_ready)
            elif not standby.is_ready:
                if (standby.folder.path / "adopt.sock").exists():
                    standby.is_ready, self._failures = True, 0
                elif age > self._settings.start_seconds_max or not self._is_alive(standby):
                    self._drop(standby, "it was not ready in time", failed=True)
            elif age > self._settings.warm_age_seconds_max:
                self._drop(standby, "it is old", failed=False)
        with self._lock:
            surplus = self._standbys[self._wanted_count :]
        for standby in surplus:
            self._drop(standby, "", failed=False)

    def _look_at_memory(self) -> None:
        """Drop those that are gone, and of the others as many as are too many for the memory that they may use."""
        left = self._settings.warm_memory_mib_max * 2**20
        for standby in self._copy():
            if not self._is_alive(standby):
                self._drop(standby, "it is gone", failed=True)
                continue
            left -= self._containers.engine.memory_bytes(standby.container.id)
            if left < 0:
                self._not_before = time.monotonic() + _FAILURE_WAIT_SECONDS_MAX
                self._drop(standby, "all of them together hold too much memory", failed=False)

    def _is_alive(self, standby: Standby) -> bool:
        found = self._containers.engine.inspect(standby.container.id)
        return found is not None and found.is_alive

    def _top_up(self) -> None:
        with self._lock:
            starting = any(not standby.is_ready for standby in self._standbys)
            lacking = len(self._standbys) < self._wanted_count and not starting
            there = [standby.wanted for standby in self._standbys]
            kind = min(self._kinds, key=there.count, default=None)
        if self._closed or not lacking or kind is None or time.monotonic() < self._not_before:
            return  # one at a time, since a start takes a whole core
        standby = self._start(kind)
        with self._lock:
            self._standbys.append(standby)  # also when closed meanwhile: close() waits for this thread, then ends all

    def _start(self, wanted: recipe.Wanted) -> Standby:
        containers = self._containers
        label = f"standby-{secrets.token_hex(8)}"
        image = containers.image()
        environment = recipe.environment_of(self._settings, image, wanted, "")
        if hidden := late.hidden_by(wanted.late, image):
            raise Refused(f"An empty folder for people's own would hide {hidden}, where the image has programs.")

        def fill(folder: Folder) -> None:
            if wanted.late:
                assert isinstance(folder, SharedFolder)
                late.make_window(folder.window, self._settings, wanted.late)
            own = {**environment, **recipe.label(label, containers.owner)}
            # Nobody ever signs with this key: the kernel gets its placement's when it is taken.
            key, secret = secrets.token_hex(32), secrets.token_hex(32)
            told = containers.way.told(folder, label)
            recipe.fill(folder, self._settings, wanted, own, key, told, standby=secret)

        name = containers.standby_name(label)
        with self._lock:
            self._known.add(name)  # before it is there, or a list made meanwhile would take it for a predecessor's
        try:
            container, folder = containers.make(name, label, image, wanted, fill, self._paid_until())
        except NameTaken as problem:
            raise AssertionError("the name is random") from problem
        assert isinstance(folder, SharedFolder)
        return Standby(container, folder, wanted, environment, time.monotonic())

    def _drop(self, standby: Standby, why: str, *, failed: bool) -> None:
        with self._lock:
            if standby not in self._standbys:
                return  # taken in this moment
            self._standbys.remove(standby)
        if why:
            tail = standby.folder.log_tail() if failed else ""
            log.warning("A standby kernel was dropped: %s. %s", why, tail)
        if failed:
            self._note_failure()
        self._end(standby)

    def _end(self, standby: Standby) -> None:
        try:
            self._containers.remove(standby.container, standby.folder)
        except BackendError as problem:
            log.warning("A standby kernel could not be removed; it ends by itself. %s", problem)
        with self._lock:
            self._known.discard(standby.container.name)

    def _note_failure(self) -> None:
        self._failures += 1
        wait = min(_FAILURE_WAIT_SECONDS_MAX, 2.0**self._failures)
        self._not_before = max(self._not_before, time.monotonic() + wait)

    def _paid_until(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._settings.warm_lifetime_seconds)

    def _copy(self) -> list[Standby]:
        with self._lock:
            return list(self._standbys)
