"""A cell's round trip on a leased kernel, beside one on a plain kernel through a server without the extension.

Jupyter's websocket leaves Nagle's algorithm on, so that the small messages of an answer wait up to 40 ms for delayed
acknowledgements; ours turns it off. So that this does not hide what a leased kernel costs, a plain server with it
turned off is measured in the same turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.notebooks import Browser, Rest
from tests.support.server import TOKEN, ServerProcess

PAIRS = 500
WARM_UP = 50
RESAMPLES = 2000
GOAL = 1.05
CELL = "6 * 7"
NO_DELAY = """
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler

_open = KernelWebsocketHandler.open

async def open(self, kernel_id):
    self.set_nodelay(True)
    await _open(self, kernel_id)

KernelWebsocketHandler.open = open
"""
"""For the configuration file of a server without the extension."""


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


@dataclass(frozen=True)
class Turn:
    """Seconds of one round trip on each."""

    leased: float
    plain: float
    no_delay: float


async def measured(folder: Path) -> list[Turn]:
    """Turns, in each of which a different one is first."""
    config = folder / "no_delay" / "config"
    config.mkdir(parents=True)
    (config / "jupyter_server_config.py").write_text(NO_DELAY)
    async with (
        serving(folder / "ours", enabled=True, **{"ComputeHub.end_leases_on_stop": True}) as ours,
        serving(folder / "plain", enabled=False) as plain,
        serving(folder / "no_delay", enabled=False) as no_delay,
    ):
        browsers = {
            "leased": await _opened(*ours),
            "plain": await _opened(*plain),
            "no_delay": await _opened(*no_delay),
        }
        switch = await ours[1].switched("gpu", browsers["leased"].kernel_id, keep="none")
        assert switch["state"] == "done", switch["error"]
        turns = []
        for number in range(WARM_UP + PAIRS):
            names = list(browsers)
            first = number % len(names)
            turn = Turn(**{name: await _round_trip(browsers[name]) for name in names[first:] + names[:first]})
            if number >= WARM_UP:
                turns.append(turn)
        for browser in browsers.values():
            await browser.close()
    return turns


def interval(ratios: list[float], seed: int = 20260302) -> tuple[float, float]:
    """95 % of the medians of samples drawn from these ratios."""
    chance = random.Random(seed)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="computehub-roundtrip-") as folder:
        turns = asyncio.run(measured(Path(folder)))
    leased = [turn.leased for turn in turns]
    return [
        _figure(leased, [turn.plain for turn in turns], "plain kernel, server without the extension"),
        _figure(leased, [turn.no_delay for turn in turns], "the same, its websocket with TCP_NODELAY as ours has"),
    ]


def _figure(leased: list[float], plain: list[float], yardstick_name: str) -> dict[str, Any]:
    ratios = [ours / theirs for ours, theirs in zip(leased, plain, strict=True)]
    low, high = interval(ratios)
    ratio = statistics.median(ratios)
    return {
        "name": "A cell's round trip on a leased kernel",
        "figure": statistics.median(leased) * 1000,
        "yardstick": statistics.median(plain) * 1000,
        "ratio": ratio,
        "unit": "ms",
        "size": f"{PAIRS} in turns; median ratio {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}",
        "yardstick_name": yardstick_name,
        "goal": f"at most {GOAL}",
        "met": ratio <= GOAL,
    }


if __name__ == "__main__":
    print(run())
