"""The two folders of a container: one that is the kernel's own, for its sockets, and one that it can only read.

    SOCKETS/<key>/          mode 0700, the kernel user's: connection.json, k-1 ... k-5 (its sockets), log, end.json
    STATE/control/<key>/    mounted read-only at /run/computehub: paid_until, stop, bell and the programs

Whatever is read from the first was written by somebody whom this process must not trust with its own rights: no link is
followed, nothing but a plain file is read, and never more than it should have.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import SkipPlace

CONTROL = "/run/computehub"
"""Where a container finds its control folder."""
PROGRAMS = ("first.py", "supervisor.py", "standby.py")
_KERNEL_WING = Path(__file__).resolve().parents[2] / "kernel"  # programs that we send, not modules that we import
_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_JSON_BYTES_MAX = 64 * 1024
_LOG_TAIL_BYTES = 8000
_SOCKETS_BYTES_MAX = 64
"""A socket's path has 107 bytes; that leaves 43 for its name."""


@dataclass(frozen=True)
class Folder:
    """One container's two folders."""

    key: str
    path: Path
    control: Path

    # What the kernel's side wrote

    def connection(self) -> dict[str, Any] | None:
        """Return the connection file's contents once the kernel listens."""
        info = _json(self.path / "connection.json")
        return info if info is not None and all(_is_port(info.get(port)) for port in _PORTS) else None

    def ports(self) -> dict[str, int] | None:
        info = self.connection()
        return None if info is None else {port: info[port] for port in _PORTS}

    def python_version(self) -> str:
        return _text(self.path / "python_version", 64) or ""

    def end(self) -> dict[str, Any] | None:
        return _json(self.path / "end.json")

    def log_tail(self) -> str:
        return (_text(self.path / "log", _LOG_TAIL_BYTES, from_end=True) or "").strip()

    # What we write

    def give(self, name: str, contents: Mapping[str, Any] | str, owner: tuple[int, int]) -> None:
        """Put a file into the kernel's own folder; only before anybody's code runs there."""
        text = contents if isinstance(contents, str) else json.dumps(contents)
        descriptor = os.open(
            self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            _chown(file.fileno(), owner)

    def pay(self, paid_until: datetime) -> None:
        _write(self.control / "paid_until", repr(paid_until.astimezone(UTC).timestamp()))

    def paid_until(self) -> float:
        try:
            return float(_text(self.control / "paid_until", 64) or 0)
        except ValueError:
            return 0.0

    def ask_to_end(self, grace_seconds: float) -> None:
        _write(self.control / "stop", repr(float(grace_seconds)))
        self.ring(b"S")

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
        for path in (self.path, self.control):
            shutil.rmtree(path, ignore_errors=True)


class Folders:
    """All of one backend's folders, below ``state_dir`` and a folder for sockets."""

    def __init__(self, state_dir: Path, sockets_folder: str, owner: str) -> None:
        self.sockets = _sockets_folder(state_dir, sockets_folder, owner)
        _make_private(self.sockets)
        self._control = state_dir / "control"
        self._control.mkdir(mode=0o700, exist_ok=True)
        self._programs = _copy_programs(state_dir / "programs")

    def of(self, key: str) -> Folder:
        if not key.isalnum():
            raise ValueError(f"{key!r} is no folder of ours")
        return Folder(key, self.sockets / key, self._control / key)

    @contextlib.contextmanager
    def made(self, owner: tuple[int, int], *, shared: bool, paid_until: datetime) -> Iterator[Folder]:
        """Make both, and keep ``sweep`` away from them until the body has made their container, or failed to."""
        with _translated():
            folder = self.of(secrets.token_hex(4))
            folder.control.mkdir(mode=0o755)
            os.chmod(folder.control, 0o755)  # whatever the umask is: the kernel's user reads it
            with _lock(folder) as descriptor:
                assert descriptor is not None, "nobody else knows this folder yet"
                try:
                    folder.pay(paid_until)
                    os.mkfifo(folder.control / "bell")
                    os.chmod(folder.control / "bell", 0o644)
                    for program in PROGRAMS:
                        os.link(self._programs / program, folder.control / program)
                    _make_private(self.sockets)  # again, since one that was empty is removed when a backend closes
                    folder.path.mkdir(mode=0o700)
                    _chown(folder.path, owner)
                    if shared:
                        os.chmod(folder.path, 0o770)
                except BaseException:
                    folder.remove()
                    raise
                yield folder

    def keys(self) -> set[str]:
        found = {path.name for path in self._control.iterdir()}
        with contextlib.suppress(OSError):
            found |= {path.name for path in self.sockets.iterdir()}
        return {key for key in found if key.isalnum()}

    @contextlib.contextmanager
    def unowned(self, key: str) -> Iterator[Folder | None]:
        """Give the folder if nobody is making a container for it just now, which nobody can while the body runs."""
        folder = self.of(key)
        folder.control.mkdir(mode=0o755, exist_ok=True)
        with _lock(folder) as descriptor:
            yield None if descriptor is None else folder

    def discard(self) -> None:
        """Remove what is empty, so that a place that is given up leaves nothing outside its own folder."""
        with contextlib.suppress(OSError):
            self.sockets.rmdir()


@contextlib.contextmanager
def _lock(folder: Folder) -> Iterator[int | None]:
    # The system lets go of it when its holder dies, which is how a successor knows that nobody goes on with a start.
    descriptor = os.open(folder.control / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield None
    else:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise SkipPlace(f"The folder for kernels can't be written to: {problem.strerror}.") from problem


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
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"{folder} belongs to somebody else")
    os.chmod(folder, 0o711)


def _copy_programs(folder: Path) -> Path:
    """Keep a copy that no upgrade changes under a running container's feet, named by what is in it."""
    texts = [(_KERNEL_WING / program).read_bytes() for program in PROGRAMS]
    place = folder / hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    if not place.is_dir():
        new = folder / f".{secrets.token_hex(4)}"
        new.mkdir(mode=0o755, parents=True)
        for program, text in zip(PROGRAMS, texts, strict=True):
            (new / program).write_bytes(text)
            os.chmod(new / program, 0o644)
        try:
            os.rename(new, place)
        except OSError:  # another was first
            shutil.rmtree(new)
    return place


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o644)
        file.write(text)
    os.replace(temporary, path)


def _chown(what: int | Path, owner: tuple[int, int]) -> None:
    if owner != (os.geteuid(), os.getegid()):
        os.chown(what, *owner)


def _text(path: Path, bytes_max: int, *, from_end: bool = False) -> str | None:
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


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(_text(path, _JSON_BYTES_MAX) or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _is_port(value: object) -> bool:
    return type(value) is int and 0 < value < 65536
