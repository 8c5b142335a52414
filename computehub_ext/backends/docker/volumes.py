"""Folders of containers on an engine that is not this machine's: one volume, which goes with its container.

    /run/computehub/        root's, so that the kernel can only read it: paid_until, stop and the programs
    /run/computehub/own/    mode 0700, the kernel user's: connection.json, log, end.json

No folder is shared, so files are put in and taken out through the engine, as ``docker cp`` does, and the supervisor is
woken with signals instead of a bell. What the kernel is given is kept in this process's memory until its container is
there. On this side there is a folder for each all the same: it says until when the kernel is paid, which is looked at
often, and that somebody is making its container.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import Refused

from .archives import Archive
from .complaints import Gone
from .engine import Engine
from .folders import CONTROL, JSON_BYTES_MAX, LOG_TAIL_BYTES, PROGRAMS, Folder, Folders, as_object, checked, program
from .folders import seconds as in_seconds
from .shared import read_text, write_text

_OWN = "own"
_ROOT = (0, 0)


class VolumeFolder(Folder):
    """One container's."""

    poll_seconds = 0.05

    def __init__(self, folders: Volumes, key: str, control: Path, container: str) -> None:
        self.key, self.control, self._container = key, control, container
        self._folders, self._engine = folders, folders.engine
        self._given: dict[str, tuple[bytes, tuple[int, int]]] = {}
        self._own: tuple[tuple[int, int], int] | None = None

    @property
    def inside(self) -> str:
        return f"{CONTROL}/{_OWN}"

    def mounts(self) -> list[dict[str, Any]]:
        # Without a name, so that the engine removes it with its container; the label is for what a crash leaves.
        options = {"NoCopy": True, "Labels": self._folders.labels}
        return [{"Type": "volume", "Target": CONTROL, "ReadOnly": False, "VolumeOptions": options}]

    # What the kernel's side wrote

    def read(self, name: str) -> dict[str, Any] | None:
        return as_object(self._text(name, JSON_BYTES_MAX))

    def ports(self) -> dict[str, int] | None:
        found = self._folders.listening.get(self.key)
        if found is None and (found := super().ports()) is not None:
            self._folders.listening[self.key] = found  # asked for at every look, and never again otherwise
        return found

    def python_version(self) -> str:
        return self._text("python_version", 64) or ""

    def log_tail(self) -> str:
        return (self._text("log", LOG_TAIL_BYTES, from_end=True) or "").strip()

    def _text(self, name: str, bytes_max: int, *, from_end: bool = False) -> str | None:
        found = self._engine.fetch(self._container, f"{self.inside}/{name}", bytes_max, from_end=from_end)
        return None if found is None else found.decode(errors="replace")

    # What we write

    def furnish(self, owner: tuple[int, int], shared: bool) -> None:
        self._own = (owner, 0o770 if shared else 0o700)

    def give(self, name: str, contents: Mapping[str, Any] | str, owner: tuple[int, int]) -> None:
        text = contents if isinstance(contents, str) else json.dumps(contents)
        self._given[name] = (text.encode(), owner)

    def arrive(self, container: str) -> None:
        assert self._own is not None
        archive = Archive()
        for name in PROGRAMS:
            archive.add(name, program(name), _ROOT, 0o644)
        archive.add("paid_until", self._there(self.paid_until()).encode(), _ROOT, 0o644)
        archive.add(_OWN, None, *self._own)
        for name, (contents, owner) in self._given.items():
            archive.add(f"{_OWN}/{name}", contents, owner, 0o600)
        self._engine.put(container, CONTROL, archive.made())
        self._container = container

    def pay(self, paid_until: datetime) -> None:
        # Here first: were it the other way round, a crash in between would have us end what is paid for.
        write_text(self.control / "paid_until", in_seconds(paid_until))
        if self._container:
            try:
                self._put("paid_until", self._there(paid_until.timestamp()))
            except Gone as problem:
                raise Refused("The kernel has ended: its container is gone.") from problem

    def paid_until(self) -> float:
        try:
            return float(read_text(self.control / "paid_until", 64) or 0)
        except ValueError:
            return 0.0

    def ask_to_end(self, grace_seconds: float) -> None:
        self._put("stop", repr(float(grace_seconds)))
        self._engine.signal(self._container, "SIGTERM")

    def interrupt(self) -> None:
        if self.read("kernel.json") is not None:  # else nobody takes the signal yet, and it would end the container
            self._engine.signal(self._container, "SIGINT")

    def _put(self, name: str, text: str) -> None:
        archive = Archive()
        archive.add(name, text.encode(), _ROOT, 0o644)
        self._engine.put(self._container, CONTROL, archive.made())

    def _there(self, moment: float) -> str:
        """Return a moment as the engine's machine has it."""
        return repr(moment + self._engine.ahead_seconds())

    def remove(self) -> None:
        self._folders.listening.pop(self.key, None)
        shutil.rmtree(self.control, ignore_errors=True)


class Volumes(Folders):
    """All of one backend's, on its engine.

    Parameters
    ----------
    labels:
        By which its volumes are found.
    """

    is_kept = False

    def __init__(self, state_dir: Path, engine: Engine, labels: Mapping[str, str]) -> None:
        super().__init__(state_dir / "control")
        self.engine, self.labels = engine, dict(labels)
        self.listening: dict[str, dict[str, int]] = {}

    def of(self, key: str, container: str) -> VolumeFolder:
        return VolumeFolder(self, checked(key), self._control / key, container)

    def furnish(self, folder: VolumeFolder, owner: tuple[int, int], shared: bool) -> None:
        folder.furnish(owner, shared)

    def sweep(self) -> None:
        for name, value in self.labels.items():
            for volume in self.engine.lost_volumes(f"{name}={value}"):
                self.engine.remove_volume(volume)
