"""What the panel costs whoever opens JupyterLab: bytes, the wait for it, and long tasks.

Measured in Chromium on a hub in the middle of a term: 200 bookings of the person's and 40 of others', 5,000 lines of
history. Each load is a new page in a browser with an empty cache.

- Bytes: what the browser fetched of the panel before anybody clicked, each file compressed with gzip as a web server
  does it, beside all that JupyterLab itself fetched by then.
- The wait: the panel was left open. From the moment when JupyterLab has restored its layout until the panel shows the
  balance, the offers, the bookings and no placeholder; beside JupyterLab's file browser from the same moment on.
- Long tasks, beside an open notebook of 300 cells: the longest that Chromium's own observer tells of (silent below
  50 ms, so that 0 is less than that) between the click and half a second after the panel was filled; beside the same
  click on a sidebar of JupyterLab's own where there is no panel. The calendar's first opening is measured as well.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response, sync_playwright

from benchmarks.figures import Figure
from tests.e2e.browser import FLAGS
from tests.e2e.lab import Lab
from tests.support.needs import chromium
from tests.support.term import write_term

LOADS = 5
CELLS = 300
GOAL_KB = 250
GOAL_USABLE_MS = 300
GOAL_TASK_MS = 100
OURS = "/lab/extensions/computehub/"
TAB = "GPUs and credits"
OWN_TAB = "Property Inspector"
QUIET = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
WAIT_MS = 60_000
NOTEBOOK = "lab/tree/term.ipynb?reset&"
EMPTY = "lab?reset&"
AS_IT_WAS = "lab?"
RESTED_MS = 1_000

FILLED = """
() => {
  const panel = document.querySelector('.ch-Sidebar:not(.lm-mod-hidden)');
  return !!panel && panel.querySelectorAll('.ch-Item').length > 0 && !panel.querySelector('.ch-Skeleton');
}
"""
RESTED = f"""
() => {{
  const last = window.seen.tasks.at(-1);
  return performance.now() - (last ? last.startTime + last.duration : 0) > {RESTED_MS};
}}
"""
WATCH = f"""
(() => {{
  const seen = window.seen = {{ tasks: [] }};
  new PerformanceObserver(list => seen.tasks.push(...list.getEntries().map(({{ startTime, duration }}) =>
    ({{ startTime, duration }})))).observe({{ type: 'longtask', buffered: true }});
  const filled = {FILLED};
  const listed = () => !!document.querySelector('.jp-DirListing-item');
  const look = () => {{
    if (window.jupyterapp && !seen.waits) {{
      seen.waits = true;
      void window.jupyterapp.restored.then(() => {{ seen.restored = performance.now(); }});
    }}
    seen.listed ??= listed() ? performance.now() : undefined;
    seen.filled ??= filled() ? performance.now() : undefined;
    if (seen.listed === undefined || seen.filled === undefined) {{ requestAnimationFrame(look); }}
  }};
  requestAnimationFrame(look);
}})();
"""


@contextmanager
def opened(browser: Browser, lab: Lab) -> Iterator[Page]:
    """A page of a browser that has fetched nothing yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    context.add_init_script(WATCH)
    try:
        yield context.new_page()
    finally:
        context.close()


def go(page: Page, lab: Lab, where: str) -> None:
    """Load JupyterLab and wait until it has come to rest."""
    page.goto(f"{lab.url}{where}token={lab.users['alice']}")
    page.wait_for_function("window.seen?.restored !== undefined", timeout=WAIT_MS)
    if where == NOTEBOOK:
        page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=WAIT_MS)
    page.wait_for_load_state("networkidle")
    page.wait_for_function(RESTED, timeout=WAIT_MS)


def first_bytes(browser: Browser, lab: Lab) -> tuple[float, float]:
    """Kilobytes, compressed, of the panel and of JupyterLab itself, before the first click."""
    answers: list[Response] = []
    with opened(browser, lab) as page:
        page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright marks the function
        go(page, lab, NOTEBOOK)
        ours = theirs = 0
        for answer in answers:
            if answer.request.resource_type in ("script", "stylesheet") and answer.ok:
                size = len(gzip.compress(answer.body(), 6))
                if OURS in answer.url:
                    ours += size
                else:
                    theirs += size
    assert ours, "the panel was not loaded"
    return ours / 1024, theirs / 1024


def longest_on(page: Page, click: str, until: str) -> float:
    """Open a sidebar by its tab; the longest task from the click on, 0 where none was long."""
    begun: float = page.evaluate("performance.now()")
    page.get_by_role("tab", name=click).click()
    return longest_since(page, begun, until)


def longest_since(page: Page, begun: float, until: str) -> float:
    page.wait_for_function(until, timeout=WAIT_MS)
    page.wait_for_timeout(500)
    tasks = page.evaluate("since => window.seen.tasks.filter(t => t.startTime + t.duration > since)", begun)
    return max((float(task["duration"]) for task in tasks), default=0.0)


