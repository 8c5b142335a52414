"""What becomes of a lease when something ends: the server, the time, the patience, the tab."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually, running_lab

ON = "%gpu on T4 --for 30m --yes"


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_a_leased_kernel_survives_the_server_with_its_variables(
    tmp_path: Path, person: Callable[..., Person], how: str
) -> None:
    with running_lab(tmp_path) as lab:
        lab.write_notebook(
            "long.ipynb", ["import os\nx = 41", ON, "x += 1\nprint('there', os.getpid())", "print(x, os.getpid())"]
        )
        alice = person(lab, "alice")
        tab = alice.open("long.ipynb")
        tab.run_all()
        tab.wait_for_output(4, re.compile(r"42 \d+"))
        pid = tab.output(4).split()[1]
        before = lab.place("long.ipynb")
        alice.leave()
        lab.stop(signal.Signals[how])
        lab.start()
        eventually("the kernel is found again", lambda: lab.request("api/kernels", user="alice"))
        after = lab.place("long.ipynb")
        assert after["kernel_id"] == before["kernel_id"]
        assert after["lease"]["id"] == before["lease"]["id"]
        assert after["lease"]["state"] == "running"
        alice = person(lab, "alice")
        tab = alice.open("long.ipynb")
        tab.type_into(4, "print(x, os.getpid(), 'again')")
        tab.run_cell(4)
        tab.wait_for_output(4, f"42 {pid} again")
        lab.assert_books_agree()
        alice.leave()


def test_closing_the_tab_keeps_the_lease_until_it_is_idle(tmp_path: Path, person: Callable[..., Person]) -> None:
    """Nobody looks on: the notebook goes back by itself, with its variables, and the rest of the money is released."""
    with running_lab(tmp_path, idle_timeout_seconds=60) as lab:
        lab.write_notebook("idle.ipynb", ["kept = 'through it all'", ON, "print('there')", "print(kept)"])
        alice = person(lab, "alice")
        tab = alice.open("idle.ipynb")
        tab.run_all()
        tab.wait_for_output(4, "through it all")
        lease = lab.place("idle.ipynb")["lease"]["id"]
        alice.leave()
        assert lab.api(f"leases/{lease}", user="alice")["state"] == "running"
        eventually("the idle GPU is given back", lambda: lab.place("idle.ipynb")["place"] == "cpu", within_seconds=120)
        assert lab.closed_lease(lease)["end_reason"] == "idle"
        assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
        alice = person(lab, "alice")
        tab = alice.open("idle.ipynb")
        tab.type_into(4, "print('still', kept)")
        tab.run_cell(4)
        tab.wait_for_output(4, "still through it all")
        lab.assert_books_agree()
        alice.leave()


def test_when_the_time_is_up_the_closing_reserve_moves_the_notebook_back(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    # Of the shortest lease, five minutes, all but twenty seconds are reserve.
    with running_lab(tmp_path, closing_reserve_seconds=280) as lab:
        lab.write_notebook(
            "late.ipynb",
            [
                "import os, time\nfirst = os.getpid()\nsteps = []",
                "%gpu on T4 --for 5m --yes",
                "there = os.getpid()\nwhile True:\n    steps.append(1)\n    time.sleep(0.1)",
                "print('back', os.getpid() not in (first, there), len(steps) > 20)",
            ],
        )
        alice = person(lab, "alice")
        tab = alice.open("late.ipynb")
        tab.run_all()
        tab.wait_for_output(2, "This notebook is on a T4 (simulated) now")
        lease = lab.place("late.ipynb")["lease"]["id"]
        eventually("the notebook is moved back", lambda: lab.place("late.ipynb")["place"] == "cpu", within_seconds=90)
        tab.wait_for_output(3, "KeyboardInterrupt")
        assert lab.closed_lease(lease)["end_reason"] == "time_up"
        tab.wait_for_kernel()
        tab.run_cell(4)
        tab.wait_for_output(4, "back True True")
        tab.screenshot("time-up")
        lab.assert_books_agree()
        alice.leave()


def test_a_kernel_that_dies_on_the_gpu_closes_its_lease_and_says_so(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    name = notebook(ON, "import os, signal\nprint('there', flush=True)", "os.kill(os.getpid(), signal.SIGKILL)")
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(2, "there")

    def ended() -> bool:
        leases = lab.api("leases", user="alice")["items"]
        return bool(leases and leases[0]["state"] == "closed" and leases[0]["end_reason"] == "kernel_died")

    eventually("the lease is settled", ended, within_seconds=60)
    assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
    lab.assert_books_agree()
    tab.errors.clear()  # JupyterLab tells of a dead kernel on the console as well


def test_shut_down_in_the_menu_ends_the_lease(tmp_path: Path, person: Callable[..., Person]) -> None:
    with running_lab(tmp_path) as lab:
        lab.write_notebook("last.ipynb", [ON, "print('there')"])
        alice = person(lab, "alice")
        tab = alice.open("last.ipynb")
        tab.run_all()
        tab.wait_for_output(2, "there")
        alice.leave()
        started = time.monotonic()
        lab.shut_down()
        assert time.monotonic() - started < 30
        assert lab.query("SELECT state, end_reason FROM leases") == [("closed", "server_stopped")]
        assert lab.query("SELECT count(*) FROM holds WHERE state = 'open'") == [(0,)]
        lab.assert_books_agree()
