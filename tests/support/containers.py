"""Docker places for tests: what differs from one kind of place to the next, and a look for what they left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from computehub_ext.backends.docker import DockerBackend, DockerSettings, Mount
from computehub_ext.backends.docker.recipe import OWNER_LABEL
from computehub_ext.testing.docker_engine import Engine
from computehub_ext.testing.kernels import wait_for

KERNEL_UID = 12345
"""An account that neither this machine nor the image knows."""


def settings_for(engine: Engine, folder: Path, **changes: Any) -> DockerSettings:
    """Return settings of a place whose kernels run as ``KERNEL_UID`` and see ``folder``, which comes to be theirs."""
    os.chown(folder, KERNEL_UID, KERNEL_UID)
    values: dict[str, Any] = {
        "image": engine.image,
        "engine_url": engine.url,
        "python": engine.python,
        "user": f"{KERNEL_UID}:{KERNEL_UID}",
        "mounts": (Mount(str(folder)),),
        "memory_mib": 512,
        "cpus": 2.0,
        "gpus": False,
    }
    return DockerSettings(**{**values, **changes})


@contextmanager
def state_folder() -> Iterator[Path]:
    """Give a folder outside pytest's own, which only root enters."""
    folder = Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def containers_of(backend: DockerBackend) -> list[str]:
    return [each.name for each in backend.engine.list(f"{OWNER_LABEL}={backend.containers.owner}")]


def nothing_left_of(backends: Iterable[DockerBackend]) -> None:
    """Stop all placements, close all backends, and fail if a container or a folder of theirs is left."""
    backends = list(backends)
    if not backends:
        return
    last = backends[-1]
    for look in last.list_placements():
        last.stop(look.placement_id, 0)
    for backend in backends:
        backend.close()
    last.list_placements()
    wait_for(lambda: not containers_of(last), 10, "containers were left behind: they did not go")
    assert last.folders.keys() == set()
    last.close()
