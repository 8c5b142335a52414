"""The panel on a bad day: a term's worth of data, and a server that is slow, refuses, restarts or is gone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import Person, Tab
from tests.e2e.lab import Lab, eventually, running_lab
from tests.e2e.panel import Panel
from tests.support.term import BOOKINGS, CREDIT, HISTORY, LEASES, write_term

CELLS = 300
SLOW_MS = 3000
PAGE = 25
"""Lines of the history."""

# At the edge of the browser: what the panel asks waits, or is refused with a sentence, for as long as a test wants.
TROUBLE = """
(() => {
  const trouble = window.trouble = { delay: 0, status: 0, sentence: '', writes: [] };
  const ask = window.fetch;
  window.fetch = async function (input, init) {
    const url = input.url ?? String(input);
    if (!url.includes('/api/computehub/')) return ask.call(this, input, init);
    const method = input.method ?? init?.method ?? 'GET';
    if (method !== 'GET') trouble.writes.push(`${method} ${new URL(url).pathname.split('/v1/')[1]}`);
    if (trouble.delay) await new Promise(resolve => setTimeout(resolve, trouble.delay));
    if (!trouble.status) return ask.call(this, input, init);
    const body = JSON.stringify({ message: trouble.sentence, code: 'unavailable', details: {} });
    return new Response(body, { status: trouble.status, headers: { 'Content-Type': 'application/json' } });
  };
  let jumped = 0;
  new PerformanceObserver(list => { for (const each of list.getEntries()) jumped += each.value; })
    .observe({ type: 'layout-shift', buffered: true });
  window.jumped = () => jumped;
})();
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("term")
    write_term(folder / "data" / "computehub.sqlite")
    with running_lab(folder) as lab:
        yield lab


def opened(person: Person, name: str) -> Tab:
    tab = person.blank()
    tab.page.add_init_script(TROUBLE)
    return tab.open(name)


def trouble(page: Page, *, delay: int = 0, status: int = 0, sentence: str = "") -> None:
    page.evaluate("given => Object.assign(window.trouble, given)",
                  {"delay": delay, "status": status, "sentence": sentence})  # fmt: skip


def asked_for(page: Page, write: str) -> int:
    """How often the panel has asked for this."""
    return sum(write in each for each in page.evaluate("window.trouble.writes"))


def alerts(panel: Panel) -> Locator:
    return panel.sidebar.get_by_role("alert")


def expect_no_placeholder(panel: Panel, within_ms: int = 4 * SLOW_MS) -> None:
    expect(panel.page.locator(".ch-Skeleton:visible")).to_have_count(0, timeout=within_ms)


def forget_expected_errors(tab: Tab) -> None:
    """The browser itself writes every refused or unanswered request on the console."""
    known = ("Failed to load resource", "WebSocket", "ERR_CONNECTION", "NetworkError", "Connection lost", "503", "429")
    tab.errors[:] = [error for error in tab.errors if not any(each in error for each in known)]


def fill_form(panel: Panel) -> Locator:
    """Book a V100 tomorrow, up to the last button."""
    panel.execute("computehub:book", model="V100")
    form = panel.dialog
    form.get_by_label("Hours").fill("3")
    form.get_by_label("Minutes").fill("25")
    form.get_by_label("Notebook (optional)").fill("a long way/to type.ipynb")
    return form


def expect_form_kept(form: Locator) -> None:
    expect(form.get_by_label("Hours")).to_have_value("3")
    expect(form.get_by_label("Minutes")).to_have_value("25")
    expect(form.get_by_label("Notebook (optional)")).to_have_value("a long way/to type.ipynb")


def booked_v100(lab: Lab) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = lab.api("bookings?state=upcoming&limit=200", user="alice")["items"]
    return [each for each in items if each["model"] == "V100"]


