"""What the server has to remember of leased kernels, so that a new server finds them again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FORMAT = 1


def state_dir_of(root_dir: str) -> Path:
    """The default folder for the servers of one root folder."""
    from jupyter_core.paths import jupyter_data_dir

    name = hashlib.sha256(os.path.realpath(root_dir).encode()).hexdigest()[:16]
    return Path(jupyter_data_dir()) / "computehub" / "servers" / name


class SavedKernels:
    """Leased kernels by id, in a file that only its owner may read: it holds their signing keys.

    One server at a time works with a file; a second one on the same folder saves nothing, and says so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "kernels.json"
        self._lock: Any = None
        self._kernels: dict[str, dict[str, Any]] = {}
        # One thread: the files are written in the order of the changes, and the event loop waits for no disk.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="computehub-saved")

    def open(self) -> bool:
        """Become the one server that works here; False if another one does."""
        if self._lock is not None:
            return True
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115  held until the server ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            log.warning("another server works in this folder: kernels leased here will not survive this server")
            return False
        self._kernels = self._read()
        return True

    def close(self) -> None:
        self._writer.shutdown()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> dict[str, dict[str, Any]]:
        return dict(self._kernels)

    def put(self, kernel_id: str, kernel: dict[str, Any]) -> Future[None] | None:
        """Save a kernel; the future is done when it is on the disk, None where nothing is saved."""
        self._kernels[kernel_id] = kernel
        return self._write_soon()

    def drop(self, kernel_id: str) -> None:
        if self._kernels.pop(kernel_id, None) is not None:
            self._write_soon()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            saved = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            log.warning("%s can't be read: leased kernels of before are left to their control plane", self._path)
            return {}
        return dict(saved.get("kernels", {})) if saved.get("format") == FORMAT else {}

    def _write_soon(self) -> Future[None] | None:
        if self._lock is None:
            return None
        return self._writer.submit(self._write, json.dumps({"format": FORMAT, "kernels": self._kernels}))

    def _write(self, text: str) -> None:
        new = self._path.with_suffix(".new")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except OSError:
            log.exception("%s can't be written: leased kernels will not survive this server", self._path)
