"""From starting the server's process to its first page, with the extension and without it, in turns.

Without it means disabled: Jupyter asks even then what there is, which takes about 6 ms of both.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.server import TOKEN, ServerProcess

PAIRS = 11
GOAL_SECONDS = 0.1
GIVEN_UP_SECONDS = 60.0


def _first_page(folder: Path, enabled: bool, bytecode: str) -> float:
    """Seconds from the process's start until JupyterLab's page was served; the server is stopped again."""
    # Compiled once, as in an installation, also where this machine's Python is told to keep no bytecode: there a start
    # would compile thousands of files of Jupyter's and ours, which no user waits for twice.
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": bytecode}
    started = time.perf_counter()
    server = ServerProcess(folder, enabled=enabled, environment=compiled)
    request = urllib.request.Request(server.url + "lab", headers={"Authorization": f"token {TOKEN}"})
    try:
        while True:
            assert server.process.poll() is None, server.log()
            assert time.perf_counter() - started < GIVEN_UP_SECONDS, server.log()
            try:
                with urllib.request.urlopen(request, timeout=GIVEN_UP_SECONDS) as page:
                    page.read()
                return time.perf_counter() - started
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.002)
    finally:
        server.stop()


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="computehub-bytecode-") as bytecode:
        return _run(bytecode)


def _run(bytecode: str) -> list[dict[str, Any]]:
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(PAIRS + 1):
        # Each in a new folder, as a first start; and each first as often as second.
        for enabled in (number % 2 == 0, number % 2 != 0):
            with tempfile.TemporaryDirectory(prefix="computehub-startup-") as folder:
                seconds = _first_page(Path(folder), enabled, bytecode)
            if number:  # the first pair fills the disk's cache and compiles
                taken[enabled].append(seconds)
    ours, plain = statistics.median(taken[True]), statistics.median(taken[False])
    later = ours - plain
    return [
        {
            "name": "First page of the Jupyter server, from its start",
            "figure": ours * 1000,
            "yardstick": plain * 1000,
            "unit": "ms",
            "size": f"{PAIRS} pairs of starts in turns",
            "yardstick_name": "without the extension",
            "goal": f"at most {GOAL_SECONDS * 1000:.0f} ms later; here {later * 1000:+.0f} ms",
            "met": later <= GOAL_SECONDS,
        }
    ]


if __name__ == "__main__":
    print(run())
