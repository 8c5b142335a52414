"""What the control plane orders, the notebook's server does and says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.integration.notebook.test_follow import SLOW, WHERE, leased
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

__all__ = ["leased"]


def order(plane: FakePlane, kernel_id: str, kind: str, message: str) -> None:
    (lease,) = plane.leases.values()
    plane.pending_orders.append({"lease_id": lease["id"], "kernel_id": kernel_id, "kind": kind, "message": message})


async def test_a_warning_names_what_would_be_lost_while_it_can_be_saved(
    server: JupyterServer, plane: FakePlane, browser: Browser, leased: str, tmp_path: Path
) -> None:
    (tmp_path / "only_there.py").write_text("")
    there = f"import sys; sys.path.append({str(tmp_path)!r}); import only_there; sys.path.pop()"
    cell = await browser.ran(f"{there}\nimport threading; lock = threading.Lock(); y = 2")
    order(plane, leased, "idle_warning", "The GPU is idle.")
    await asyncio.to_thread(server.call, server.app.kernel_manager.watch.look)
    await browser.until(lambda: "The GPU is idle." in cell.text)
    assert "would be lost: lock (" in cell.text
    assert "On the CPU: The package only_there is not installed there." in cell.text
    assert "y (" not in cell.text
    assert (leased, True) not in plane.reported[-1:], "a look into the kernel is no cell"


async def test_a_warning_does_not_wait_for_a_running_cell(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    cell = browser.run(SLOW)
    await browser.until(lambda: "begun" in cell.text)
    order(plane, leased, "ending_2", "It ends in 2 minutes.")
    await asyncio.to_thread(server.call, server.app.kernel_manager.watch.look)
    await browser.until(lambda: "It ends in 2 minutes." in cell.text)
    await rest.client.post(f"api/kernels/{leased}/interrupt")
    await browser.done(cell)


async def test_an_idle_kernel_is_moved_back_and_what_stayed_is_named(
    server: JupyterServer, plane: FakePlane, rest: Rest, browser: Browser, leased: str
) -> None:
    fussy = "class Fussy:\n    def __setstate__(self, state): import no_such_package\nfussy = Fussy(); fussy.a = 1\n"
    cell = await browser.ran(f"{fussy}import threading; lock = threading.Lock(); y = 2")
    order(plane, leased, "idle_release", "No cell ran for a while.")
    await asyncio.to_thread(server.call, server.app.kernel_manager.watch.look)
    await browser.until(lambda: "lost: lock" in cell.text)
    assert "fussy (the package no_such_package is not installed there)" in cell.text
    (lease,) = plane.leases.values()
    assert (lease["state"], lease["end_reason"]) == ("closed", "idle")
    assert (await browser.ran(f"print(x, y, 'lock' in globals()); {WHERE}")).text == "1 2 False\ncpu\n"
