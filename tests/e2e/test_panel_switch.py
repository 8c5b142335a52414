"""A notebook goes to a GPU and comes back by the button beside its kernel's name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually
from tests.e2e.panel import Panel, seconds_between

ON_T4 = "The notebook is on T4 (simulated) now."
THERE = "import os\nprint('elsewhere', os.getpid() != first, len(rows))"


def test_the_button_moves_shows_what_it_costs_and_brings_back(lab: Lab, person: Callable[..., Person]) -> None:
    lab.write_notebook(
        "training.ipynb",
        [
            "import os, threading\nfirst = os.getpid()\nrows = list(range(1000))\nlock = threading.Lock()",
            THERE,
            "print('again', len(rows))",
        ],
    )
    tab = person(lab, "alice", width=1440).open("training.ipynb")
    tab.run_cell(1)
    tab.wait_until_run(1)
    panel = Panel(tab).open()

    # Cost and loss are said before anything happens.
    panel.move_button("Move to a GPU").click()
    page = panel.dialog
    page.get_by_role("radio", name=re.compile("^T4 ")).check()
    page.get_by_label("For how long").select_option(label="1 h")
    meaning = page.get_by_role("region", name="What the move means")
    expect(meaning).to_contain_text("1.00 credits at most, for 1 h", timeout=30_000)
    expect(meaning.get_by_role("row", name=re.compile("lock"))).to_be_visible(timeout=30_000)
    expect(page.get_by_role("button", name="Move the notebook")).to_have_attribute("aria-disabled", "true")
    assert lab.place("training.ipynb")["place"] == "cpu"
    assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
    page.get_by_label("Leave these behind").check()
    panel.both_looks("move-preview")
    page.get_by_role("button", name="Move the notebook").click()
    expect(page.get_by_text(ON_T4)).to_be_visible(timeout=60_000)
    expect(page.get_by_role("table", name="Stayed behind")).to_contain_text("lock")
    panel.both_looks("move-result")
    panel.answer("Close")
    place = lab.place("training.ipynb")
    lease = place["lease"]["id"]
    assert (place["place"], place["lease"]["state"]) == ("gpu", "running")
    assert lab.query("SELECT state FROM leases WHERE id = ?", lease) == [("running",)]

    # The variables are there; button, card and status bar count.
    tab.run_cell(2)
    tab.wait_for_output(2, "elsewhere True 1000")
    button = panel.move_button(re.compile("^T4"))
    first = button.inner_text()
    expect(button).not_to_have_text(first, timeout=20_000)
    expect(panel.status).to_contain_text(re.compile("T4.*left"))
    card = panel.section("Running GPUs").get_by_role("article", name="T4")
    expect(card).to_contain_text("training.ipynb")
    expect(card).to_contain_text("simulated")
    panel.both_looks("move-done")

    # Longer, then shorter.
    def longer() -> float:
        return seconds_between(place["lease"], lab.api(f"leases/{lease}", user="alice"))

    card.get_by_role("button", name="Extend…").click()
    expect(panel.dialog).to_contain_text("credits")
    panel.dialog.get_by_role("radio", name=re.compile("^30 min")).check()
    panel.both_looks("panel-extend")
    panel.answer("Extend")
    eventually("the lease is longer by what was chosen", lambda: longer() == 1800)
    card.get_by_role("button", name="Shorten…").click()
    panel.dialog.get_by_role("radio", name=re.compile("^15 min")).check()
    panel.answer("Shorten")
    eventually("the lease is shorter again", lambda: longer() == 900)

    # Back, with the variables.
    panel.move_button(re.compile("^T4")).click()
    page.get_by_role("button", name="Back to the CPU…").click()
    expect(page).to_contain_text("Nothing more.")
    back = page.get_by_role("button", name="Move back")
    expect(back).not_to_have_attribute("aria-disabled", "true", timeout=30_000)
    back.click()
    expect(page.get_by_text("The notebook is back on the CPU.")).to_be_visible(timeout=60_000)
    panel.answer("Close")
    panel.move_button("Move to a GPU")
    tab.run_cell(3)
    tab.wait_for_output(3, "again 1000")
    closed = lab.closed_lease(lease)
    assert closed["end_reason"] == "returned"
    assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
    expect(panel.section("Running GPUs")).to_contain_text("No GPU runs for you.")

    # The history has it as one line with its cause, and so has the file.
    history = panel.unfold("History")
    line = history.get_by_role("listitem").filter(has_text="training.ipynb").first  # the newest
    expect(line).to_contain_text("You gave the GPU back.")
    line.scroll_into_view_if_needed()
    panel.both_looks("panel-history")
    with panel.page.expect_download() as download:
        history.get_by_role("link", name="Download as CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert any(lease in row.values() for row in rows), rows
    lab.assert_books_agree()


def test_two_people_see_who_moved_it_who_pays_and_what_they_may(lab: Lab, alice: Person, bob: Person) -> None:
    name = "shared.ipynb"
    lab.write_notebook(name, ["import os\nfirst = os.getpid()\nrows = [1, 2]", THERE])
    hers, his = Panel(alice.open(name)), Panel(bob.open(name))
    hers.tab.run_cell(1)
    hers.tab.wait_until_run(1)
    his.tab.hide()
    hers.move("T4")
    hers.answer("Close")
    his.tab.show()
    button = his.move_button(re.compile("^T4"))
    button.click()
    for panel in (his, hers):
        if panel is hers:
            panel.move_button(re.compile("^T4")).click()
        expect(panel.dialog).to_contain_text(re.compile(r"Moved by\s*alice", re.IGNORECASE))
        expect(panel.dialog).to_contain_text(re.compile(r"Time left\s*\d"))
    expect(his.dialog).to_contain_text(re.compile(r"Paid by\s*alice", re.IGNORECASE))
    expect(hers.dialog).to_contain_text(re.compile(r"Paid by\s*you", re.IGNORECASE))
    his.both_looks("move-shared")
    may = lab.place(name, "bob")["may"]
    back = his.dialog.get_by_role("button", name="Back to the CPU…")
    if may["move"]:
        expect(back).not_to_have_attribute("aria-disabled", "true")
    else:
        expect(back).to_have_attribute("aria-disabled", "true")
        expect(his.dialog).to_contain_text(may["why"])
    assert not may["extend"]
    extend = his.dialog.get_by_role("button", name="Extend…")
    assert extend.count() == 0 or extend.get_attribute("aria-disabled") == "true"
    his.dialog.get_by_role("button", name="Close", exact=True).last.click()
    his.tab.run_cell(2)
    hers.tab.wait_for_output(2, "elsewhere True 2")
    his.tab.wait_for_output(2, "elsewhere True 2")
    assert lab.query("SELECT count(*) FROM holds WHERE state = 'open'") == [(1,)], "alice alone pays"


def test_a_move_that_fails_is_said_in_words_and_costs_nothing(lab: Lab, alice: Person) -> None:
    """What the cell that still runs leaves behind can't come along, which nobody knew when the move was asked for."""
    cell = (
        "import threading, time\nkept = 7\nwhile not released.exists():\n    time.sleep(0.1)\nlock = threading.Lock()"
    )
    released = lab.work / "released"
    lab.write_notebook(
        "late.ipynb", ["import pathlib\nreleased = pathlib.Path('released')", cell, "print('still here', kept)"]
    )
    tab = alice.open("late.ipynb")
    panel = Panel(tab)
    tab.run_cell(1)
    tab.wait_until_run(1)
    tab.run_cell(2)
    tab.wait_for_kernel("busy")
    before = lab.api("me", user="alice")["balance"]
    panel.move_button("Move to a GPU").click()
    go = panel.dialog.get_by_role("button", name="Move the notebook")
    expect(go).not_to_have_attribute("aria-disabled", "true", timeout=30_000)
    go.click()
    expect(panel.dialog).to_contain_text("A cell still runs. The move begins when it has ended.")
    panel.both_looks("move-waits")
    released.touch()
    expect(panel.dialog.get_by_role("heading", name="Not moved")).to_be_visible(timeout=60_000)
    expect(panel.dialog).to_contain_text("The notebook stayed where it was, and nothing was charged for the try.")
    expect(panel.dialog.get_by_role("row", name=re.compile("lock"))).to_be_visible()
    expect(panel.dialog.get_by_role("button", name="Move all the same")).to_be_visible()
    panel.both_looks("move-failed")
    panel.answer("Close")
    tab.run_cell(3)
    tab.wait_for_output(3, "still here 7")
    assert lab.place("late.ipynb")["place"] == "cpu"
    eventually("all is released", lambda: lab.api("me", user="alice")["balance"] == before)
    lab.assert_books_agree()


def test_the_end_is_warned_of_and_put_off_by_one_click(lab: Lab, alice: Person) -> None:
    lab.write_notebook("evening.ipynb", ["kept = 7"])
    tab = alice.open("evening.ipynb")
    panel = Panel(tab)
    # Warned of ten minutes before: seconds after its start.
    wish = {"target": "gpu", "kernel_id": lab.kernel_of("evening.ipynb"), "model": "T4", "duration_seconds": 615}
    lab.api("switches", user="alice", method="POST", body=wish)
    notice = panel.told("“evening.ipynb” leaves T4 (simulated)")
    expect(panel.status).to_contain_text("ends in")
    expect(panel.move_button("ends in")).to_be_visible()
    panel.both_looks("move-ending")
    lease = lab.place("evening.ipynb")["lease"]
    notice.get_by_role("button", name="1 h more").click()
    eventually("it ends an hour later", lambda: seconds_between(lease, lab.place("evening.ipynb")["lease"]) == 3600)
    expect(notice).to_be_hidden()
    expect(panel.status).to_contain_text("left")
