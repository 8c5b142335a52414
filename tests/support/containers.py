"""Docker places for tests: what differs from one kind of place to the next, and a look for what they left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from computehub_ext.backends.docker import DockerBackend, DockerSettings, Mount
from computehub_ext.backends.docker.recipe import OWNER_LABEL
from computehub_ext.backends.model import StartRequest
from computehub_ext.testing.docker_engine import Engine
from computehub_ext.testing.kernels import wait_for
from tests.support.processes import ask
from tests.support.standing import pool

KERNEL_UID = 12345
"""An account that neither this machine nor the image knows."""

REMOTE_HOSTS = ["127.0.0.1", "::1", "198.18.160.2"]
"""For pytest.mark.allow_hosts: this machine, and where an engine of kind ``remote`` is reached."""
REMOTE_HERE = "198.18.160.1"
"""This machine, as containers of that engine see it."""


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


def remote_settings_for(engine: Engine, folder: Path, **changes: Any) -> DockerSettings:
    """Return settings of a place whose engine, of kind ``remote``, is reached as one on another machine is."""
    names = {"tls_ca": "ca.pem", "tls_cert": "cert.pem", "tls_key": "key.pem"}
    files = {setting: str(engine.tls / name) for setting, name in names.items()}
    return settings_for(engine, folder, **{"engine_url": engine.tls_url, "network": "bridge", **files, **changes})


@dataclass(frozen=True)
class Device:
    index: int
    uuid: str


class Place:
    """One place's folders, and the backends that a test makes over them."""

    def __init__(self, engine: Engine, state_dir: Path, folder: Path) -> None:
        self.engine, self.state_dir, self.folder = engine, state_dir, folder
        self.backends: list[DockerBackend] = []

    def backend(self, **changes: Any) -> DockerBackend:
        """Return one for a pool of simulated devices, which keeps kernels ready if its settings say so."""
        self.backends.append(DockerBackend(self.state_dir, settings_for(self.engine, self.folder, **changes)))
        self.furnish(self.backends[-1])
        self.backends[-1].prepare([pool()])
        return self.backends[-1]

    def furnish(self, backend: DockerBackend) -> None:
        """Change what settings can't, before anything is started."""

    def lost(self, url: str, **changes: Any) -> DockerBackend:
        """Return a backend whose engine is elsewhere, or nowhere; the test closes it."""
        settings = settings_for(self.engine, self.folder, **{**changes, "engine_url": url})
        return DockerBackend(self.state_dir, settings, "lost")

    def ask(self, cwd: str | None = None, **changes: Any) -> StartRequest:
        return ask(Path(cwd or self.folder), **changes)


@contextmanager
def state_folder() -> Iterator[Path]:
    """Give a folder outside pytest's own, which only root enters."""
    folder = Path(tempfile.mkdtemp(prefix="ch-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
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
    assert last.engine.lost_volumes(f"{OWNER_LABEL}={last.containers.owner}") == ()
    last.close()
