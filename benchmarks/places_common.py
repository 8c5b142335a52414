"""What the benchmarks of places share: the real engines, kernels on them, and a look at what is left."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zmq
from jupyter_client import BlockingKernelClient, KernelManager

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.local import LocalBackend, WarmSettings
from computehub_ext.backends.model import StartRequest
from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.core.ids import new_id
from computehub_ext.leases.operator import STOP_GRACE
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.slurm_cluster import SlurmCluster, slurm_cluster
from tests.support import containers, needs, slurm
from tests.support.standing import pool

HERE = "simulated GPUs, one machine"
MODEL = "A100"
CELL = "6 * 7"
GRACE_SECONDS = STOP_GRACE.total_seconds()
"""What a lease gives its kernel to end by itself."""
REPLACE_SECONDS = 1.0
"""A taken standby is stopped before the next one starts, which would share the cores with it."""
REPLY_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Asked:
    """A device, as pools have them."""

    index: int
    uuid: str


@dataclass
class Place:
    """One backend on a real engine, and how to count what there is of it."""

    name: str
    backend: Any
    """A ``Backend``, or what stands for one in another process."""
    held: Callable[[], list[str]]
    """Containers and folders, or jobs, by their names."""
    started: list[str] = field(default_factory=list)

    def request(self, folder: str) -> StartRequest:
        asked = StartRequest(
            placement_id=new_id("placement"),
            kernel_name="python3",
            cwd=folder,
            env={},
            devices=(Asked(0, "SIM-0"),),
            model=MODEL,
            simulated=True,
            session_key=secrets.token_hex(16).encode(),
            username="bench",
            paid_until=datetime.now(UTC) + timedelta(minutes=5),
        )
        self.started.append(asked.placement_id)
        return asked

    def left(self) -> list[str]:
        """Whatever there is of what was started here: as its engine lists it, and as processes of this machine."""
        return [*self.held(), *processes_of(self.started)]

    def stop_all(self) -> None:
        for placement_id in self.started:
            with contextlib.suppress(Exception):  # the others are to go as well
                self.backend.stop(placement_id, 0)


def lacking() -> list[str]:
    """Name what this machine lacks for the benchmarks of places."""
    return [needs.NEEDS[what][1] for what in ("docker", "slurm") if not needs.has(what)]


def not_measured(name: str, why: str, *, unit: str = "ms", goal: str = "") -> dict[str, Any]:
    return {"name": name, "figure": None, "yardstick": None, "unit": unit, "size": f"not measured: {why}", "goal": goal}


class Places:
    """The engines and what was opened on them, all of it ended at the end of the ``with``."""

    def __enter__(self) -> Places:
        self._stack = contextlib.ExitStack()
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="chb-", dir="/tmp")))
            self.folder.chmod(0o755)
            self.work = self.folder / "work"
            self.work.mkdir(mode=0o755)
            self.engine: Engine = self._stack.enter_context(docker_engine())
            self.cluster: SlurmCluster = self._stack.enter_context(slurm_cluster())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def docker(self, state: str, **changes: Any) -> Place:
        settings = containers.settings_for(self.engine, self.work, **changes)
        backend = DockerBackend(self.folder / state, settings)
        backend.prepare([pool(MODEL)])
        return self._opened(Place("Docker", backend, lambda: held_by(backend)))

    def slurm(self, state: str, **changes: Any) -> Place:
        backend = SlurmBackend(self.folder / state, self.slurm_settings(**changes))
        return self._opened(Place("Slurm", backend, self.jobs))

    def slurm_settings(self, **changes: Any) -> SlurmSettings:
        gres = {MODEL: f"gpu:{MODEL.lower()}:{{count}}"}
        return slurm.settings_for(self.cluster, gres=gres, **changes)

    def jobs(self) -> list[str]:
        return slurm.jobs_of(self.cluster)

    def local(self, state: str, *, standbys: int) -> Place:
        warm = WarmSettings(count=standbys, replace_delay_seconds=REPLACE_SECONDS)
        backend = LocalBackend(self.folder / state, warm=warm)
        backend.prepare([pool(MODEL)])
        return self._opened(Place("this machine", backend, list))

    def _opened(self, place: Place) -> Place:
        self._stack.callback(place.backend.close)
        self._stack.callback(place.stop_all)
        return place


def held_by(backend: DockerBackend) -> list[str]:
    """Name the containers and folders that there are of a backend."""
    return [*containers.containers_of(backend), *backend.folders.keys()]


class PlainKernel:
    """The yardstick: jupyter_client's own manager and the installed ipykernel, nothing of ours."""

    def __init__(self, folder: Path, transport: str = "tcp") -> None:
        # A socket's path is taken from each one's own folder where it is not a whole one.
        where = {"ip": f"{folder}/plain"} if transport == "ipc" else {}
        self.manager = KernelManager(transport=transport, **where)
        self.manager.start_kernel(cwd=str(folder))

    def client(self) -> BlockingKernelClient:
        return client_of(self.manager.get_connection_info())

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def is_alive(self) -> bool:
        return self.manager.is_alive()

    def stop(self) -> None:
        self.manager.shutdown_kernel(now=True)


