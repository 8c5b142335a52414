"""Jupyter's own ways with kernels, for one on a lease: culled when nobody uses it, and started in the background."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.notebook.conftest import TOKEN, arranged, config
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

IDLE_SECONDS = 2


@asynccontextmanager
async def serving(folder: Path, plane: FakePlane, **chosen: Any) -> AsyncIterator[tuple[JupyterServer, Rest]]:
    settings = config(folder)
    settings["MappingKernelManager"] = chosen
    with JupyterServer(folder, arranged(plane), settings) as server:
        server.app.kernel_manager.kernel_server_url = server.url
        rest = Rest(server.url, TOKEN)
        yield server, rest
        await rest.client.aclose()


@pytest.fixture(autouse=True)
def own_ipython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


async def test_a_culled_kernel_settles_its_lease_and_one_with_a_browser_is_kept(
    tmp_path: Path, plane: FakePlane
) -> None:
    chosen = {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 1}
    async with serving(tmp_path, plane, **chosen) as (server, rest):
        kernel_id = await rest.start_kernel(name="python3")
        browser = await Browser(server.url, TOKEN, kernel_id).open()
        assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
        (lease,) = plane.leases.values()
        # A second kernel, which nobody looks at, tells that culling has come round since.
        await rest.start_kernel(name="python3")
        await _until(lambda: len(server.app.kernel_manager.list_kernel_ids()) == 1)
        assert (await browser.ran("print('here')")).text == "here\n"
        assert lease["state"] == "running"
        await browser.close()
        await _until(lambda: lease["state"] == "closed")
        assert lease["end_reason"] == "kernel_shut_down"
        # The lease is settled first, and then Jupyter drops the kernel from its list.
        await _until(lambda: not server.app.kernel_manager.list_kernel_ids())
        assert plane.running() == []


async def test_a_busy_cell_on_a_lease_is_not_culled(tmp_path: Path, plane: FakePlane) -> None:
    chosen = {"cull_idle_timeout": IDLE_SECONDS, "cull_interval": 1, "cull_connected": True}
    async with serving(tmp_path, plane, **chosen) as (server, rest):
        kernel_id = await rest.start_kernel(name="python3")
        browser = await Browser(server.url, TOKEN, kernel_id).open()
        assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
        (lease,) = plane.leases.values()
        cell = await browser.ran(f"import time; time.sleep({2 * IDLE_SECONDS}); print('done')")
        assert (cell.text, lease["state"]) == ("done\n", "running")
        await _until(lambda: lease["state"] == "closed")
        await browser.close()


async def test_kernels_that_start_in_the_background_move_as_others_do(tmp_path: Path, plane: FakePlane) -> None:
    async with serving(tmp_path, plane, use_pending_kernels=True) as (server, rest):
        kernel_id = await rest.start_kernel(name="python3")
        # Asked while the kernel is still starting: the move waits for it.
        switch = await rest.switched("gpu", kernel_id, keep="none")
        assert switch["state"] == "done", switch
        assert (await rest.kernel(kernel_id))["place"] == "gpu"
        browser = await Browser(server.url, TOKEN, kernel_id).open()
        pids = [await _pid(browser)]
        for target in ("cpu", "gpu"):
            assert (await rest.switched(target, kernel_id, keep="none"))["state"] == "done"
            assert (await rest.kernel(kernel_id))["place"] == target
            pids.append(await _pid(browser))
        assert len(set(pids)) == 3
        await browser.close()
        assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
        await _until(lambda: {lease["state"] for lease in plane.leases.values()} == {"closed"})
        await _until(lambda: plane.running() == [])


async def _pid(browser: Browser) -> str:
    return (await browser.ran("import os; print(os.getpid())")).text


async def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
