"""Mounting a folder below one that a running container has: it appears there at once.

Docker gives a container its folders when it is made. One of them can be a window (``rslave``): what is mounted on this
side of it later is seen on the other. A window is a folder of ours, a mount of its own, and empty but for the places at
which something is mounted.

Each step names what it works on by an open file, so that nobody can put another folder in its place meanwhile. A
window is taken away by unmounting, then by removing what is empty: no step of it deletes a file, whatever is mounted.

Linux 5.12 or later, and the right to mount (CAP_SYS_ADMIN, as root has it).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import re
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all of Linux's machines
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_OPEN_TREE_CLONE, _FROM_OPEN, _TO_OPEN = 1, 0x4, 0x40
_READ_ONLY, _NO_SETUID, _NO_DEVICES = 1, 2, 4
_PRIVATE, _SHARED = 1 << 18, 1 << 20
_DETACH, _UNMOUNT_NO_FOLLOW = 2, 8
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_MAX = 20
_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


class Window:
    """One container's window. ``places`` are numbered folders in it, each of which the container has somewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, places: int) -> None:
        """Make it, empty. Raises ``OSError``."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        os.chmod(self.path.parent, 0o700)
        self.path.mkdir(mode=0o755)
        for number in range(places):
            self.place(number).mkdir(mode=0o755)
        folder = os.open(self.path, _FOLDER)
        try:
            _attach(folder, folder, attributes=0, propagation=_SHARED)
        finally:
            os.close(folder)

    def place(self, number: int) -> Path:
        return self.path / str(number)

    def mount(self, source: int, place: int, below: str, *, read_only: bool) -> None:
        """Mount an open folder in a place, or at a path below it. Raises ``OSError``."""
        target = os.open(self.place(place), _FOLDER)
        try:
            for part in below.split("/") if below else ():
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=target)
                target, above = os.open(part, _FOLDER, dir_fd=target), target
                os.close(above)
            attributes = _NO_SETUID | _NO_DEVICES | (_READ_ONLY if read_only else 0)
            _attach(source, target, attributes=attributes, propagation=_PRIVATE)
        finally:
            os.close(target)

    def empty(self) -> bool:
        """Unmount what was mounted in it, here and in the container; tell whether nothing is left mounted there."""
        return _unmount(self.path, keep=True)

    def remove(self) -> bool:
        """Take it away; False if something in it is mounted still, and then all of it is left as it is."""
        if not self.path.exists():
            return True
        if not _unmount(self.path, keep=False):
            log.warning("A folder of a kernel's can't be unmounted: %s. It is left where it is.", self.path)
            return False
        for path, _, _ in os.walk(self.path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)  # what holds anything is not ours
        return not self.path.exists()


def lacking() -> str:
    """Return what keeps this process from mounting, as the end of a sentence; empty if nothing does."""
    try:
        tree = _call(_OPEN_TREE, _AT_FDCWD, b"/", _OPEN_TREE_CLONE | os.O_CLOEXEC)
        try:
            _set(tree, attributes=_NO_DEVICES, propagation=_PRIVATE)
        finally:
            os.close(tree)
    except OSError as problem:
        if problem.errno == errno.ENOSYS:
            return "it takes Linux 5.12 or later"
        return "ComputeHub has no right to mount (it is not root)"
    return ""


def open_folder(path: str) -> int:
    """Open a folder to be mounted, following no link that somebody other than root or this account made.

    Raises
    ------
    OSError
        There is no such folder, or somebody's link is on the way (``ELOOP``).
    """
    waiting = path.split("/")[::-1]
    links = 0
    current = os.open("/", _FOLDER)
    try:
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            try:
                found = os.open(name, _FOLDER, dir_fd=current)
            except NotADirectoryError:
                link = _link(name, current)
                links += 1
                if links > _LINKS_MAX:
                    raise OSError(errno.ELOOP, "too many links") from None
                waiting += link.split("/")[::-1]
                if not link.startswith("/"):
                    continue
                found = os.open("/", _FOLDER)
            current, above = found, current
            os.close(above)
    except BaseException:
        os.close(current)
        raise
    return current


def mounted_below(folder: Path) -> list[str]:
    """Return what is mounted on a folder and below it, in the order in which it came; a place may come twice."""
    points = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4])
            if point == str(folder) or point.startswith(f"{folder}/"):
                points.append(point)
    return points


def _unmount(folder: Path, *, keep: bool) -> bool:
    for point in reversed(mounted_below(folder)):
        if not (keep and point == str(folder)):
            # At once, whoever is in it: the container has its own, which goes with it.
            _libc.umount2(os.fsencode(point), _DETACH | _UNMOUNT_NO_FOLLOW)
    return mounted_below(folder) in ([], [str(folder)] if keep else [])


def _link(name: str, folder: int) -> str:
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(found)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{name} is no folder")
        if status.st_uid not in (0, os.geteuid()):
            raise OSError(errno.ELOOP, f"{name} is a link of somebody's")
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


def _attach(source: int, target: int, *, attributes: int, propagation: int) -> None:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
    tree = _call(_OPEN_TREE, source, b"", flags)
    try:
        _set(tree, attributes=attributes, propagation=propagation)  # before anybody sees it
        _call(_MOVE_MOUNT, tree, b"", target, b"", _FROM_OPEN | _TO_OPEN)
    finally:
        os.close(tree)


def _set(tree: int, *, attributes: int, propagation: int) -> None:
    wanted = _Attributes(attributes, 0, propagation, 0)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    _call(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)))


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