def client_of(connection_info: Any) -> BlockingKernelClient:
    client = BlockingKernelClient()
    client.load_connection_info(dict(connection_info))  # type: ignore[arg-type]
    client.start_channels(hb=False)
    return client


def closed(client: BlockingKernelClient) -> None:
    client.stop_channels()
    if client.context is not None:
        client.context.destroy(linger=0)


def first_reply(client: BlockingKernelClient, is_alive: Callable[[], bool] = lambda: True) -> None:
    message_id = client.execute(CELL)
    reply_to(client, message_id, is_alive)


def reply_to(
    client: BlockingKernelClient, message_id: str, is_alive: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    deadline = time.monotonic() + REPLY_SECONDS_MAX
    while time.monotonic() < deadline and is_alive():
        with contextlib.suppress(queue.Empty):
            reply: dict[str, Any] = client.get_shell_msg(timeout=2)
            if reply["parent_header"].get("msg_id") == message_id:
                return reply["content"]
    raise TimeoutError("The kernel did not reply.")


def subscribed(client: BlockingKernelClient) -> None:
    """Return once the kernel's output arrives here, which takes a moment after the connection."""
    client.wait_for_ready(timeout=REPLY_SECONDS_MAX)


def round_trip(client: BlockingKernelClient) -> float:
    """Seconds from a cell to its reply and the word that the kernel is idle, over the bare sockets."""
    session, shell, iopub = client.session, client.shell_channel.socket, client.iopub_channel.socket
    message = session.msg("execute_request", _EXECUTE)
    message_id = message["header"]["msg_id"]
    started = time.perf_counter()
    session.send(shell, message)
    content: Any = None
    while content is None or content["parent_header"].get("msg_id") != message_id:
        content = _received(session, shell)
    while True:
        said = _received(session, iopub)
        is_mine = said["parent_header"].get("msg_id") == message_id
        if is_mine and said["msg_type"] == "status" and said["content"]["execution_state"] == "idle":
            seconds = time.perf_counter() - started
            assert content["content"]["status"] == "ok", content
            return seconds


_EXECUTE = {
    "code": CELL,
    "silent": False,
    "store_history": True,
    "user_expressions": {},
    "allow_stdin": False,
    "stop_on_error": True,
}


def _received(session: Any, channel: zmq.Socket[bytes]) -> Any:
    if not channel.poll(int(REPLY_SECONDS_MAX * 1000)):
        raise TimeoutError("The kernel said nothing.")
    _, message = session.feed_identities(channel.recv_multipart())
    return session.deserialize(message)


def processes_of(marks: Iterable[str]) -> list[str]:
    """Processes of this machine that carry one of the marks in their command or their environment."""
    wanted = [mark.encode() for mark in marks]
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):  # it ended meanwhile
            text = (path / "environ").read_bytes() + (path / "cmdline").read_bytes()
            if any(mark in text for mark in wanted):
                found.append(f"process {path.name}")
    return found


def median_ms(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1000


@contextlib.contextmanager
def timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)
