"""What becomes of a lease when the server that the notebook is in is killed, stopped, or told to shut down."""

from __future__ import annotations

import asyncio
import signal
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.notebooks import Browser, Rest
from tests.support.server import TOKEN, ServerProcess

API = "api/computehub/v1/"


@asynccontextmanager
async def serving(folder: Path, **options: Any) -> AsyncIterator[tuple[ServerProcess, Rest]]:
    server = ServerProcess(folder, **options)
    try:
        await asyncio.to_thread(server.until_ready)
        rest = Rest(server.url, TOKEN)
        yield server, rest
        await rest.client.aclose()
    finally:
        await asyncio.to_thread(server.stop)


async def notebook(rest: Rest, url: str) -> tuple[str, Browser]:
    """Open a notebook, as JupyterLab does, and move it to a GPU with ``x = 41``."""
    body = {"path": "a.ipynb", "name": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    session = (await rest.client.post("api/sessions", json=body)).json()
    kernel_id = session["kernel"]["id"]
    browser = await Browser(url, TOKEN, kernel_id).open()
    await browser.ran("x = 41")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    assert (await browser.ran("x += 1; print(x)")).text == "42\n"
    return kernel_id, browser


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_leased_kernel_survives_its_server(tmp_path: Path, how: str) -> None:
    async with serving(tmp_path) as (server, rest):
        kernel_id, browser = await notebook(rest, server.url)
        cpu_kernel = await rest.start_kernel(name="python3")
        (lease,) = (await rest.client.get(API + "leases")).json()["items"]
        me = (await rest.client.get(API + "me")).json()
        await asyncio.to_thread(server.kill if how == "killed" else server.stop)
        await browser.close()
    (saved,) = tmp_path.glob("data/computehub/servers/*/kernels.json")
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600

    async with serving(tmp_path, port=server.port) as (server, rest):
        (session,) = (await rest.client.get("api/sessions")).json()
        assert (session["path"], session["kernel"]["id"]) == ("a.ipynb", kernel_id)
        kernels = [k["id"] for k in (await rest.client.get("api/kernels")).json()]
        assert kernels == [kernel_id]
        assert cpu_kernel not in kernels
        back = await Browser(server.url, TOKEN, kernel_id, session=browser.session).open()
        assert (await back.ran("print(x)")).text == "42\n"
        assert "gpu" in (await back.ran("%gpu")).text.lower()
        place = await rest.kernel(kernel_id)
        assert (place["place"], place["lease"]["id"], place["lease"]["state"]) == ("gpu", lease["id"], "running")
        people = (place["payer"]["username"], place["moved_by"]["username"], place["is_mine"])
        assert people == (me["username"], me["username"], True), "who moved it is known as before"

        slow = back.run(
            "import time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt: pass"
        )
        await back.until(lambda: slow.text)
        assert (await rest.client.post(f"api/kernels/{kernel_id}/interrupt")).status_code == 204
        await back.done(slow)
        assert (await rest.client.post(f"api/kernels/{kernel_id}/restart")).status_code == 200
        assert (await back.ran("print('x' in globals())")).text == "False\n"
        switch = await rest.switched("cpu", kernel_id)
        assert switch["state"] == "done", switch["error"]
        assert (await back.ran("print('here')")).text == "here\n"
        await back.close()
        await _until_closed(rest, lease["id"], "returned")


async def test_shutting_the_server_down_in_the_browser_ends_its_leases(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, rest):
        _, browser = await notebook(rest, server.url)
        (lease,) = (await rest.client.get(API + "leases")).json()["items"]
        try:
            await rest.client.post("api/shutdown")
        except httpx.HTTPError:
            pass  # it may be gone before it has answered
        await asyncio.to_thread(server.process.wait, 30)
        await browser.close()
    async with serving(tmp_path) as (_, rest):
        await _until_closed(rest, lease["id"], "server_stopped")
        assert (await rest.client.get("api/sessions")).json() == []


async def test_stopping_a_server_that_keeps_nothing_ends_its_leases(tmp_path: Path) -> None:
    """What the demo does on Ctrl-C."""
    async with serving(tmp_path, config={"ComputeHub.end_leases_on_stop": True}) as (server, rest):
        _, browser = await notebook(rest, server.url)
        (lease,) = (await rest.client.get(API + "leases")).json()["items"]
        await asyncio.to_thread(server.stop, signal.SIGTERM)
        await browser.close()
    async with serving(tmp_path) as (_, rest):
        await _until_closed(rest, lease["id"], "server_stopped")


async def test_deleting_the_session_ends_the_lease(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, rest):
        _, browser = await notebook(rest, server.url)
        (lease,) = (await rest.client.get(API + "leases")).json()["items"]
        (session,) = (await rest.client.get("api/sessions")).json()
        assert (await rest.client.delete(f"api/sessions/{session['id']}")).status_code == 204
        await _until_closed(rest, lease["id"], "kernel_shut_down")
        await browser.close()


async def test_run_all_with_the_magic_in_the_second_cell(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, rest):
        kernel_id = await rest.start_kernel(name="python3")
        browser = await Browser(server.url, TOKEN, kernel_id).open()
        where = "import os; print(os.environ.get('COMPUTEHUB_PLACEMENT_ID') is not None)"
        codes = ["x = 0", "%gpu on T4 --for 1h --yes\nprint('still here')", *[f"x += 1; print(x); {where}"] * 8]
        cells = [browser.run(code) for code in codes]
        await browser.done(*cells)
        assert [cell.errors for cell in cells] == [[]] * 10
        assert cells[1].text.endswith("still here\n")
        place = await rest.kernel(kernel_id)
        assert place["place"] == "gpu"
        assert [cell.text.split("\n")[0] for cell in cells[2:]] == [str(n) for n in range(1, 9)]
        off = await browser.ran("%gpu off --yes")
        assert off.errors == []
        assert (await browser.ran("print(x)")).text == "8\n"
        assert (await rest.kernel(kernel_id))["place"] == "cpu"
        drawn = [m for m in browser.messages if m["msg_type"] == "update_display_data"]
        assert any("on the CPU" in m["content"]["data"]["text/plain"] for m in drawn)
        await browser.close()


async def _until_closed(rest: Rest, lease_id: str, reason: str) -> None:
    deadline = time.monotonic() + 20
    while (lease := (await rest.client.get(f"{API}leases/{lease_id}")).json())["state"] != "closed":
        assert time.monotonic() < deadline, lease
        await asyncio.sleep(0.05)
    assert lease["end_reason"] == reason
    assert lease["held_microcredits"] == 0


async def test_a_second_server_on_the_same_folder_leaves_the_firsts_sessions_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as (first, rest):
        kernel_id, browser = await notebook(rest, first.url)
        async with serving(tmp_path) as (_, second):
            assert (await second.client.get("api/sessions")).json() == []
            (session,) = (await rest.client.get("api/sessions")).json()
            assert session["kernel"]["id"] == kernel_id
        assert (await browser.ran("print(x)")).text == "42\n"
        await rest.client.delete(f"api/kernels/{kernel_id}")
        await browser.close()
