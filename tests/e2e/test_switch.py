"""A notebook goes to a GPU kernel and comes back, as a person sees it in the browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually

ON = "%gpu on T4 --for 30m --yes"
ON_GPU = "This notebook is on a T4 (simulated) now"
ON_CPU = "This notebook is on the CPU now"


def ten_cells() -> list[str]:
    return [
        "import os\nfirst = os.getpid()\ntrail = []\ndata = list(range(1000))\nprint('on the CPU')",
        f"{ON}\nprint('still the first kernel:', os.getpid() == first)",
        *[f"trail.append(os.getpid())\nprint('cell {n}', len(data), trail[-1] != first)" for n in range(3, 10)],
        "print('one kernel:', len(set(trail)) == 1 and len(trail) == 7)",
    ]


def test_run_all_with_gpu_on_in_the_second_of_ten_cells(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(*ten_cells())
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(10, "one kernel: True")
    tab.wait_for_output(2, ON_GPU)
    assert "still the first kernel: True" in tab.output(2)
    assert tab.output(1) == "on the CPU"
    for number in range(3, 10):
        assert tab.output(number) == f"cell {number} 1000 True"
    assert [tab.prompt(number) for number in range(1, 11)] == [f"[{number}]:" for number in range(1, 11)]

    place = lab.place(name)
    assert place["place"] == "gpu"
    assert place["lease"]["state"] == "running"
    assert lab.query("SELECT state FROM leases WHERE id = ?", place["lease"]["id"]) == [("running",)]
    tab.cell(2).scroll_into_view_if_needed()
    tab.screenshot("switch-done")
    tab.screenshot("switch-done-dark", dark=True)


def test_off_brings_the_variables_back_and_releases_the_rest(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    name = notebook(
        "import os\nfirst = os.getpid()\nrows = [[1, 2], [3, 4]]\nalias = rows[0]\n"
        "def total(): return sum(map(sum, rows))",
        ON,
        "there = os.getpid()\nalias.append(10)\nprint(total())",
        "%gpu off --yes",
        "print(total(), alias is rows[0], os.getpid() not in (first, there))",
        "%gpu",
    )
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(6, "This notebook runs on the CPU")
    tab.wait_for_output(4, ON_CPU)
    assert tab.output(3) == "20"
    assert tab.output(5) == "20 True True"

    assert lab.place(name)["place"] == "cpu"
    lease = lab.closed_lease(lab.api("leases", user="alice")["items"][0]["id"])
    assert lease["end_reason"] == "returned"
    assert lab.api("me", user="alice")["balance"]["held_microcredits"] == 0
    assert 0 < lease["cost_microcredits"] < 100_000, "seconds of a T4 cost a fraction of a credit"
    lab.assert_books_agree()


def test_the_preview_names_what_cannot_come_along(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(
        "import threading\nlock = threading.Lock()\nnumbers = list(range(10))", "%gpu on T4 --for 30m", "print(numbers)"
    )
    tab = alice.open(name)
    tab.run_cell(1)
    tab.wait_until_run(1)
    tab.run_cell(2)
    tab.wait_for_output(2, "lock")
    question = tab.cell(2).locator(".jp-Stdin-input")
    expect(question).to_be_visible(timeout=30_000)
    tab.screenshot("preview")
    question.fill("n")
    question.press("Enter")
    tab.wait_for_output(2, "Not switched")
    assert lab.place(name)["place"] == "cpu"
    tab.run_cell(3)
    tab.wait_for_output(3, "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")


def test_nothing_free_stops_run_all_with_the_reason(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    taken = lab.api("bookings", user="bob", method="POST", body={"model": "V100", "duration_seconds": 1800})
    name = notebook("x = 1", "%gpu on V100 --for 30m --yes", "print('must not run')", "print('nor this')")
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(2, re.compile(r"No V100 is free"))
    shown = tab.output(2)
    assert "%gpu book" in shown, "the earliest slots are one command away"
    assert "A100" in shown, "and so is the next best model"
    tab.wait_for_kernel()
    assert tab.output(3) == ""
    assert tab.output(4) == ""
    assert lab.place(name)["place"] == "cpu"
    tab.screenshot("nothing-free")
    lab.api(f"bookings/{taken['id']}/cancel", user="bob", method="POST")


def test_stdin_works_on_the_gpu_kernel(alice: Person, notebook: Callable[..., str]) -> None:
    tab = alice.open(notebook(ON, "name = input('who? ')\nprint('hello', name)"))
    tab.run_all()
    question = tab.cell(2).locator(".jp-Stdin-input")
    expect(question).to_be_visible(timeout=60_000)
    question.fill("Ada")
    question.press("Enter")
    tab.wait_for_output(2, "hello Ada")


def test_widgets_work_on_the_gpu_kernel(alice: Person, notebook: Callable[..., str]) -> None:
    tab = alice.open(
        notebook(
            ON,
            "import ipywidgets\nclicks = []\nbutton = ipywidgets.Button(description='Count me')\n"
            "label = ipywidgets.Label('none yet')\n"
            "def count(_):\n    clicks.append(1)\n    label.value = f'{len(clicks)} clicks'\n"
            "button.on_click(count)\nipywidgets.VBox([button, label])",
            "print('clicked', len(clicks))",
        )
    )
    tab.run_cell(1)
    tab.wait_for_output(1, ON_GPU)
    tab.run_cell(2)
    button = tab.cell(2).get_by_role("button", name="Count me")
    expect(button).to_be_visible(timeout=30_000)
    button.click()
    tab.wait_for_output(2, "1 clicks")
    button.click()
    tab.wait_for_output(2, "2 clicks")
    tab.run_cell(3)
    tab.wait_for_output(3, "clicked 2")


def test_interrupt_and_restart_reach_the_gpu_kernel(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(
        "kept = 1",
        ON,
        "import os, time\nprint('process', os.getpid())\nfor _ in range(3000): time.sleep(0.1)",
        "import os\nprint('process', os.getpid(), 'kept' in globals())",
    )
    tab = alice.open(name)
    tab.run_all()
    before = tab.wait_for_output(3, re.compile(r"process \d+"))
    tab.menu("Kernel", "Interrupt Kernel")
    tab.wait_for_output(3, "KeyboardInterrupt")
    tab.wait_for_kernel()
    lease = lab.place(name)["lease"]["id"]

    tab.menu("Kernel", "Restart Kernel")
    tab.page.get_by_role("dialog").locator(".jp-mod-accept").click()
    eventually("the kernel restarted on its lease", lambda: lab.place(name)["place"] == "gpu")
    tab.wait_for_kernel()
    tab.run_cell(4)
    after = tab.wait_for_output(4, re.compile(r"process \d+ False"))
    assert after.split()[1] != before.split()[1]
    assert lab.place(name)["lease"]["id"] == lease, "a restart keeps the lease"


def test_two_browsers_go_along_one_of_them_hidden(
    lab: Lab, alice: Person, bob: Person, notebook: Callable[..., str]
) -> None:
    name = notebook("import os\nfirst = os.getpid()", ON, "print('elsewhere', os.getpid() != first)", "print(first)")
    hers, his = alice.open(name), bob.open(name)
    his.hide()
    hers.run_all()
    hers.wait_for_output(3, "elsewhere True")
    his.wait_for_output(3, "elsewhere True")
    his.wait_for_output(2, ON_GPU)
    his.show()
    his.type_into(4, "print('also here', os.getpid() != first)")
    his.run_cell(4)
    his.wait_for_output(4, "also here True")
    hers.wait_for_output(4, "also here True")
    place = lab.place(name, "bob")
    assert (place["payer"]["username"], place["moved_by"]["username"], place["is_mine"]) == ("alice", "alice", False)
    assert "balance" not in str(place), "what Alice has is not shown to Bob"
    assert not any(place["may"][act] for act in ("move", "extend", "shorten", "end")), place["may"]


def test_notebook_7_goes_along(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook("import os\nfirst = os.getpid()", ON, "print('elsewhere', os.getpid() != first)", "%gpu off --yes")
    tab = alice.open(name, app="notebooks")
    tab.run_all()
    tab.wait_for_output(3, "elsewhere True")
    tab.wait_for_output(4, ON_CPU)
    tab.screenshot("notebook-7")


def test_shutting_the_kernel_down_ends_the_lease(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    name = notebook(ON, "print('there')")
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(2, "there")
    lease = lab.place(name)["lease"]["id"]
    tab.menu("Kernel", "Shut Down Kernel")
    eventually("the lease is closed", lambda: lab.api(f"leases/{lease}", user="alice")["state"] == "closed")
    assert lab.api(f"leases/{lease}", user="alice")["end_reason"] == "kernel_shut_down"


def test_a_notebook_that_names_the_gpu_kernel_starts_nothing_unpaid(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    spec = {"name": "computehub-gpu", "display_name": "Python 3 (ComputeHub GPU)", "language": "python"}
    name = notebook("print(1)", kernelspec=spec)
    lab.api("me", user="alice")  # opens the control plane, and with it the database
    before = lab.query("SELECT count(*) FROM leases")
    tab = alice.open(name, wait=False)
    dialog = tab.page.get_by_role("dialog")
    expect(dialog).to_contain_text("needs a GPU lease, so nothing was started or charged", timeout=60_000)
    expect(dialog).to_contain_text("the magic command “gpu on”")  # Tornado would double a percent sign
    tab.screenshot("no-lease")
    assert lab.query("SELECT count(*) FROM leases") == before
    tab.errors.clear()  # the refused start is an error in the console as well, and is meant to be
