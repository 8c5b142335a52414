"""Standby kernels in containers, of one image, for the models of the pools that stand on the place.

A container's GPUs are given to it when it is made, so that a standby for a real GPU is for that one alone. Simulated
devices are given to nobody: one kind of container serves all their models.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from computehub_ext.core.errors import BackendError, Refused

from .. import standby_keeper, standby_rules
from ..capabilities import PoolLike
from ..standby_keeper import StandbyKeeper
from ..standby_rules import Group
from . import late, mounting, recipe
from .containers import Containers
from .engine import Container, NameTaken
from .folders import Folder
from .settings import DockerSettings
from .shared import SharedFolder, SharedFolders

log = logging.getLogger(__name__)

_MEMORY_SECONDS = 10.0
_LEASED_SECONDS = 2.0


@dataclass(eq=False)
class Standby(standby_keeper.Standby[recipe.Wanted]):
    container: Container
    folder: SharedFolder
    environment: dict[str, str]


def groups_of(
    settings: DockerSettings, pools: Iterable[PoolLike], kind: Callable[[tuple[str, ...]], recipe.Wanted]
) -> list[Group[recipe.Wanted]]:
    """Return what to keep ready for these pools. ``kind`` makes what a container is that has these GPUs."""
    without: set[str] = set()
    devices: dict[str, list[str]] = {}
    for pool in pools:
        if pool.simulated or not settings.gpus:
            without.add(pool.model)
        else:
            devices.setdefault(pool.model, []).extend(device.uuid for device in pool.devices)
    groups = []
    # One target for a model, which is that of its real ones: its simulated ones would have as many again.
    without -= devices.keys()
    if without:
        count = settings.warm_count_of(*sorted(without))
        groups.append(Group(frozenset(without), (kind(()),) * count, count))
    for model, uuids in devices.items():
        groups.append(Group(frozenset({model}), tuple(kind((uuid,)) for uuid in uuids), settings.warm_count_of(model)))
    return groups


class WarmContainers(StandbyKeeper[recipe.Wanted, Standby]):
    """Keeps them, and knows which containers are standbys of this control plane."""

    def __init__(self, containers: Containers, name: str) -> None:
        settings = containers.settings
        bounds = standby_keeper.Bounds(
            lifetime_seconds=settings.warm_lifetime_seconds,
            age_seconds_max=settings.warm_age_seconds_max,
            start_seconds_max=settings.start_seconds_max,
            replace_delay_seconds=settings.warm_replace_delay_seconds,
            idle_seconds=settings.warm_idle_seconds,
        )
        super().__init__(name, bounds)
        self._containers, self._settings = containers, settings
        self._known: set[str] = set()
        self._measured_at = self._listed_at = float("-inf")
        self._leased_uuids: frozenset[str] = frozenset()
        self._told_of_memory = False
        self._largest: dict[str, int] = {}

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        if not self._settings.warm_count:
            return
        groups: list[Group[recipe.Wanted]] = []
        try:
            points = self._late_points() if pools else ()
            home = recipe.LATE_HOME if late.moves_home(self._settings) else self._settings.home
            groups = groups_of(
                self._settings, pools, lambda uuids: recipe.for_standby(self._settings, uuids, points, home)
            )
        except late.NotLate as why:
            log.warning("%s keeps no kernels ready, and starts them on demand: %s.", self._name, why)
        except BackendError as why:
            log.warning("%s keeps no kernels ready: %s", self._name, why)
        self.keep(groups)

    def _late_points(self) -> tuple[str, ...]:
        """Return where people's own folders are mounted late, if there are such. Raises ``NotLate``."""
        settings, folders = self._settings, self._containers.folders
        points = late.points(settings, str(folders.sockets) if isinstance(folders, SharedFolders) else "")
        if points and (lacking := mounting.lacking()):
            raise late.NotLate(f"people have folders of their own, and {lacking}")
        return points

    def give_up(self, why: str) -> None:
        """Keep no kernels ready any more, since none could become anybody's here."""
        log.warning("%s keeps no kernels ready any more, and starts them on demand: %s.", self._name, why)
        self.keep(())

    def take_for(self, model: str, wanted: recipe.Wanted) -> Standby | None:
        """Return a ready standby that is from now on the caller's, or None where none can become what is wanted."""
        suits = late.standby_for(self._settings, wanted)
        # They are somebody's from now on; its container, which says so, is about to get its name.
        self._leased_uuids |= set(wanted.device_uuids)
        self._listed_at = self._clock()
        return self.take(model, lambda standby: replace(standby.kind, late=()) == suits)

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

    # The thread

    def _pay(self, standby: Standby, until: datetime) -> None:
        standby.folder.pay(until)

    def _has_ended(self, standby: Standby) -> bool:
        return standby.folder.end() is not None or (not standby.is_ready and not self._is_alive(standby))

    def _is_listening(self, standby: Standby) -> bool:
        return (standby.folder.path / "adopt.sock").exists()

    def _log_tail(self, standby: Standby) -> str:
        return standby.folder.log_tail()

    def _is_alive(self, standby: Standby) -> bool:
        found = self._containers.engine.inspect(standby.container.id)
        return found is not None and found.is_alive

    def _leased(self, kinds: Collection[recipe.Wanted]) -> Collection[recipe.Wanted]:
        if not any(kind.device_uuids for kind in kinds):
            return ()
        if self._clock() - self._listed_at > _LEASED_SECONDS:
            self._listed_at = self._clock()
            self._leased_uuids = frozenset(
                uuid
                for container in self._containers.all()
                if self._containers.placement_of(container.name) is not None and not container.is_over
                for uuid in container.labels.get(recipe.DEVICES_LABEL, "").split(",")
                if uuid
            )
        return [kind for kind in kinds if self._leased_uuids.intersection(kind.device_uuids)]

    def _amiss(self, standbys: Sequence[Standby]) -> Iterable[tuple[Standby, str, bool]]:
        if self._clock() - self._measured_at < _MEMORY_SECONDS or not standbys:
            return
        self._measured_at = self._clock()
        image_id = self._containers.image().id
        there = []
        for standby in standbys:
            if standby.container.image_id != image_id:
                yield standby, "its image is no longer the one of that name", False
            elif not self._is_alive(standby):
                yield standby, "it is gone", True
            else:
                there.append(standby)
        for position in standby_rules.over(self._sizes(there), self._bytes_max):
            self._wait_for(standby_keeper.FAILURE_WAIT_SECONDS_MAX)
            yield there[position], "all of them together hold too much memory", False

    def _has_room(self, standbys: Sequence[Standby]) -> bool:
        # Of the image as it is now: another one's may be smaller.
        seen = 0 if standbys else self._largest.get(self._containers.image().id, 0)
        if standby_rules.has_room(self._sizes(standbys), self._bytes_max, seen):
            return True
        if not self._told_of_memory:
            self._told_of_memory = True
            log.warning(
                "%s keeps %d kernels ready and no more: another would go beyond warm_memory_mib_max (%d).",
                self._name,
                len(standbys),
                self._settings.warm_memory_mib_max,
            )
        return False

    @property
    def _bytes_max(self) -> int:
        return self._settings.warm_memory_mib_max * 2**20

    def _sizes(self, standbys: Sequence[Standby]) -> list[int]:
        sizes = [self._containers.engine.memory_bytes(standby.container.id) for standby in standbys]
        for standby, size in zip(standbys, sizes, strict=True):
            image_id = standby.container.image_id
            self._largest[image_id] = max(size, self._largest.get(image_id, 0))
        return sizes

    def _start(self, kind: recipe.Wanted) -> Standby:
        containers = self._containers
        label = f"standby-{secrets.token_hex(8)}"
        image = containers.image()
        environment = recipe.environment_of(self._settings, image, kind, "")
        if hidden := late.hidden_by(kind.late, image):
            raise Refused(f"An empty folder for people's own would hide {hidden}, where the image has programs.")

        def fill(folder: Folder) -> None:
            if kind.late:
                assert isinstance(folder, SharedFolder)
                late.make_window(folder.window, self._settings, kind.late)
            own = {**environment, **recipe.label(label, containers.owner)}
            # Nobody ever signs with this key: the kernel gets its placement's when it is taken.
            key, secret = secrets.token_hex(32), secrets.token_hex(32)
            told, arguments = containers.way.told(folder, label), containers.way.arguments()
            recipe.fill(folder, self._settings, kind, own, key, told, standby=secret, arguments=arguments)

        name = containers.standby_name(label)
        with self._lock:
            self._known.add(name)  # before it is there, or a list made meanwhile would take it for a predecessor's
        paid_until = datetime.now(UTC) + timedelta(seconds=self._settings.warm_lifetime_seconds)
        try:
            container, folder = containers.make(name, label, image, kind, fill, paid_until)
        except NameTaken as problem:
            raise AssertionError("the name is random") from problem
        assert isinstance(folder, SharedFolder)
        return Standby(kind, self._clock(), False, container, folder, environment)

    def _end(self, standby: Standby) -> None:
        try:
            self._containers.remove(standby.container, standby.folder)
        except BackendError as problem:
            log.warning("A standby kernel could not be removed; it ends by itself. %s", problem)
        with self._lock:
            self._known.discard(standby.container.name)
