"""Which standby can become a certain person's: its folders that are not that person's are mounted late.

``mounting.py`` says how. A personal mount's *point* is the folder that the standby already has there, empty: what
stands before ``{username}`` in its target, or the target itself where that is the same for all.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from .engine import Image
from .folders import CONTROL
from .mounting import Window, open_folder
from .recipe import LATE_HOME, Wanted
from .settings import DockerSettings, Mount

_USERNAME = "{username}"
_NEEDED = (CONTROL, "/tmp", "/dev", "/proc", "/sys", "/etc", "/usr", "/bin", "/lib", "/lib64")
_READ_AT_START = tuple(f"ipython{kind}_config.{kin}" for kind in ("", "_kernel") for kin in ("py", "json"))


class NotLate(Exception):
    """Why a person's folders can't be mounted late, as a part of a sentence."""


@dataclass(frozen=True)
class Folder:
    """A person's folder, open."""

    descriptor: int
    inside: str
    place: int
    below: str
    read_only: bool

    def seen(self) -> dict[str, object]:
        """What the kernel has to see at ``inside``: this very folder and no other."""
        found = os.fstat(self.descriptor)
        return {"path": self.inside, "device": found.st_dev, "inode": found.st_ino, "read_only": self.read_only}


def points(settings: DockerSettings, sockets: str = "/run") -> tuple[str, ...]:
    """Return the points of the personal mounts, each once; none where there are no such mounts.

    Raises
    ------
    NotLate
        With these mounts, a container can't have them late.
    """
    found: list[str] = []
    for mount in settings.mounts:
        if mount.is_personal and (point := _point(mount)) not in found:
            found.append(point)
    fixed = [posixpath.normpath(mount.inside) for mount in settings.mounts if not mount.is_personal]
    python = [settings.python] if settings.python.startswith("/") else []
    for point in found:
        if hidden := next((path for path in (*_NEEDED, sockets, *python) if _is_below(path, point)), None):
            raise NotLate(f"an empty folder at {point} would hide {hidden}")
        if around := next((path for path in fixed if _is_below(point, path)), None):
            raise NotLate(f"{point} lies in another mount, {around}")
        if any(other != point and _is_below(other, point) for other in found):
            raise NotLate(f"there are personal folders at {point} and below")
    targets = [posixpath.normpath(mount.inside) for mount in settings.mounts if mount.is_personal]
    for one, target in enumerate(targets):
        if any(_is_below(path, target) for path in [*fixed, *targets[:one], *targets[one + 1 :]]):
            raise NotLate(f"something else is mounted in {target}")
    return tuple(found)


def make_window(window: Window, settings: DockerSettings, points: tuple[str, ...]) -> None:
    """Make a standby's window, with folders for the other mounts that lie below a point. Raises ``OSError``."""
    window.make(len(points))
    fixed = [posixpath.normpath(mount.inside) for mount in settings.mounts if not mount.is_personal]
    for number, point in enumerate(points):
        for path in fixed:
            if _is_below(path, point):
                (window.place(number) / posixpath.relpath(path, point)).mkdir(mode=0o755, parents=True)


def moves_home(settings: DockerSettings) -> bool:
    """Tell whether a standby's home folder is another before it is somebody's."""
    home = posixpath.normpath(settings.home)
    personal = (posixpath.normpath(mount.inside) for mount in settings.mounts if mount.is_personal)
    return _USERNAME in home or any(_is_below(home, target) for target in personal)


def at_home(home: str) -> dict[str, str]:
    """Return what changes in the environment of a standby when it gets this home folder."""
    return {"HOME": home, "IPYTHONDIR": posixpath.join(home, ".ipython")}


def standby_for(settings: DockerSettings, wanted: Wanted) -> Wanted:
    """Return what the standby was made with that can become what is wanted."""
    pairs = zip(settings.mounts, wanted.mounts, strict=True)
    fixed = tuple(mount for template, mount in pairs if not template.is_personal)
    return replace(wanted, mounts=fixed, cwd="/", home=LATE_HOME if moves_home(settings) else wanted.home)


def hidden_by(points: tuple[str, ...], image: Image) -> str:
    """Return what of the image's programs a standby would not find, since a point is over it; empty if nothing."""
    paths = image.environment.get("PATH", "").split(":")
    return next((path for path in paths for point in points if path and _is_below(posixpath.normpath(path), point)), "")


@contextmanager
def opened(settings: DockerSettings, wanted: Wanted) -> Iterator[list[Folder]]:
    """Open a person's folders.

    Raises
    ------
    NotLate
        They can't be this person's, or what is in them is read by a Python that starts and by no other.
    OSError
        One is not there, or a link that somebody made leads to it.
    """
    known = points(settings)
    pairs = list(zip(settings.mounts, wanted.mounts, strict=True))
    mine = [(template, mount) for template, mount in pairs if template.is_personal]
    targets = [posixpath.normpath(mount.inside) for _, mount in pairs]
    for _, mount in mine:
        target = posixpath.normpath(mount.inside)
        if sum(_is_below(other, target) or _is_below(target, other) for other in targets) > 1:
            raise NotLate(f"something else is mounted at {target}")
    with ExitStack() as stack:
        folders = []
        for template, mount in mine:
            descriptor = open_folder(mount.source)
            stack.callback(os.close, descriptor)
            point, target = _point(template), posixpath.normpath(mount.inside)
            below = "" if target == point else posixpath.relpath(target, point)
            folders.append(Folder(descriptor, target, known.index(point), below, mount.read_only))
        if moves_home(settings):
            _refuse_configuration(wanted.home, folders)
        yield folders


def mount_all(window: Window, folders: list[Folder]) -> None:
    """Mount them in a window that whoever was here before may have left half done. Raises ``OSError``."""
    if folders and not window.empty():
        raise OSError("what was mounted there before can't be unmounted")
    for folder in folders:
        window.mount(folder.descriptor, folder.place, folder.below, read_only=folder.read_only)


def _point(mount: Mount) -> str:
    before, username, _ = mount.inside.partition(_USERNAME)
    return posixpath.normpath(posixpath.dirname(before + "x") if username else mount.inside)


def _refuse_configuration(home: str, folders: list[Folder]) -> None:
    around = next((folder for folder in folders if _is_below(home, folder.inside)), None)
    if around is None:
        return
    profile = posixpath.join(posixpath.relpath(home, around.inside), ".ipython", "profile_default")
    for name in _READ_AT_START:
        try:
            os.stat(posixpath.join(profile, name), dir_fd=around.descriptor, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as problem:
            raise NotLate(f"whether {name} is in their profile can't be seen") from problem
        raise NotLate(f"{name} is read when a kernel starts")


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
