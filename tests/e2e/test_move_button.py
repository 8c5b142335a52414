"""The button beside the kernel's name: see what a move costs and loses, move, watch, cancel, come back, be warned."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import Person, Tab
from tests.e2e.lab import Lab, eventually, running_lab

SERIOUS = ("serious", "critical")


def button(tab: Tab) -> Locator:
    return tab.page.locator(".jp-NotebookPanel-toolbar:visible .ch-SwitchButton")


def ask(tab: Tab) -> Locator:
    """Click the button; return the dialog."""
    button(tab).click()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    return dialog


def move(tab: Tab, model: str) -> Locator:
    """Ask for a move to a model, by the dialog, and begin it."""
    dialog = ask(tab)
    dialog.get_by_role("radio", name=re.compile(f"^{model} ")).check()
    dialog.get_by_role("button", name="Move the notebook").click()
    return dialog


def bring_back(tab: Tab) -> None:
    dialog = ask(tab)
    dialog.get_by_role("button", name="Back to the CPU").click()
    dialog.get_by_role("button", name="Move back").click()
    expect(dialog.get_by_role("heading", name="Back on the CPU")).to_be_visible(timeout=60_000)
    dialog.get_by_role("button", name="Close").last.click()


def assert_everybody_can_use_it(page: Page, selector: str) -> None:
    found = Axe().run(page, context=selector)
    serious = [each["id"] for each in found.response["violations"] if each["impact"] in SERIOUS]
    assert not serious, found.generate_report()


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> object:
    yield
    if "lab" in request.fixturenames:
        request.getfixturevalue("lab").end_everything()


def test_a_notebook_moves_by_its_button_and_comes_back(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(
        "import threading\nx = 20\nlock = threading.Lock()", "x += 1\nprint('there', x)", "print('back', x)"
    )
    tab = alice.open(name)
    tab.run_cell(1)
    tab.wait_until_run(1)
    dialog = ask(tab)
    dialog.get_by_role("radio", name=re.compile("^T4 ")).check()
    expect(dialog.get_by_text(re.compile(r"2\.00 credits at most, for 2 h"))).to_be_visible()
    expect(dialog.get_by_role("table", name="Can't come along")).to_contain_text("lock")
    begin = dialog.get_by_role("button", name="Move the notebook")
    expect(begin).to_be_disabled()
    assert lab.place(name)["place"] == "cpu", "a preview moves nothing"
    dialog.get_by_label("Leave these behind").check()
    expect(begin).to_be_enabled()
    assert_everybody_can_use_it(tab.page, ".jp-Dialog")
    tab.screenshot("move-form")
    tab.screenshot("move-form-dark", dark=True)
    begin.click()
    expect(dialog.get_by_role("heading", name="Moved")).to_be_visible(timeout=60_000)
    expect(dialog).to_contain_text("The notebook is on T4 (simulated) now.")
    expect(dialog.get_by_role("table", name="Stayed behind")).to_contain_text("lock")
    assert_everybody_can_use_it(tab.page, ".jp-Dialog")
    tab.screenshot("move-result")
    dialog.get_by_role("button", name="Close").last.click()
    place = lab.place(name)
    assert place["place"] == "gpu"
    expect(button(tab)).to_contain_text("T4(simulated)")
    expect(button(tab)).to_contain_text("credits")
    expect(tab.page.locator(".ch-StatusItem")).to_contain_text("1.00 an hour")
    assert_everybody_can_use_it(tab.page, ".ch-SwitchButton")
    tab.run_cell(2)
    tab.wait_for_output(2, "there 21")
    tab.screenshot("on-the-gpu")
    bring_back(tab)
    expect(button(tab)).to_have_text("Move to a GPU")
    tab.run_cell(3)
    tab.wait_for_output(3, "back 21")
    lease = lab.closed_lease(place["lease"]["id"])
    assert lease["end_reason"] == "returned"
    lab.assert_books_agree()


def test_what_fails_only_on_the_cpu_is_left_behind_once_it_was_seen(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    fussy = "class Fussy:\n    def __setstate__(self, state): import no_such_package\n"
    name = notebook("%gpu on T4 --for 30m --yes", f"{fussy}fussy, x = Fussy(), 20\nfussy.y = 1\nprint('there')", "x")
    tab = alice.open(name)
    tab.run_cell(1)
    tab.run_cell(2)
    tab.wait_for_output(2, "there")
    dialog = ask(tab)
    dialog.get_by_role("button", name="Back to the CPU").click()
    dialog.get_by_role("button", name="Move back").click()
    expect(dialog.get_by_role("heading", name="Not moved")).to_be_visible(timeout=60_000)
    expect(dialog.get_by_role("table", name="Can't come along")).to_contain_text("no_such_package is not")
    assert lab.place(name)["place"] == "gpu"
    tab.screenshot("move-fails-there")
    dialog.get_by_role("button", name="Move all the same").click()
    expect(dialog.get_by_role("heading", name="Back on the CPU")).to_be_visible(timeout=60_000)
    expect(dialog).to_contain_text("fussy")
    dialog.get_by_role("button", name="Close").last.click()
    tab.run_cell(3)
    tab.wait_for_output(3, "20")
    assert lab.place(name)["place"] == "cpu"


def test_cells_wait_for_a_move_that_goes_on_without_its_dialog(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    name = notebook("import os, time; time.sleep(5); first = os.getpid()", "print('other', os.getpid() != first)")
    tab = alice.open(name)
    tab.run_cell(1)
    tab.wait_for_kernel("busy")
    dialog = move(tab, "T4")
    expect(dialog.get_by_text("A cell still runs")).to_be_visible()
    tab.screenshot("move-steps")
    dialog.get_by_role("button", name="Close, and go on moving").click()
    tab.run_cell(2)
    waits = tab.cell(2).locator(".jp-Cell-inputWrapper")
    expect(waits).to_have_attribute("data-ch-waits", "Waits for the move")
    expect(tab.cell(1).locator(".jp-Cell-inputWrapper")).not_to_have_attribute("data-ch-waits", re.compile("."))
    expect(tab.page.get_by_text("Wait for the running cell to end")).to_be_visible()
    tab.screenshot("cells-wait")
    tab.wait_for_output(2, "other True")
    expect(waits).not_to_have_attribute("data-ch-waits", re.compile("."))
    expect(tab.page.get_by_text("is on the GPU now, with its variables")).to_be_visible()


def test_a_move_is_cancelled_and_costs_nothing(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("import time; time.sleep(6)", "print('still here')")
    tab = alice.open(name)
    before = lab.api("me", user="alice")["balance"]
    tab.run_cell(1)
    tab.wait_for_kernel("busy")
    dialog = move(tab, "T4")
    dialog.get_by_role("button", name="Cancel the move").click()
    expect(dialog.get_by_role("heading", name="Cancelled")).to_be_visible()
    expect(dialog).to_contain_text("nothing was charged")
    tab.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    tab.run_cell(2)
    tab.wait_for_output(2, "still here")
    assert lab.place(name)["place"] == "cpu"
    eventually("all is released", lambda: lab.api("me", user="alice")["balance"] == before)


def test_what_the_server_refuses_is_said_and_nothing_typed_is_lost(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    tab = alice.open(notebook("x = 1"))
    dialog = ask(tab)
    dialog.get_by_role("radio", name=re.compile("^A100 ")).check()
    dialog.get_by_label("For how long").select_option("86400")
    expect(dialog.get_by_role("alert")).to_contain_text("96.00 credits")
    expect(dialog.get_by_role("button", name="Move the notebook")).to_be_disabled()
    dialog.get_by_label("For how long").select_option("other")
    dialog.get_by_label("minutes").fill("1")
    expect(dialog.get_by_role("alert")).to_contain_text("at least 5m")
    expect(dialog.get_by_label("minutes")).to_have_value("1")
    expect(dialog.get_by_role("radio", name=re.compile("^A100 "))).to_be_checked()
    tab.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_two_people_at_one_notebook_see_who_moved_it_and_who_pays(
    lab: Lab, alice: Person, bob: Person, notebook: Callable[..., str]
) -> None:
    name = notebook("x = 1")
    tab, other = alice.open(name), bob.open(name)
    dialog = move(tab, "T4")
    expect(dialog.get_by_role("heading", name="Moved")).to_be_visible(timeout=60_000)
    tab.page.keyboard.press("Escape")
    expect(button(other)).to_contain_text("T4")
    seen = ask(other)
    expect(seen).to_contain_text("Moved byAlice")
    expect(seen).to_contain_text("Paid byAlice")
    expect(seen).to_contain_text("Alice pays for this GPU")
    expect(seen.get_by_role("button", name="Back to the CPU")).to_be_disabled()
    expect(seen.get_by_role("button", name="Extend")).to_be_disabled()
    other.screenshot("place-of-another")
    mine = ask(tab)
    expect(mine).to_contain_text("you (Alice)")
    expect(mine.get_by_role("button", name="Back to the CPU")).to_be_enabled()
    tab.screenshot("place")
    for page in (tab.page, other.page):
        page.keyboard.press("Escape")


def test_it_is_all_done_by_keyboard(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("x = 1")
    tab = alice.open(name)
    page = tab.page
    button(tab).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="Move to a GPU")).to_be_focused()
    begin = dialog.get_by_role("button", name="Move the notebook")
    expect(dialog.get_by_text("credits at most")).to_be_visible()
    expect(begin).to_be_enabled()
    for _ in range(20):
        page.keyboard.press("Tab")
        if begin.evaluate("node => node === document.activeElement"):
            break
    expect(begin).to_be_focused()
    page.keyboard.press("Tab")
    assert dialog.evaluate("node => node.contains(document.activeElement)"), "focus stays in the dialog"
    begin.focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("heading", name="Moved")).to_be_focused(timeout=60_000)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button(tab)).to_be_focused()
    assert lab.place(name)["place"] == "gpu"


def test_an_idle_gpu_is_kept_by_one_click(tmp_path: Path, person: Callable[..., Person]) -> None:
    with running_lab(tmp_path, idle_timeout_seconds=60) as lab:
        lab.write_notebook("idle.ipynb", ["x = 1"])
        alice = person(lab, "alice")
        tab = alice.open("idle.ipynb")
        dialog = move(tab, "T4")
        expect(dialog.get_by_role("heading", name="Moved")).to_be_visible(timeout=60_000)
        tab.page.keyboard.press("Escape")
        warning = tab.page.get_by_text("No cell runs in “idle.ipynb”")
        expect(warning).to_be_visible(timeout=60_000)
        tab.screenshot("idle-warning")
        before = lab.place("idle.ipynb")["idle"]["gives_back_at"]
        tab.page.get_by_role("button", name="Keep it").click()
        eventually("it is kept", lambda: lab.place("idle.ipynb")["idle"]["gives_back_at"] > before)
        expect(warning).to_be_hidden()
        alice.leave()


def test_a_kernels_request_is_approved_by_one_click(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    lab.api("me/allowance", user="alice", method="PUT", body={"per_day_microcredits": 0})
    name = notebook("%gpu on T4 --for 30m --yes", "print('ran')")
    tab = alice.open(name)
    tab.run_cell(1)
    expect(tab.page.get_by_text(re.compile("asks to spend 0.50"))).to_be_visible()
    tab.screenshot("approval-asked")
    tab.page.get_by_role("button", name="Approve", exact=True).click()
    eventually("the notebook has moved", lambda: lab.place(name)["place"] == "gpu")
    lab.api("me/allowance", user="alice", method="PUT", body={"per_day_microcredits": 5_000_000})


def test_the_button_works_in_notebook_7(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("x = 1", "x += 1\nprint(x)")
    tab = alice.open(name, app="notebooks")
    tab.run_cell(1)
    tab.wait_until_run(1)
    dialog = move(tab, "T4")
    expect(dialog.get_by_role("heading", name="Moved")).to_be_visible(timeout=60_000)
    tab.page.keyboard.press("Escape")
    expect(button(tab)).to_contain_text("T4")
    tab.run_cell(2)
    tab.wait_for_output(2, "2")
    expect(tab.page.locator(".ch-StatusItem")).to_have_count(0)  # Notebook 7 has no status bar
    tab.screenshot("notebook-7-moved")
    bring_back(tab)
    assert lab.place(name)["place"] == "cpu"
