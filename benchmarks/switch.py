"""``%gpu on`` without state until the first cell's result, beside starting a plain kernel the same way.

Both through REST and websocket. Ours: a notebook is open on its CPU kernel; POST the switch and send a cell at once;
stop when its result is there. The yardstick, on a server without the extension: POST a kernel, open its websocket, send
the same cell, stop when its result is there. In turns, with a kernel of ours kept ready as by default.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.roundtrip import serving
from tests.support.notebooks import Browser, Rest
from tests.support.server import TOKEN, ServerProcess

ROUNDS = 12
GOAL = 0.2
CELL = "6 * 7"
STANDBY_SECONDS_MAX = 60.0
SETTLE_SECONDS = 0.5
"""For the start of the standby, and the end of what was before, to have used their processor time."""


async def _switched(server: ServerProcess, rest: Rest) -> float:
    """Seconds from asking for the GPU to the first result on it."""
    kernel_id = await rest.start_kernel(name="python3")
    browser = await Browser(server.url, TOKEN, kernel_id).open()
    await browser.ran("pass")
    await _standby_is_ready(server)
    started = time.perf_counter()
    answer = await rest.switch("gpu", kernel_id, keep="none")
    cell = browser.run(CELL)
    await browser.until(lambda: cell.text)
    seconds = time.perf_counter() - started
    switch = await rest.ended(answer.json()["id"])
    assert switch["state"] == "done", switch["error"]
    assert (await rest.kernel(kernel_id))["place"] == "gpu"
    await browser.close()
    assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
    return seconds


async def _plain(server: ServerProcess, rest: Rest) -> float:
    """Seconds from asking for a kernel to the first result of it."""
    started = time.perf_counter()
    kernel_id = await rest.start_kernel(name="python3")
    browser = await Browser(server.url, TOKEN, kernel_id).open()
    cell = browser.run(CELL)
    await browser.until(lambda: cell.text)
    seconds = time.perf_counter() - started
    await browser.close()
    assert (await rest.client.delete(f"api/kernels/{kernel_id}")).status_code == 204
    return seconds


async def _standby_is_ready(server: ServerProcess) -> None:
    """Wait for the kernel that is kept ready: it starts seconds after one was taken, and not beside a measurement."""
    deadline = time.monotonic() + STANDBY_SECONDS_MAX
    while not list((server.folder / "runtime" / "computehub").rglob("adopt.sock")):
        assert time.monotonic() < deadline, "no standby kernel became ready: " + server.log()
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_SECONDS)


async def measured(folder: Path) -> list[tuple[float, float]]:
    async with (
        serving(folder / "ours", enabled=True, **{"ComputeHub.end_leases_on_stop": True}) as ours,
        serving(folder / "plain", enabled=False) as plain,
    ):
        assert (await ours[1].client.get("api/computehub/v1/offers")).status_code == 200
        pairs = []
        for number in range(ROUNDS + 1):
            await _standby_is_ready(ours[0])
            if number % 2:
                switched = await _switched(*ours)
                await _standby_is_ready(ours[0])
                pair = switched, await _plain(*plain)
            else:
                pair = (await _plain(*plain), await _switched(*ours))[::-1]
            if number:  # the first ones fill caches on both sides
                pairs.append(pair)
    return pairs


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="computehub-switch-") as folder:
        pairs = asyncio.run(measured(Path(folder)))
    ours, plain = statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)
    worst = max(p[0] for p in pairs)
    return [
        {
            "name": "`%gpu on` without state until the first cell's result",
            "figure": ours * 1000,
            "yardstick": plain * 1000,
            "ratio": ours / plain,
            "unit": "ms",
            "size": f"{len(pairs)} pairs in turns, one kernel kept ready; slowest {worst * 1000:.0f} ms",
            "yardstick_name": "a plain kernel started the same way",
            "goal": f"at most {GOAL}",
            "met": ours / plain <= GOAL,
        }
    ]


if __name__ == "__main__":
    print(run())
