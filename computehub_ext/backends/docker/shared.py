"""Folders on an engine's own machine, which is this one.

SOCKETS/<key>/          mode 0700, the kernel user's: connection.json, k-1 ... k-5 (its sockets), log, end.json
STATE/control/<key>/    mounted read-only at /run/computehub: paid_until, stop, bell and the programs
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..removal import remove_folder
from .folders import CONTROL, JSON_BYTES_MAX, LOG_TAIL_BYTES, PROGRAMS, Folder, Folders, as_object, checked, program
from .folders import seconds as in_seconds
from .mounting import Window

_SOCKETS_BYTES_MAX = 64
"""A socket's path has 107 bytes; that leaves 43 for its name."""


@dataclass(frozen=True)
class SharedFolder(Folder):
    """One container's two folders. The kernel's own has the same path on both sides."""

    key: str
    path: Path
    control: Path

    @property
    def inside(self) -> str:
        return str(self.path)

    def mounts(self) -> list[dict[str, Any]]:
        return [
            {"Type": "bind", "Source": str(self.path), "Target": str(self.path), "ReadOnly": False},
            {"Type": "bind", "Source": str(self.control), "Target": CONTROL, "ReadOnly": True},
        ]

    @property
    def window(self) -> Window:
        return Window(self.path.parent.with_name(f"{self.path.parent.name}.windows") / self.key)

    def read(self, name: str) -> dict[str, Any] | None:
        return as_object(read_text(self.path / name, JSON_BYTES_MAX))

    def python_version(self) -> str:
        return read_text(self.path / "python_version", 64) or ""

    def log_tail(self) -> str:
        return (read_text(self.path / "log", LOG_TAIL_BYTES, from_end=True) or "").strip()

    def give(self, name: str, contents: Mapping[str, Any] | str, owner: tuple[int, int]) -> None:
        text = contents if isinstance(contents, str) else json.dumps(contents)
        descriptor = os.open(
            self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            _chown(file.fileno(), owner)

    def pay(self, paid_until: datetime) -> None:
        write_text(self.control / "paid_until", in_seconds(paid_until))

    def paid_until(self) -> float:
        try:
            return float(read_text(self.control / "paid_until", 64) or 0)
        except ValueError:
            return 0.0

    def ask_to_end(self, grace_seconds: float) -> None:
        write_text(self.control / "stop", repr(float(grace_seconds)))
        self.ring(b"S")

    def interrupt(self) -> None:
        self.ring(b"I")

    def ring(self, what: bytes) -> bool:
        """Wake the supervisor; False if it has not begun to listen, or has ended."""
        try:
            bell = os.open(self.control / "bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as problem:
            if problem.errno in (errno.ENXIO, errno.ENOENT):
                return False
            raise
        try:
            os.write(bell, what)
        except BlockingIOError:
            pass  # a pipe full of it: it was rung often enough
        finally:
            os.close(bell)
        return True

    def remove(self) -> None:
        if not self.window.remove():
            return  # found again by the next sweep
        for path in (self.path, self.control):
            remove_folder(path)


class SharedFolders(Folders):
    """All of one backend's folders, below ``state_dir`` and a folder for sockets."""

    def __init__(self, state_dir: Path, sockets_folder: str, owner: str) -> None:
        self.sockets = _sockets_folder(state_dir, sockets_folder, owner)
        _make_private(self.sockets)
        super().__init__(state_dir / "control")
        self._programs = _copy_programs(state_dir / "programs")

    @property
    def disks(self) -> tuple[Path, ...]:
        return (self._control, self.sockets)

    def of(self, key: str, container: str = "") -> SharedFolder:
        return SharedFolder(checked(key), self.sockets / key, self._control / key)

    def furnish(self, folder: SharedFolder, owner: tuple[int, int], shared: bool) -> None:
        os.mkfifo(folder.control / "bell")
        os.chmod(folder.control / "bell", 0o644)
        for name in PROGRAMS:
            os.link(self._programs / name, folder.control / name)
        _make_private(self.sockets)  # again, since one that was empty is removed when a backend closes
        folder.path.mkdir(mode=0o700)
        _chown(folder.path, owner)
        if shared:
            os.chmod(folder.path, 0o770)

    def keys(self) -> set[str]:
        found = super().keys()
        for folder in (self.sockets, self.of("all").window.path.parent):
            with contextlib.suppress(OSError):
                found |= {path.name for path in folder.iterdir() if path.name.isalnum()}
        return found

    def discard(self) -> None:
        for folder in (self.sockets, self.of("all").window.path.parent):
            with contextlib.suppress(OSError):
                folder.rmdir()


def _sockets_folder(state_dir: Path, chosen: str, owner: str) -> Path:
    """Return where sockets lie. A successor has to choose the same, so that nothing is asked that may change."""
    if chosen:
        return Path(chosen) / owner
    uid = os.geteuid()
    if uid == 0:
        return Path(f"/run/computehub-{uid}") / owner  # entered by the accounts of others, who can't enter state_dir
    if len(os.fsencode(state_dir / "sockets" / "12345678")) <= _SOCKETS_BYTES_MAX:
        return state_dir / "sockets"
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"computehub-{uid}" / owner


def _make_private(folder: Path) -> None:
    """Make it, entered by all, listed and changed by us alone: each kernel's own folder in it is private."""
    for path in (folder.parent, folder):
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    above = folder.parent.lstat()
    # Who may write there could put another folder in the place of ours; with a sticky bit only who owns it.
    is_anybodys = above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX
    if not stat.S_ISDIR(above.st_mode) or above.st_uid not in (0, os.geteuid()) or is_anybodys:
        raise PermissionError(errno.EACCES, f"{folder.parent} belongs to somebody else, or anybody may write to it")
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"{folder} belongs to somebody else")
    os.chmod(folder, 0o711)


def _copy_programs(folder: Path) -> Path:
    """Keep a copy that no upgrade changes under a running container's feet, named by what is in it."""
    texts = [program(name) for name in PROGRAMS]
    place = folder / hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    if not place.is_dir():
        new = folder / f".{secrets.token_hex(4)}"
        new.mkdir(mode=0o755, parents=True)
        for name, text in zip(PROGRAMS, texts, strict=True):
            (new / name).write_bytes(text)
            os.chmod(new / name, 0o644)
        try:
            os.rename(new, place)
        except OSError:  # another was first
            shutil.rmtree(new)
    return place


def write_text(path: Path, text: str) -> None:
    """Write a file that everybody may read, so that a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
    os.replace(temporary, path)


def _chown(what: int | Path, owner: tuple[int, int]) -> None:
    if owner != (os.geteuid(), os.getegid()):
        os.chown(what, *owner)


def read_text(path: Path, bytes_max: int, *, from_end: bool = False) -> str | None:
    """Return what a plain file holds, its beginning or its end; None for anything else, a link too."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        if from_end:
            file.seek(max(0, found.st_size - bytes_max))
        return (file.read(bytes_max) or b"").decode(errors="replace")
