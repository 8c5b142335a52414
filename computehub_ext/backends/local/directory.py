"""The files of one placement. ``kernel/supervisor.py`` describes them; this is the side that the server uses."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..removal import remove_folder

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_SECRETS = ("request.json", "connection.json", "adopt.secret", "adopt.sock")
_LOG_TAIL_BYTES = 2000


class PlacementDirectory:
    """A directory that only its owner enters. Files are replaced, so that a reader never sees half of one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def exists(self) -> bool:
        return self.path.is_dir()

    # Reading

    def read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def connection(self) -> dict[str, Any] | None:
        """Return the connection file's contents once all five ports are bound."""
        info = self.read("connection.json")
        return info if info is not None and all(info.get(port) for port in _PORTS) else None

    def process(self, which: str) -> tuple[int, int] | None:
        """Return ``(pid, start time)`` of ``supervisor`` or ``kernel``."""
        found = self.read(f"{which}.json")
        return None if found is None else (found["pid"], found["start_time"])

    def label(self) -> str:
        """Return the id that its processes were labelled with: a standby's own, if it was one."""
        return str((self.read("placement.json") or {}).get("label", self.path.name))

    def python_version(self) -> str:
        try:
            return (self.path / "python_version").read_text(encoding="ascii")
        except OSError:
            return ""

    def ended_at(self) -> float | None:
        end = self.read("end.json")
        return None if end is None else float(end["at"])

    def log_tail(self) -> str:
        try:
            with open(self.path / "log", "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def is_watched(self) -> bool:
        """Tell whether a supervisor lives, or is being started: the lock goes from the starter to the supervisor."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Shared, so that two who look don't take each other for a supervisor.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    # Writing

    def write(self, name: str, contents: Mapping[str, Any] | str) -> None:
        text = contents if isinstance(contents, str) else json.dumps(contents)
        temporary = self.path / f".{name}.{os.getpid()}.{time.monotonic_ns()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, self.path / name)

    def pay(self, paid_until: datetime) -> None:
        self.write("paid_until", repr(paid_until.astimezone(UTC).timestamp()))

    def end(self, reason: str, exit_code: int | None) -> None:
        """Write down an end that no supervisor could write."""
        for name in _SECRETS:
            (self.path / name).unlink(missing_ok=True)
        self.write("end.json", {"reason": reason, "exit_code": exit_code, "at": time.time()})

    def try_lock(self, seconds_max: float = 1.0) -> int | None:
        """Return a descriptor that holds the lock, or None if a supervisor has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    return None
                time.sleep(0.005)  # somebody looks, for microseconds
            else:
                return descriptor

    def remove(self) -> None:
        remove_folder(self.path)
