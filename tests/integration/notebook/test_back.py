"""There and back again: what comes along, what the lease hears of it, and which kernels are left."""

from __future__ import annotations

import asyncio

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


async def _until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)
