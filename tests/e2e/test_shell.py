"""The same words in a shell and in cells, on one real server: what one does, the other sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

from tests.e2e.browser import Person
from tests.e2e.lab import ROOT, Lab


def shell(lab: Lab, user: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COMPUTEHUB_TOKEN": lab.users[user], "TZ": "Europe/Berlin"}
    command = [sys.executable, "-m", "computehub_ext.cli", "gpu", "--url", lab.url, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_notebook_is_moved_from_a_shell(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(
        "import os\nfirst = os.getpid()\nkept = ['all']", "print(kept, os.getpid() != first)", "print(kept, 'again')"
    )
    tab = alice.open(name)
    tab.run_cell(1)
    tab.wait_until_run(1)
    assert "T4 (simulated)" in shell(lab, "alice", "offers")
    said = shell(lab, "alice", "--notebook", name, "on", "T4", "--for", "30m", "--yes")
    assert "This notebook is on a T4 (simulated) now" in said
    tab.run_cell(2)
    tab.wait_for_output(2, "['all'] True")
    before = lab.place(name)["lease"]
    shell(lab, "alice", "--notebook", name, "extend", "15m")
    after = lab.place(name)["lease"]
    assert after["ends_at"] > before["ends_at"]
    assert after["held_microcredits"] > before["held_microcredits"]
    assert "T4 (simulated)" in shell(lab, "alice", "--notebook", name)
    assert "on the CPU now" in shell(lab, "alice", "--notebook", name, "off", "--yes")
    tab.run_cell(3)
    tab.wait_for_output(3, "['all'] again")
    assert "charged" in shell(lab, "alice", "history")
    lab.assert_books_agree()


def test_every_word_answers_in_a_cell(lab: Lab, bob: Person, notebook: Callable[..., str]) -> None:
    words = [
        "",
        "offers",
        "balance",
        'book A100 "tomorrow 14:00" --for 1h',
        "bookings",
        "estimate T4 --for 2h",
        "history",
    ]
    name = notebook(*[f"%gpu {word}".strip() for word in words], "%gpu of", "%gpu --help")
    tab = bob.open(name)
    for number in range(1, len(words) + 1):
        tab.run_cell(number)
        tab.wait_until_run(number)
    expected = ["on the CPU", "T4 (simulated)", "10.00", "14:00", "14:00", "2.00", "granted"]
    for number, text in enumerate(expected, start=1):
        tab.wait_for_output(number, text)
    tab.run_cell(8)
    tab.wait_for_output(8, re.compile(r"did you mean .*%gpu off"))
    tab.run_cell(9)
    tab.wait_for_output(9, "--max-price")
    booking = lab.api("bookings", user="bob")["items"][0]
    assert booking["state"] in ("held", "confirmed")
    assert lab.api("me", user="bob")["balance"]["held_microcredits"] == 4_000_000
    said = shell(lab, "bob", "cancel", booking["id"])
    assert "cancel" in said.lower()
    assert lab.api("me", user="bob")["balance"]["held_microcredits"] == 0


def test_staying_longer_and_shorter_from_a_cell(lab: Lab, bob: Person, notebook: Callable[..., str]) -> None:
    name = notebook("%gpu on T4 --for 30m --yes", "%gpu extend 30m", "%gpu shorten 45m", "print('done')")
    tab = bob.open(name)
    tab.run_all()
    tab.wait_for_output(4, "done")
    held = lab.place(name, "bob")["lease"]["held_microcredits"]
    assert 200_000 < held <= 300_000, "about a quarter of an hour is still on hold"