def test_a_whole_term_of_bookings_and_history_is_at_hand(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    tab = opened(alice, notebook(*(f"value_{number} = {number}" for number in range(CELLS))))
    panel = Panel(tab).open()
    expect(panel.section("Next bookings").get_by_role("listitem").first).to_be_visible()
    history = panel.unfold("History")
    expect(history.get_by_role("listitem")).to_have_count(PAGE)
    # To the last page of the leases and back, then every single entry.
    last = LEASES + HISTORY - LEASES * 30
    for page in range(1, -(-last // PAGE)):
        history.get_by_role("button", name="Older").click()
        expect(history.get_by_role("status").last).to_contain_text(f"Lines {page * PAGE + 1} to ")
    expect(history).to_contain_text("Welcome to ComputeHub")
    expect(history.get_by_role("button", name="Older")).to_have_attribute("aria-disabled", "true")
    history.get_by_role("combobox").select_option("none")
    expect(history.get_by_role("status").last).to_contain_text(f"Lines 1 to {PAGE}")
    expect(history.get_by_role("listitem")).to_have_count(PAGE)

    panel.open_calendar("week")
    panel.page.get_by_role("button", name="Next week").click()
    expect(panel.calendar.locator("[data-booking]")).to_have_count(70, timeout=10_000)
    tab.screenshot("calendar-term")
    panel.execute("computehub:open-calendar", view="list")
    rows = panel.calendar.get_by_role("row")
    expect(rows).not_to_have_count(0)
    assert rows.count() <= BOOKINGS + 1
    tab.screenshot("calendar-list-term")


def test_a_move_that_fails_says_so_and_costs_nothing(lab: Lab, alice: Person) -> None:
    lab.write_notebook("gone/one.ipynb", ["kept = 42", "print('still', kept)"])
    tab = opened(alice, "gone/one.ipynb")
    tab.run_cell(1)
    tab.wait_until_run(1)
    before = lab.api("me", user="alice")["balance"]["posted_microcredits"]
    panel = Panel(tab)
    shutil.move(lab.work / "gone", lab.work / "elsewhere")
    try:
        panel.move_button("Move to a GPU").click()
        go = panel.dialog.get_by_role("button", name="Move the notebook")
        expect(go).not_to_have_attribute("aria-disabled", "true", timeout=30_000)
        go.click()
        expect(panel.dialog.get_by_role("heading", name="Not moved")).to_be_visible(timeout=60_000)
        expect(panel.dialog).to_contain_text(re.compile("folder|nothing was charged", re.IGNORECASE))
    finally:
        shutil.move(lab.work / "elsewhere", lab.work / "gone")
    panel.answer("Close")
    tab.run_cell(2)
    tab.wait_for_output(2, "still 42")
    assert lab.api("me", user="alice")["balance"]["posted_microcredits"] == before
    assert before > CREDIT
    tab.errors.clear()  # JupyterLab looks for the folder that was moved away


def test_a_slow_server_is_waited_for_and_loses_nothing(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    tab = opened(alice, notebook("x = 1"))
    page = tab.page
    panel = Panel(tab)
    trouble(page, delay=SLOW_MS)
    page.get_by_role("tab", name="GPUs and credits").click()
    expect(panel.sidebar.get_by_role("status", name="Loading").first).to_be_visible()
    tab.screenshot("panel-slow")
    jumped = page.evaluate("window.jumped()")
    expect(panel.section("Credits")).to_contain_text("credits", timeout=4 * SLOW_MS)
    expect_no_placeholder(panel)
    moved = page.evaluate("window.jumped()") - jumped
    assert moved < 0.1, f"what was shown moved by {moved:.3f} of the page when the answers came"

    form = fill_form(panel)
    book = form.get_by_role("button", name="Book", exact=True)
    expect(form.get_by_role("region", name="Price")).to_contain_text("It is free.", timeout=4 * SLOW_MS)
    expect(book).not_to_have_attribute("aria-disabled", "true", timeout=4 * SLOW_MS)
    book.dblclick()
    expect(form.locator('[aria-busy="true"]').first).to_be_visible()
    expect_form_kept(form)
    panel.told("Booked: V100")
    assert asked_for(page, "POST bookings") == 1, "a double click is one wish"
    assert len(booked_v100(lab)) == 1


@pytest.mark.parametrize("status", [503, 429])
def test_a_server_that_refuses_is_quoted_once(
    lab: Lab, alice: Person, notebook: Callable[..., str], status: int
) -> None:
    tab = opened(alice, notebook("x = 1"))
    page = tab.page
    panel = Panel(tab).open()
    expect_no_placeholder(panel)
    form = fill_form(panel)
    book = form.get_by_role("button", name="Book", exact=True)
    expect(form.get_by_role("region", name="Price")).to_contain_text("It is free.", timeout=30_000)
    sentence = f"The books are being looked after until noon ({status})."
    trouble(page, status=status, sentence=sentence)
    expect(book).not_to_have_attribute("aria-disabled", "true")
    book.click()
    expect(form.get_by_text(sentence)).to_have_count(1)
    expect_form_kept(form)
    panel.execute("computehub:refresh")
    expect(alerts(panel)).to_have_count(1)
    expect(alerts(panel)).to_contain_text(sentence)
    expect(panel.section("Credits")).to_contain_text("credits")
    tab.screenshot("panel-refused")
    before = len(booked_v100(lab))
    trouble(page)
    book.click()
    panel.told("Booked: V100")
    assert len(booked_v100(lab)) == before + 1
    # Nobody presses anything: it asks again by itself.
    expect(alerts(panel)).to_have_count(0, timeout=30_000)
    forget_expected_errors(tab)


def test_a_server_that_is_gone_is_told_of_once_and_found_again(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    tab = opened(alice, notebook("x = 1"))
    panel = Panel(tab).open()
    expect_no_placeholder(panel)
    form = fill_form(panel)
    book = form.get_by_role("button", name="Book", exact=True)
    expect(form.get_by_role("region", name="Price")).to_contain_text("It is free.", timeout=30_000)
    lab.kill()
    try:
        book.click()
        expect(form).to_contain_text("The Jupyter server does not answer.", timeout=30_000)
        expect_form_kept(form)
        panel.execute("computehub:refresh")
        expect(alerts(panel)).to_have_count(1, timeout=30_000)
        expect(alerts(panel)).to_contain_text("The Jupyter server does not answer.")
        expect_no_placeholder(panel)
        tab.screenshot("panel-gone")
    finally:
        lab.start()
    expect(alerts(panel)).to_have_count(0, timeout=60_000)
    # JupyterLab's own word about the lost connection may lie over the form.
    for other in panel.page.get_by_role("dialog").filter(has_text="Server Connection Error").all():
        other.get_by_role("button").last.click()
    expect_form_kept(form)
    before = len(booked_v100(lab))
    form.get_by_role("button", name="Book", exact=True).click()
    eventually("it is booked", lambda: len(booked_v100(lab)) == before + 1)
    tab.errors.clear()  # JupyterLab and the browser have much to say about a server that is gone
