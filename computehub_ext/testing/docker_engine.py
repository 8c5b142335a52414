"""A private Docker engine for tests and benchmarks: Debian's real dockerd, in a folder and a network of its own.

All processes that ask at the same time share one engine per kind, however the one before ended:

- The first starts a *keeper* (docker_keeper.py), which starts dockerd. Who uses the engine holds a connection
  to the keeper; the kernel closes it even if its holder was killed. With the last one the keeper stops dockerd and
  clears up.
- dockerd ends with its keeper, by the kernel's parent-death signal. What a killed keeper left behind, the next one
  removes before it starts.
- dockerd has a network namespace of its own, so that neither a real engine on this machine nor its firewall see any
  of it. One pair of interfaces leads there: containers are reached from here by their addresses, and by ports that
  they publish on ``Engine.address``, which is how an engine on another machine looks. It leads no further: no
  container reaches the Internet.

``with docker_engine() as engine:`` needs root, docker.io, debootstrap, iproute2; ``lacking()`` says what isn't there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import docker_base

if TYPE_CHECKING:
    import docker

STOP_SECONDS_MAX = 30
REPOSITORY = "computehub-test/slim"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS = ("dockerd", "containerd", "runc", "debootstrap", "iptables", "ip", "unshare", "chroot", "tar")
# A range for measuring networks (RFC 2544), which nobody routes: /19 per kind of engine.
THIRDS = {"plain": 32, "gpu": 64, "apart": 96, "fenced": 128, "remote": 160}
TLS_PORT = 2376


class DockerEngineFailed(RuntimeError):
    """dockerd could not be started; the message ends with its log."""


@dataclass(frozen=True)
class Engine:
    """A running engine, as ``docker_engine()`` gives it."""

    folder: Path
    kind: str

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    @property
    def tls_url(self) -> str:
        """Where an engine of kind ``remote`` listens as one on another machine does; ``tls`` has the certificates."""
        return f"tcp://{self.address}:{TLS_PORT}"

    @property
    def tls(self) -> Path:
        return self.folder / "tls"

    @property
    def image(self) -> str:
        """The slim kernel image: Debian with Python, ipykernel and numpy; its user is 1000."""
        return f"{REPOSITORY}:{docker_base.fingerprint()}"

    @property
    def python(self) -> str:
        """The image's interpreter that has ipykernel."""
        return docker_base.PYTHON

    @property
    def address(self) -> str:
        """Where a port that a container publishes is reached from here."""
        return f"198.18.{THIRDS[self.kind]}.2"

    @property
    def host_address(self) -> str:
        """This machine, as containers on a bridge see it."""
        return f"198.18.{THIRDS[self.kind]}.1"

    def client(self, **options: Any) -> docker.DockerClient:
        """Return a new client of the engine; the caller closes it."""
        import docker

        return docker.DockerClient(base_url=self.url, **{"timeout": 120, **options})

    def gpu_requests(self) -> list[dict[str, str]]:
        """What the stand-in GPU hook was asked for: the NVIDIA variables of each container that wanted GPUs."""
        log = self.folder / "gpu-hook.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def lacking() -> list[str]:
    """Return what this machine lacks for an engine; empty if nothing."""
    lacks = [program for program in _PROGRAMS if not shutil.which(program, path=SYSTEM_PATH)]
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ["root", *lacks]
    if (
        not lacks
        and subprocess.run(["unshare", "--net", "--mount", "true"], check=False, capture_output=True).returncode
    ):
        lacks.append("the right to make namespaces")
    return lacks


def docker_engine(*, gpu_hook: bool = False) -> contextlib.AbstractContextManager[Engine]:
    """Start an engine, or join the one that runs, for as long as the body runs.

    Parameters
    ----------
    gpu_hook:
        Whether the engine takes requests for GPUs (``DeviceRequest``, ``--gpus``), by a stand-in for NVIDIA's hook. It
        gives no device; it writes down what it was asked for.

    Raises
    ------
    DockerEngineFailed
        With the end of dockerd's log.
    """
    return shared_engine("gpu" if gpu_hook else "plain")


@contextlib.contextmanager
def shared_engine(kind: str) -> Iterator[Engine]:
    """Start or join the engine of a kind: ``plain``, ``gpu``, or one that only some tests use.

    ``apart`` is for those of engines, ``fenced`` for those that change the firewall of the engine's machine.
    """
    engine = Engine(folder_of(kind), kind)
    docker_base.make_base()
    with contextlib.ExitStack() as stack:
        with docker_base.locked(engine.folder.with_suffix(".lock")):
            keeper = _join(engine)
            if keeper is None:
                _start_keeper(engine)
                keeper = _join(engine)
            if keeper is None:
                raise DockerEngineFailed(f"The keeper of {engine.folder} ended at once.")
            stack.enter_context(keeper)
        try:
            yield engine
        finally:
            # The keeper answers when it has done what there is to do: nothing, or the end of everything.
            keeper.settimeout(STOP_SECONDS_MAX * 2)
            with contextlib.suppress(ConnectionError):  # somebody killed it
                keeper.shutdown(socket.SHUT_WR)
                keeper.recv(1)


def folder_of(kind: str) -> Path:
    # One per machine, whoever's TMPDIR is set to what; and short, since a socket's path has 107 bytes.
    return Path(f"/tmp/computehub-docker-{kind}")


def _join(engine: Engine) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(engine.folder / "keeper.sock"))
        if connection.recv(1):  # else it was about to end
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _start_keeper(engine: Engine) -> None:
    # Nobody's child, since it outlives who started it, and of no session of theirs: Ctrl-C ends the tests first.
    command = ["setsid", "--fork", sys.executable, "-m", f"{__package__}.docker_keeper", engine.kind]
    paths = os.pathsep.join(path for path in sys.path if path)
    started = subprocess.run(  # until the keeper closes its output, which it does when it is ready
        command,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    if started.stdout != "ready":
        raise DockerEngineFailed(started.stdout or "The keeper of the Docker engine said nothing.")
