"""The sidebar: what one has, what runs, what there is, what is booked and what it all came to."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Route, expect

from tests.e2e.browser import Person, Tab
from tests.e2e.lab import Lab, eventually

SERIOUS = ("serious", "critical")
NAME = "GPUs and credits"


class Sidebar:
    """The sidebar of one tab, by the words on it."""

    def __init__(self, tab: Tab) -> None:
        self.page = tab.page
        self.node = tab.page.get_by_role("region", name=NAME, exact=True)

    def open(self) -> Sidebar:
        self.page.get_by_role("tab", name=NAME).click()
        expect(self.part("Credits")).to_contain_text("Available")
        return self

    def part(self, title: str) -> Locator:
        return self.node.get_by_role("region", name=title, exact=True)

    def unfold(self, title: str) -> Locator:
        header = self.part(title).get_by_role("button", name=title, exact=True)
        if header.get_attribute("aria-expanded") == "false":
            header.click()
        return self.part(title)

    def press(self, part: str, button: str) -> Locator:
        """Press a button of a part; return the dialog that asks."""
        self.part(part).get_by_role("button", name=button, exact=True).first.click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        return dialog

    def assert_everybody_can_use_it(self) -> None:
        found = Axe().run(self.page, context="#computehub-sidebar")
        serious = [each["id"] for each in found.response["violations"] if each["impact"] in SERIOUS]
        assert not serious, found.generate_report()


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").end_everything()


def moved(lab: Lab, name: str, model: str = "T4", seconds: int = 1800) -> dict[str, Any]:
    """Move a notebook to a GPU by the API; return its lease."""
    wish = {"target": "gpu", "kernel_id": lab.kernel_of(name), "model": model, "duration_seconds": seconds}
    switch = lab.api("switches", user="alice", method="POST", body=wish)
    eventually("the move is done", lambda: lab.api(f"switches/{switch['id']}", user="alice")["state"] == "done")
    lease: dict[str, Any] = lab.place(name)["lease"]
    return lease


def minutes_moved(lab: Lab, lease: dict[str, Any]) -> float:
    """By how much a lease's end lies later than it did."""
    now = lab.api(f"leases/{lease['id']}", user="alice")
    before, after = (datetime.fromisoformat(each["ends_at"].replace("Z", "+00:00")) for each in (lease, now))
    return (after - before).total_seconds() / 60


