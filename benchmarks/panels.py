"""What fifty open panels cost the server: the processor time that it spends on them, in parts of one core.

One real tab shows the panel, with its notebook, for two minutes in which somebody else books and cancels once a
minute. What it asked in that time is asked again by fifty clients, each a person of their own with their own moment to
begin, each subscribed to the events: the panel's requests in one run, and in another those of JupyterLab itself in the
same tab, the yardstick. What the server uses with nobody there is taken off both.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
from playwright.sync_api import Request, sync_playwright
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from benchmarks.figures import Figure
from benchmarks.panel import CELLS, FILLED, QUIET, TAB, WAIT_MS
from tests.e2e.browser import FLAGS
from tests.e2e.lab import Lab
from tests.support.needs import chromium
from tests.support.term import OTHERS, write_term

PANELS = 50
RECORDED_SECONDS = 120
REPLAYED_SECONDS = 60
IDLE_SECONDS = 20
BOOKED_EVERY_SECONDS = 60
GOAL = 5.0
OURS = "/api/computehub/"
SEED = 20260303


@dataclass(frozen=True)
class Asked:
    """A request of the recorded tab, ``at`` seconds from the beginning."""

    at: float
    path: str


def people() -> dict[str, str]:
    names = ["alice", "bob"] + [f"student{number:02}" for number in range(1, OTHERS + 1)]
    names += [f"guest{number:02}" for number in range(PANELS + 1 - len(names))]
    return {name: f"the-token-of-{name}" for name in names}


def record(lab: Lab) -> list[Asked]:
    """What one tab with an open panel asks once it has come to rest."""
    asked: list[Asked] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_context().new_page()
        page.goto(f"{lab.url}lab/tree/term.ipynb?reset&token={lab.users['alice']}")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=WAIT_MS)
        page.get_by_role("tab", name=TAB).click()
        page.wait_for_function(FILLED, timeout=WAIT_MS)
        page.wait_for_load_state("networkidle")
        begun = time.monotonic()

        def note(request: Request) -> None:
            parts = urlsplit(request.url)
            # Of what only asks: a repeated write would not do the same again.
            if request.method == "GET" and parts.path.startswith("/api/"):
                path = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
                asked.append(Asked(time.monotonic() - begun, path))

        page.on("request", note)
        for number in range(RECORDED_SECONDS // BOOKED_EVERY_SECONDS):
            page.wait_for_timeout(1000 * (begun + (number + 0.5) * BOOKED_EVERY_SECONDS - time.monotonic()))
            book(lab)
        page.wait_for_timeout(max(0.0, 1000 * (begun + RECORDED_SECONDS - time.monotonic())))
        browser.close()
    return asked


def book(lab: Lab) -> None:
    """Somebody books and cancels, of which every panel hears."""
    start = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    wanted = {"model": "A100", "starts_at": start, "duration_seconds": 3600}
    made = lab.api("bookings", user="bob", method="POST", body=wanted)
    lab.api(f"bookings/{made['id']}/cancel", user="bob", method="POST")


async def replayed(lab: Lab, asked: list[Asked], server: psutil.Process) -> tuple[float, int]:
    """Percent of a core, and how many requests were answered."""
    chance = random.Random(SEED)
    names = [name for name in lab.users if name != "bob"][:PANELS]
    answered = 0

    async def panel(client: httpx.AsyncClient, name: str, begin: float) -> None:
        nonlocal answered
        token = {"Authorization": f"token {lab.users[name]}"}
        events = HTTPRequest(f"ws{lab.url.removeprefix('http')}api/events/subscribe", headers=token)
        stream = await websocket_connect(events)
        try:
            shift = chance.random() * RECORDED_SECONDS
            turns = sorted(((each.at - shift) % RECORDED_SECONDS, each.path) for each in asked)
            for at, path in turns:
                if at > REPLAYED_SECONDS:
                    break
                await asyncio.sleep(max(0.0, begin + at - time.monotonic()))
                answer = await client.get(path, headers=token)
                assert answer.status_code < 500, answer.text
                answered += 1
            await asyncio.sleep(max(0.0, begin + REPLAYED_SECONDS - time.monotonic()))
        finally:
            stream.close()

    limits = httpx.Limits(max_connections=PANELS, max_keepalive_connections=PANELS)
    async with httpx.AsyncClient(base_url=lab.url, limits=limits, timeout=30) as client:
        # Known to the server once, as who works there for a while is.
        await asyncio.gather(*(client.get("api/me", headers=headers(lab, name)) for name in names))
        begin = time.monotonic() + 2
        panels = [asyncio.create_task(panel(client, name, begin)) for name in names]
        await asyncio.sleep(2)
        used = seconds(server)
        for number in range(REPLAYED_SECONDS // BOOKED_EVERY_SECONDS):
            await asyncio.sleep(max(0.0, begin + (number + 0.5) * BOOKED_EVERY_SECONDS - time.monotonic()))
            await asyncio.to_thread(book, lab)
        await asyncio.sleep(max(0.0, begin + REPLAYED_SECONDS - time.monotonic()))
        used = seconds(server) - used
        await asyncio.gather(*panels)
    return 100 * used / REPLAYED_SECONDS, answered


def headers(lab: Lab, name: str) -> dict[str, str]:
    return {"Authorization": f"token {lab.users[name]}"}


def seconds(server: psutil.Process) -> float:
    """Of processor time, by the server's own process."""
    times = server.cpu_times()
    return float(times.user + times.system)


def idle(server: psutil.Process) -> float:
    used = seconds(server)
    time.sleep(IDLE_SECONDS)
    return 100 * (seconds(server) - used) / IDLE_SECONDS


def measured(folder: Path) -> dict[str, Any]:
    lab = Lab(folder, people(), overrides=QUIET)
    lab.write_notebook("term.ipynb", [f"value_{number} = {number}" for number in range(CELLS)])
    write_term(lab.data / "computehub.sqlite")
    try:
        lab.start()
        assert lab.process is not None
        server = psutil.Process(lab.process.pid)
        asked = record(lab)
        ours = [each for each in asked if OURS in f"/{each.path}"]
        others = [each for each in asked if OURS not in f"/{each.path}"]
        alone = idle(server)
        panels, answered = asyncio.run(replayed(lab, ours, server))
        tabs, _ = asyncio.run(replayed(lab, others, server))
        lab.shut_down()
    finally:
        if lab.running:
            lab.kill()
        lab.end_what_is_left()
    return {"panels": panels - alone, "tabs": tabs - alone, "asked": len(ours), "answered": answered, "idle": alone}


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="computehub-panels-") as folder:
        found = measured(Path(folder))
    each = found["asked"] * 60 / RECORDED_SECONDS
    return [
        Figure(
            f"The server's work for {PANELS} open panels",
            found["panels"],
            found["tabs"],
            found["panels"] / found["tabs"],
            "% of a core",
            f"{each:.0f} requests a minute each, {found['answered']} in {REPLAYED_SECONDS} s; others book once",
            yardstick_name=f"what JupyterLab itself asks in {PANELS} tabs",
            goal=f"under {GOAL:.0f} %",
            met=found["panels"] < GOAL,
        )
    ]


if __name__ == "__main__":
    for row in run():
        print(row.row())
