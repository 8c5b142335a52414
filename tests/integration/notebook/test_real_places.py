"""A notebook on the kernels of a real container engine and a real cluster, with real movements of large data."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from computehub_ext.backends.model import Backend, StartRequest
from tests.integration.notebook.conftest import TOKEN, arranged, config
from tests.support.containers import REMOTE_HERE, REMOTE_HOSTS
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest


class BackendPlane(FakePlane):
    """Leases without books on a backend."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        super().__init__(folder)
        self.backend = backend

    async def start_placement(
        self, lease_id: str, cwd: str, kernel_name: str, session_key: bytes, username: str, env: dict[str, str]
    ) -> Any:
        await self._called("start_placement")
        placement_id = f"placement_{uuid.uuid4().hex[:8]}"
        paid_until = datetime.now(UTC) + timedelta(minutes=3)
        request = StartRequest(
            placement_id, kernel_name, cwd, env, (), "T4", True, session_key, username, paid_until
        )  # fmt: skip
        placed = await asyncio.to_thread(self.backend.start, request)
        self.placements[placement_id] = {"lease_id": lease_id, "pid": 0, "info": placed.connection_info}
        return {
            "placement_id": placement_id,
            "connection_info": placed.connection_info,
            "python_version": placed.python_version,
            "meeting_dir": placed.meeting_dir,
            "host": placed.host,
            "details": dict(placed.details),
        }

    async def look_placement(self, placement_id: str) -> Any:
        look = await asyncio.to_thread(self.backend.look, placement_id)
        return {"state": str(look.state), "exit_code": look.exit_code, "reason": look.reason, "message": look.message}

    async def interrupt_placement(self, placement_id: str) -> None:
        await asyncio.to_thread(self.backend.interrupt, placement_id)

    def _kill(self, placement_id: str) -> None:
        self.backend.stop(placement_id, 0)


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Backend]:
    from computehub_ext.backends.docker import DockerBackend
    from computehub_ext.testing.docker_engine import docker_engine
    from tests.support.containers import nothing_left_of, settings_for, state_folder

    work = tmp_path / "work"
    work.mkdir()
    with docker_engine() as engine, state_folder() as folder:
        backend = DockerBackend(folder, settings_for(engine, work, memory_mib=1500))
        yield backend
        nothing_left_of([backend])


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Backend]:
    from computehub_ext.backends.docker import DockerBackend
    from computehub_ext.testing.docker_engine import shared_engine
    from tests.support.containers import nothing_left_of, remote_settings_for, state_folder

    work = tmp_path / "work"
    work.mkdir()
    with shared_engine("remote") as engine, state_folder() as folder:
        backend = DockerBackend(folder, remote_settings_for(engine, work, memory_mib=1500))
        yield backend
        nothing_left_of([backend])


@pytest.fixture
def curve(tmp_path: Path) -> Iterator[Backend]:
    from computehub_ext.backends.docker import DockerBackend
    from computehub_ext.testing.docker_engine import shared_engine
    from tests.support.containers import nothing_left_of, settings_for, state_folder

    work = tmp_path / "work"
    work.mkdir()
    over_ports = {"transport": "curve", "network": "bridge", "memory_mib": 1500}
    with shared_engine("remote") as engine, state_folder() as folder:
        backend = DockerBackend(folder, settings_for(engine, work, publish_host=engine.address, **over_ports))
        yield backend
        nothing_left_of([backend])


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Backend]:
    from computehub_ext.backends.slurm import SlurmBackend
    from computehub_ext.testing.slurm_cluster import slurm_cluster
    from tests.support.slurm import nothing_left_of, settings_for

    with slurm_cluster() as cluster:
        backend = SlurmBackend(tmp_path / "slurm", settings_for(cluster, memory_mib=1500))
        yield backend
        nothing_left_of([backend], cluster)


async def moved(rest: Rest, target: str, kernel_id: str) -> dict[str, Any]:
    switch = await rest.switched(target, kernel_id)
    assert switch["state"] == "done", switch["error"]
    result: dict[str, Any] = switch["result"]
    return result


@contextmanager
def reached_from(server: JupyterServer, kind: str) -> Iterator[str]:
    """Give the address at which kernels of a place reach a server; over a network it takes one more ear."""
    if kind not in ("remote", "curve"):
        yield server.url
        return

    def listen() -> tuple[HTTPServer, int]:
        sockets = bind_sockets(0, REMOTE_HERE)
        ear = HTTPServer(server.app.web_app)
        ear.add_sockets(sockets)
        return ear, sockets[0].getsockname()[1]

    ear, port = server.call(listen)
    yield f"http://{REMOTE_HERE}:{port}{server.app.base_url}"
    server.call(ear.stop)


@pytest.mark.parametrize(
    "kind", [pytest.param("docker", marks=pytest.mark.needs("docker")),
             pytest.param("remote", marks=[pytest.mark.needs("docker"), pytest.mark.allow_hosts(REMOTE_HOSTS)]),
             pytest.param("curve", marks=[pytest.mark.needs("docker"), pytest.mark.allow_hosts(REMOTE_HOSTS)]),
             pytest.param("slurm", marks=pytest.mark.needs("slurm"))],
)  # fmt: skip
async def test_a_notebook_moves_there_works_outlives_its_server_and_comes_back(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    plane = BackendPlane(tmp_path / "plane", request.getfixturevalue(kind))
    configured = config(tmp_path)
    configured["ServerApp"]["allow_remote_access"] = True
    with JupyterServer(tmp_path, arranged(plane), configured) as first, reached_from(first, kind) as url:
        first.app.kernel_manager.kernel_server_url = url
        rest = Rest(first.url, TOKEN)
        kernel_id = await rest.start_kernel(name="python3", path="")
        browser = await Browser(first.url, TOKEN, kernel_id).open()
        await browser.ran("import os; x = bytearray(100_000_000); y = memoryview(x); here = os.getpid(), os.uname()[1]")
        result = await moved(rest, "gpu", kernel_id)
        assert result["bytes"] > 100_000_000
        assert (await browser.ran("y[7] = 1; print(x[7], len(x), 'COMPUTEHUB_PLACEMENT_ID' in os.environ)")).text == (
            "1 100000000 True\n"
        )
        assert (await browser.ran("%gpu")).errors == []
        slow = browser.run(
            "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: pass"
        )
        await browser.until(lambda: slow.text)
        assert (await rest.client.post(f"api/kernels/{kernel_id}/interrupt")).status_code == 204
        await browser.done(slow)
        await browser.close()
        await rest.client.aclose()
        await asyncio.to_thread(first.call, lambda: first.app.kernel_manager.part(end_leases=False))
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as second:
        second.app.kernel_manager.kernel_server_url = second.url
        rest = Rest(second.url, TOKEN)
        browser = await Browser(second.url, TOKEN, kernel_id).open()
        assert (await browser.ran("x[8] = 1; print(y[8])")).text == "1\n"
        if kind == "docker":  # this server has another port, which the door hides
            assert (await browser.ran("%gpu")).errors == []
        await moved(rest, "cpu", kernel_id)
        assert (await browser.ran("print(x[7], y[8], len(y), os.getuid())")).text == f"1 1 100000000 {os.getuid()}\n"
        await moved(rest, "gpu", kernel_id)
        assert (await rest.client.post(f"api/kernels/{kernel_id}/restart")).status_code == 200
        assert (await browser.ran("print('x' in globals())")).text == "False\n"
        assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
        await browser.close()
        await rest.client.aclose()