def test_a_running_gpu_is_extended_shortened_and_ended(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("x = 1")
    tab = alice.open(name)
    sidebar = Sidebar(tab).open()
    expect(sidebar.part("Running GPUs")).to_contain_text("No GPU runs for you.")
    lease = moved(lab, name)
    running = sidebar.part("Running GPUs")
    expect(running.get_by_role("button", name=name)).to_be_visible()
    expect(running).to_contain_text("simulated")
    expect(running.get_by_role("timer", name=re.compile(r"\d+ min left"))).to_be_visible()

    dialog = sidebar.press("Running GPUs", "Extend…")
    expect(dialog.get_by_role("radio", name="1 h 1.00 credits")).to_be_focused()
    tab.screenshot("sidebar-extend")
    tab.page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert minutes_moved(lab, lease) == 60

    dialog = sidebar.press("Running GPUs", "Shorten…")
    dialog.get_by_role("textbox", name="Minutes").fill("20")
    expect(dialog).to_contain_text("0.333 credits")
    dialog.get_by_role("button", name="Shorten", exact=True).click()
    expect(dialog).to_have_count(0)
    assert minutes_moved(lab, lease) == 40

    dialog = sidebar.press("Running GPUs", "End…")
    expect(dialog).to_contain_text("variables on the GPU are lost")
    dialog.get_by_role("button", name="End and lose the variables").click()
    assert lab.closed_lease(lease["id"])["end_reason"] == "returned"
    expect(sidebar.part("Running GPUs")).to_contain_text("No GPU runs for you.")
    expect(sidebar.unfold("History")).to_contain_text("You gave the GPU back.")


def test_what_the_server_refuses_stays_as_it_was_typed(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("x = 1")
    tab = alice.open(name)
    sidebar = Sidebar(tab).open()
    lease = moved(lab, name)
    dialog = sidebar.press("Running GPUs", "Extend…")
    dialog.get_by_role("textbox", name="Minutes").fill("6000")
    tab.page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_be_visible()
    expect(dialog.get_by_role("textbox", name="Minutes")).to_have_value("6000")
    tab.page.keyboard.press("Escape")
    assert minutes_moved(lab, lease) == 0
    # The browser itself writes every refused request on the console.
    tab.errors[:] = [error for error in tab.errors if "/extend" not in error]


def test_a_notebook_asks_above_the_allowance_that_is_set_here(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    tab = alice.open(notebook('%gpu book T4 "tomorrow 15:00" --for 2h'))
    sidebar = Sidebar(tab).open()
    dialog = sidebar.press("Credits", "Set allowance…")
    dialog.get_by_role("textbox", name="Credits a day").fill("0.5")
    tab.page.keyboard.press("Enter")
    expect(sidebar.part("Credits")).to_contain_text("may spend 0.50 credits a day")
    assert lab.api("me", user="alice")["allowance"]["per_day_microcredits"] == 500_000

    tab.run_cell(1)
    asked = sidebar.part("Asked of you")
    expect(asked).to_contain_text("asks to spend 2.00 credits", timeout=20_000)
    asked.get_by_role("button", name="Approve").click()
    tab.wait_for_output(1, "Booked")
    expect(asked).to_have_count(0)

    bookings = sidebar.part("Next bookings")
    expect(bookings).to_contain_text("2.00 credits")
    dialog = sidebar.press("Next bookings", "Cancel")
    dialog.get_by_role("button", name="Cancel the booking").click()
    expect(bookings).to_contain_text("Nothing is booked.")
    # Runs of the tests before are among them.
    states = [each["state"] for each in lab.api("bookings", user="alice")["items"]]
    assert states.count("cancelled") == 1
    assert set(states) <= {"cancelled", "completed"}
    lab.api("me/allowance", user="alice", method="PUT", body={"per_day_microcredits": 5_000_000})


def test_the_history_is_a_file_and_the_folds_and_filters_are_remembered(
    lab: Lab, alice: Person, notebook: Callable[..., str], tmp_path: Path
) -> None:
    name = notebook("x = 1")
    tab = alice.open(name)
    sidebar = Sidebar(tab).open()
    history = sidebar.unfold("History")
    expect(history).to_contain_text("Welcome to ComputeHub")
    with tab.page.expect_download() as download:
        history.get_by_role("link", name="Download as CSV").click()
    download.value.save_as(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "Welcome to ComputeHub" in rows[-1].values()

    offers = sidebar.part("GPUs to use or book")
    offers.get_by_role("searchbox").fill("t4")
    expect(offers.get_by_role("listitem")).to_have_count(1)
    # JupyterLab keeps what is remembered with the workspace, a moment later.
    eventually("it is kept", lambda: '"t4"' in json.dumps(lab.request("lab/api/workspaces", user="alice")))
    tab.page.goto(f"{lab.url}lab/tree/{name}")
    tab.wait_for_kernel()
    tab.page.evaluate("() => { void window.jupyterapp.commands.execute('computehub:show-panel'); }")
    expect(sidebar.part("History")).to_contain_text("Welcome to ComputeHub")
    expect(offers.get_by_role("listitem")).to_have_count(1)


def test_a_server_that_does_not_answer_is_told_of_once(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    tab = alice.open(notebook("x = 1"))
    sidebar = Sidebar(tab).open()
    expect(sidebar.part("GPUs to use or book")).to_contain_text("free")

    def drop(route: Route) -> None:
        route.abort()

    tab.page.route("**/api/computehub/v1/**", drop)
    tab.page.evaluate("() => { void window.jupyterapp.commands.execute('computehub:refresh'); }")
    expect(sidebar.node.get_by_role("alert")).to_have_count(1)
    expect(sidebar.part("Credits")).to_contain_text("Available")
    expect(sidebar.part("GPUs to use or book")).to_contain_text("free")
    tab.page.unroute("**/api/computehub/v1/**", drop)
    sidebar.node.get_by_role("button", name="Try again").click()
    expect(sidebar.node.get_by_role("alert")).to_have_count(0)
    # The browser itself writes every dropped request on the console.
    tab.errors[:] = [error for error in tab.errors if "api/computehub" not in error]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"])
def test_everybody_can_use_it(lab: Lab, alice: Person, notebook: Callable[..., str], theme: str) -> None:
    name = notebook("x = 1")
    tab = alice.open(name)
    sidebar = Sidebar(tab).open()
    sidebar.unfold("History")
    moved(lab, name)
    expect(sidebar.part("Running GPUs").get_by_role("timer")).to_be_visible()
    tab.theme(theme)
    sidebar.assert_everybody_can_use_it()


def test_it_works_in_notebook_7(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    tab = alice.open(notebook("x = 1"), app="notebooks")
    sidebar = Sidebar(tab)
    tab.page.evaluate("() => { void window.jupyterapp.commands.execute('computehub:show-panel'); }")
    expect(sidebar.part("Credits")).to_contain_text("10.00 credits")
    expect(sidebar.part("GPUs to use or book").get_by_role("button", name="Move here").first).to_be_visible()
    tab.screenshot("sidebar-notebook-7")
