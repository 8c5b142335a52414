"""The two folders of a container, whichever way this side has to them: one is the kernel's own, one it can only read.

The kernel's own has connection.json, log, end.json and, where messages go over sockets in it, those. The other, its
control folder, has paid_until, stop and the programs; a container finds it at /run/computehub. ``shared.py`` is for an
engine on this machine, where both have the same path on both sides; ``volumes.py`` for one on another.

Whatever is read from the first was written by somebody whom this process must not trust with its own rights: no link is
followed, nothing but a plain file is read, and never more than it should have.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import SkipPlace

CONTROL = "/run/computehub"
"""Where a container finds its control folder."""
PROGRAMS = ("first.py", "supervisor.py", "standby.py")
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
JSON_BYTES_MAX = 64 * 1024
LOG_TAIL_BYTES = 8000
_KERNEL_WING = Path(__file__).resolve().parents[2] / "kernel"  # programs that we send, not modules that we import


class Folder(ABC):
    """One container's two folders.

    Attributes
    ----------
    key:
        What this side knows it by.
    control:
        What of it this side keeps: whoever can lock it knows that nobody makes its container just now.
    poll_seconds:
        How often it is looked at while something is waited for.
    """

    key: str
    control: Path
    poll_seconds = 0.003

    @property
    @abstractmethod
    def inside(self) -> str:
        """The kernel's own folder, as the container knows it."""

    @abstractmethod
    def mounts(self) -> list[dict[str, Any]]:
        """Return both as mounts of a container, in the words of the engine."""

    # What the kernel's side wrote

    @abstractmethod
    def read(self, name: str) -> dict[str, Any] | None:
        """Return what a file of the kernel's own folder holds; None if it is no object of JSON."""

    @abstractmethod
    def python_version(self) -> str: ...

    @abstractmethod
    def log_tail(self) -> str: ...

    def connection(self) -> dict[str, Any] | None:
        """Return the connection file's contents once the kernel listens."""
        info = self.read("connection.json")
        return info if info is not None and all(_is_port(info.get(port)) for port in PORTS) else None

    def ports(self) -> dict[str, int] | None:
        info = self.connection()
        return None if info is None else {port: info[port] for port in PORTS}

    def end(self) -> dict[str, Any] | None:
        return self.read("end.json")

    # What we write

    @abstractmethod
    def give(self, name: str, contents: Mapping[str, Any] | str, owner: tuple[int, int]) -> None:
        """Put a file into the kernel's own folder; only before anybody's code runs there."""

    def arrive(self, container: str) -> None:  # noqa: B027 - where folders are shared they are there
        """Bring what was given into the container, which has been made and has not been started."""

    @abstractmethod
    def pay(self, paid_until: datetime) -> None: ...

    @abstractmethod
    def paid_until(self) -> float: ...

    @abstractmethod
    def ask_to_end(self, grace_seconds: float) -> None: ...

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt the kernel. Where its supervisor does not listen yet, nothing runs that could be interrupted."""

    @abstractmethod
    def remove(self) -> None: ...


class Folders(ABC):
    """All of one backend's folders.

    Parameters
    ----------
    control:
        Where this side keeps its part of each.

    Attributes
    ----------
    is_kept:
        Whether what a folder was given outlives this process before it has arrived.
    """

    is_kept = True

    def __init__(self, control: Path) -> None:
        self._control = control
        control.mkdir(mode=0o700, exist_ok=True)

    @property
    def disks(self) -> tuple[Path, ...]:
        """What must not be full."""
        return (self._control,)

    @abstractmethod
    def of(self, key: str, container: str) -> Folder:
        """Return the folder that has this key; ``container`` is the name or the id of the container that has it."""

    @abstractmethod
    def furnish(self, folder: Any, owner: tuple[int, int], shared: bool) -> None:
        """Make what a new container is to find, but for what it is given."""

    @contextlib.contextmanager
    def made(self, owner: tuple[int, int], *, shared: bool, paid_until: datetime) -> Iterator[Folder]:
        """Make both, and keep ``sweep`` away from them until the body has made their container, or failed to."""
        with _translated():
            folder = self.of(secrets.token_hex(4), "")
            folder.control.mkdir(mode=0o755)
            os.chmod(folder.control, 0o755)  # whatever the umask is: the kernel's user reads it
            with _lock(folder) as is_ours:
                assert is_ours, "nobody else knows this folder yet"
                try:
                    folder.pay(paid_until)
                    self.furnish(folder, owner, shared)
                except BaseException:
                    folder.remove()
                    raise
                yield folder

    def keys(self) -> set[str]:
        return {path.name for path in self._control.iterdir() if path.name.isalnum()}

    @contextlib.contextmanager
    def unowned(self, key: str) -> Iterator[Folder | None]:
        """Give the folder if nobody is making a container for it just now, which nobody can while the body runs."""
        folder = self.of(key, "")
        folder.control.mkdir(mode=0o755, exist_ok=True)
        with _lock(folder) as is_ours:
            yield folder if is_ours else None

    def sweep(self) -> None:  # noqa: B027 - most leave nothing that has no key
        """Remove what crashes left on the engine."""

    def discard(self) -> None:  # noqa: B027 - most have nothing there
        """Remove what is empty, so that a place that is given up leaves nothing outside its own folder."""


def program(name: str) -> bytes:
    """Return one of ``PROGRAMS``, as it is sent in."""
    return (_KERNEL_WING / name).read_bytes()


def checked(key: str) -> str:
    """Return a key that can be a file's name and nothing else."""
    if not key.isalnum():
        raise ValueError(f"{key!r} is no folder of ours")
    return key


def as_object(text: str | None) -> dict[str, Any] | None:
    """Return what a text of JSON holds, if that is an object."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def seconds(moment: datetime) -> str:
    """Return a moment as a supervisor reads it."""
    return repr(moment.astimezone(UTC).timestamp())


@contextlib.contextmanager
def _lock(folder: Folder) -> Iterator[bool]:
    # The system lets go of it when its holder dies, which is how a successor knows that nobody goes on with a start.
    descriptor = os.open(folder.control / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SkipPlace(f"The folder for kernels can't be written to: {problem.strerror}.") from problem


def _is_port(value: object) -> bool:
    return type(value) is int and 0 < value < 65536