def on_opening(browser: Browser, lab: Lab) -> tuple[float, float]:
    """The longest task when the panel opens beside the notebook, and when the calendar does."""
    with opened(browser, lab) as page:
        go(page, lab, NOTEBOOK)
        panel = longest_on(page, TAB, FILLED)
        begun: float = page.evaluate("performance.now()")
        page.evaluate("void window.jupyterapp.commands.execute('computehub:open-calendar', { view: 'week' })")
        calendar = longest_since(page, begun, "document.querySelectorAll('.ch-Calendar [data-booking]').length > 0")
    return panel, calendar


def kept_open(answer: Response) -> bool:
    """Whether this was the layout on its way to the server, with the panel open in it."""
    request = answer.request
    kept = request.post_data if request.method == "PUT" and "/api/workspaces/" in request.url else None
    return '"current":"computehub-sidebar"' in (kept or "")


def leave_open(browser: Browser, lab: Lab) -> None:
    """Open the panel and leave, when JupyterLab has written down how it was left."""
    with opened(browser, lab) as page:
        go(page, lab, EMPTY)
        with page.expect_response(kept_open, timeout=WAIT_MS):
            page.get_by_role("tab", name=TAB).click()
            page.wait_for_function(FILLED, timeout=WAIT_MS)


def on_restoring(browser: Browser, lab: Lab) -> tuple[float, float]:
    """From the restored layout until the panel, and the file browser, are filled; in milliseconds."""
    with opened(browser, lab) as page:
        go(page, lab, AS_IT_WAS)
        page.wait_for_function("window.seen.filled && window.seen.listed", timeout=WAIT_MS)
        seen = page.evaluate("window.seen")
    return max(0.0, seen["filled"] - seen["restored"]), max(0.0, seen["listed"] - seen["restored"])


@contextmanager
def serving(folder: Path, *, installed: bool) -> Iterator[Lab]:
    lab = Lab(folder, {"alice": "token-of-alice"}, installed=installed, overrides=QUIET)
    lab.write_notebook("term.ipynb", [f"value_{number} = {number}" for number in range(CELLS)])
    if installed:
        write_term(lab.data / "computehub.sqlite")
    try:
        lab.start()
        yield lab
        lab.shut_down()
    finally:
        if lab.running:
            lab.kill()
        lab.end_what_is_left()


def measured(folder: Path) -> dict[str, Any]:
    with (
        serving(folder / "ours", installed=True) as ours,
        serving(folder / "plain", installed=False) as plain,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        kilobytes, theirs = first_bytes(browser, ours)
        opening, restoring, own = [], [], []
        for _ in range(LOADS):
            opening.append(on_opening(browser, ours))
            leave_open(browser, ours)
            restoring.append(on_restoring(browser, ours))
            with opened(browser, plain) as page:
                go(page, plain, NOTEBOOK)
                inspected = "!!document.querySelector('.jp-PropertyInspector:not(.lm-mod-hidden)')"
                own.append(longest_on(page, OWN_TAB, inspected))
        browser.close()
    return {
        "bytes": (kilobytes, theirs),
        "panel": statistics.median(each[0] for each in opening),
        "calendar": statistics.median(each[1] for each in opening),
        "own": statistics.median(own),
        "usable": statistics.median(each[0] for each in restoring),
        "listed": statistics.median(each[1] for each in restoring),
    }


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="computehub-panel-") as folder:
        found = measured(Path(folder))
    size = f"median of {LOADS} loads; 200 bookings, 5,000 lines of history, {CELLS} cells"
    kilobytes, theirs = found["bytes"]

    def figure(name: str, value: float, yardstick: float, most: float, **more: Any) -> Figure:
        ratio = value / yardstick if yardstick else None
        unit = more.pop("unit", "ms")
        return Figure(name, value, yardstick, ratio, unit, more.pop("size", size), met=value <= most, **more)

    beside = "JupyterLab's property inspector, without the panel"
    return [
        figure("The panel's code before the first click, gzipped", kilobytes, theirs, GOAL_KB, unit="kB",
               size="JavaScript and CSS that Chromium fetched", yardstick_name="JupyterLab itself",
               goal=f"at most {GOAL_KB} kB"),
        figure("From JupyterLab restored to the panel filled", found["usable"], found["listed"], GOAL_USABLE_MS,
               yardstick_name="JupyterLab's file browser filled", goal=f"at most {GOAL_USABLE_MS} ms"),
        figure("Longest task on opening the panel (0: none of 50 ms)", found["panel"], found["own"], GOAL_TASK_MS,
               yardstick_name=beside, goal=f"at most {GOAL_TASK_MS} ms"),
        figure("Longest task on opening the calendar (0: none of 50 ms)", found["calendar"], found["own"],
               GOAL_TASK_MS, yardstick_name=beside, goal=f"at most {GOAL_TASK_MS} ms"),
    ]  # fmt: skip


if __name__ == "__main__":
    for row in run():
        print(row.row())
