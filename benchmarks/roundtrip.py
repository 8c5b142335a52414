"""A cell's round trip on a leased kernel, beside one on a plain kernel through a server without the extension."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.notebooks import Browser, Rest
from tests.support.server import TOKEN, ServerProcess

PAIRS = 500
WARM_UP = 50
RESAMPLES = 2000
GOAL = 1.05
CELL = "6 * 7"


@contextlib.asynccontextmanager
async def serving(folder: Path, *, enabled: bool, **config: Any) -> AsyncIterator[tuple[ServerProcess, Rest]]:
    """A server in its own process, and its API."""
    server = ServerProcess(folder, enabled=enabled, config=config)
    try:
        await asyncio.to_thread(server.until_ready)
        rest = Rest(server.url, TOKEN)
        try:
            yield server, rest
        finally:
            await rest.client.aclose()
    finally:
        await asyncio.to_thread(server.stop)


async def _opened(server: ServerProcess, rest: Rest) -> Browser:
    kernel_id = await rest.start_kernel(name="python3")
    return await Browser(server.url, TOKEN, kernel_id).open()


async def _round_trip(browser: Browser) -> float:
    started = time.perf_counter()
    cell = await browser.ran(CELL)
    seconds = time.perf_counter() - started
    assert cell.text == "42", cell.errors
    browser.messages.clear()
    browser.cells.clear()
    return seconds


async def measured(folder: Path) -> list[tuple[float, float]]:
    """Pairs of (leased, plain), each first as often as second."""
    async with (
        serving(folder / "ours", enabled=True, **{"ComputeHub.end_leases_on_stop": True}) as ours,
        serving(folder / "plain", enabled=False) as plain,
    ):
        leased, unextended = await _opened(*ours), await _opened(*plain)
        switch = await ours[1].switched("gpu", leased.kernel_id, keep="none")
        assert switch["state"] == "done", switch["error"]
        pairs = []
        for number in range(WARM_UP + PAIRS):
            if number % 2:
                pair = await _round_trip(leased), await _round_trip(unextended)
            else:
                pair = (await _round_trip(unextended), await _round_trip(leased))[::-1]
            if number >= WARM_UP:
                pairs.append(pair)
        await leased.close()
        await unextended.close()
    return pairs


def interval(ratios: list[float], seed: int = 20260302) -> tuple[float, float]:
    """95 % of the medians of samples drawn from these ratios."""
    chance = random.Random(seed)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="computehub-roundtrip-") as folder:
        pairs = asyncio.run(measured(Path(folder)))
    ratios = [ours / plain for ours, plain in pairs]
    low, high = interval(ratios)
    ratio = statistics.median(ratios)
    return [
        {
            "name": "A cell's round trip on a leased kernel",
            "figure": statistics.median(ours for ours, _ in pairs) * 1000,
            "yardstick": statistics.median(plain for _, plain in pairs) * 1000,
            "ratio": ratio,
            "unit": "ms",
            "size": f"{PAIRS} pairs in turns; median ratio {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}",
            "yardstick_name": "plain kernel, server without the extension",
            "goal": f"at most {GOAL}",
            "met": ratio <= GOAL,
        }
    ]


if __name__ == "__main__":
    print(run())
