"""What happens without anybody's asking: warnings, idle release, the end of the booked time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

WHERE = "import os; print(os.environ.get('COMPUTEHUB_TEST_PLACEMENT', 'cpu'))"


@pytest.fixture
async def leased(rest: Rest, browser: Browser, kernel_id: str) -> str:
    await browser.ran("x = 1")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    return kernel_id


def given(server: JupyterServer, plane: FakePlane, kernel_id: str, kind: str, message: str) -> None:
    """The control plane orders, and the server looks."""
    (lease_id,) = plane.leases
    order = {"lease_id": lease_id, "kernel_id": kernel_id, "kind": kind, "message": message}
    plane.pending_orders.append(order)
    server.call(server.app.kernel_manager.watch.look)


async def test_a_warning_is_shown_under_the_last_cell(
    server: JupyterServer, plane: FakePlane, browser: Browser, leased: str
) -> None:
    cell = await browser.ran("pass")
    await asyncio.to_thread(given, server, plane, leased, "ending_10", "Ten minutes are left.")
    await browser.until(lambda: "Ten minutes are left.\n" in cell.text)


async def test_an_idle_gpu_is_given_back_with_the_variables(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    cell = await browser.ran("x += 1; import threading; lock = threading.Lock()")
    await asyncio.to_thread(given, server, plane, leased, "idle_release", "No cell ran for 20 minutes.")
    await browser.until(lambda: "No cell ran for 20 minutes." in cell.text)
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert (lease["end_reason"], lease["end_message"]) == ("idle", "No cell ran for 20 minutes.")
    await browser.until(lambda: "lock" in cell.text), "what is lost is named"
    assert (await browser.ran(f"print(x); {WHERE}")).text == "2\ncpu\n"


async def test_at_the_end_of_the_time_a_cell_that_goes_on_is_interrupted(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("computehub_ext.notebook.watch.INTERRUPT_AFTER_SECONDS", 0.5)
    endless = browser.run("import time\nx = 7\nprint('begun', flush=True)\nwhile True: time.sleep(0.05)")
    await browser.until(lambda: endless.text)
    waiting = browser.run(f"print(x); {WHERE}")
    await asyncio.to_thread(given, server, plane, leased, "closing", "The booked time is over.")
    await browser.done(endless, waiting)
    assert endless.errors[0][0] == "KeyboardInterrupt"
    assert waiting.status == "aborted", "as after any interrupt"
    assert (await browser.ran(f"print(x); {WHERE}")).text == "7\ncpu\n"
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert lease["end_reason"] == "time_up"


async def test_an_order_that_fails_is_told_and_may_come_again(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    from computehub_ext.core.errors import Refused

    cell = await browser.ran("pass")
    plane.refuse["transfer_ticket"] = Refused("Not now.")
    await asyncio.to_thread(given, server, plane, leased, "idle_release", "Idle.")
    await browser.until(lambda: "could not be moved back to the CPU: Not now." in cell.text)
    del plane.refuse["transfer_ticket"]
    await asyncio.to_thread(given, server, plane, leased, "idle_release", "Idle.")
    (lease,) = plane.leases.values()
    await _until(lambda: lease["state"] == "closed")
    assert (await browser.ran(f"print(x); {WHERE}")).text == "1\ncpu\n"


async def test_orders_for_kernels_elsewhere_are_left_alone(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    await asyncio.to_thread(given, server, plane, "another kernel", "closing", "Over.")
    assert (await rest.kernel(leased))["place"] == "gpu"


async def _until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
