"""There and back again: what comes along, what the lease hears of it, and which kernels are left."""

from __future__ import annotations

import asyncio
import os

import pytest

from computehub_ext.notebook import way_back
from tests.integration.notebook.conftest import TOKEN
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"


async def test_moving_without_state_leaves_the_names_and_counts_on(
    plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = 1")
    switch = await rest.switched("gpu", kernel_id, keep="none")
    assert switch["state"] == "done", switch["error"]
    cell = await browser.ran("'x' in globals()")
    assert cell.text == "False"
    assert cell.reply["content"]["execution_count"] == 2  # type: ignore[index]
    assert plane.calls.count("lease_running") == 1


async def test_on_and_off_with_the_variables(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    await browser.ran("x = [1, 2]; y = x")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    assert sorted(switch["result"]["restored"]) == ["x", "y"]
    cell = await browser.ran(f"x.append(3); print(y); {WHERE}")
    assert cell.text == f"[1, 2, 3]\n{plane.running()[0]}\n"

    switch = await rest.switched("cpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    cell = await browser.ran(f"x.append(4); print(y); {WHERE}")
    assert cell.text == "[1, 2, 3, 4]\ncpu\n"
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert lease["end_reason"] == "returned"
    await _until(lambda: not plane.running())
    assert (await rest.kernel(kernel_id))["place"] == "cpu"


async def test_the_kernel_from_before_is_kept_until_a_cell_has_run_on_the_new_one(
    server: JupyterServer, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    kernel = server.app.kernel_manager.get_kernel(kernel_id)
    pid = kernel.place.pid
    assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
    await browser.ran("pass", silent=True)  # a front end's own question, that nobody waits for
    assert kernel.way_back is not None
    assert _lives(pid)
    await browser.ran("pass")
    await _until(lambda: kernel.way_back is None and not _lives(pid))


async def test_nobody_runs_a_cell_and_it_is_kept_no_longer_than_five_minutes(
    server: JupyterServer,
    plane: FakePlane,
    rest: Rest,
    browser: Browser,
    kernel_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert way_back.KEPT_SECONDS_MAX == 300
    monkeypatch.setattr(way_back, "KEPT_SECONDS_MAX", 0.5)
    await browser.ran("x = 1")
    kernel = server.app.kernel_manager.get_kernel(kernel_id)
    pid, listeners = kernel.place.pid, list(kernel.traffic.on_finished)
    assert (await rest.switched("gpu", kernel_id))["state"] == "done"
    await _until(lambda: kernel.way_back is None and not _lives(pid))
    assert kernel.traffic.on_finished == listeners
    assert (await browser.ran(f"print(x); {WHERE}")).text == f"1\n{plane.running()[0]}\n", "the new one goes on"
    (lease,) = plane.leases.values()
    assert lease["state"] == "running"


async def test_two_browsers_go_along(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    other = await Browser(server.url, TOKEN, kernel_id).open()
    await browser.ran("x = 1")
    assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
    cell = await browser.ran(WHERE)
    seen = other.cells.setdefault(cell.msg_id, type(cell)(cell.msg_id))
    again = await other.ran(WHERE)
    assert again.text == cell.text != "cpu\n"
    assert any(m["msg_type"] == "stream" and m["content"]["text"] == cell.text for m in other.messages), seen
    await other.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
