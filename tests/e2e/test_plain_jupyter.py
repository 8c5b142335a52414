"""What worked before ComputeHub works with it: notebooks that never ask for a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.browser import Person
from tests.e2e.lab import eventually, running_lab


def test_cells_run_and_the_console_stays_clean(alice: Person, notebook: Callable[..., str]) -> None:
    tab = alice.open(notebook("x = 20 + 1", "print('twice', 2 * x)", "x"))
    tab.run_all()
    tab.wait_for_output(2, "twice 42")
    tab.wait_for_output(3, "21")
    tab.assert_clean_console()


def test_two_people_see_one_notebook(alice: Person, bob: Person, notebook: Callable[..., str]) -> None:
    name = notebook("who = 'alice ran this'", "print(who)")
    hers = alice.open(name)
    his = bob.open(name)
    hers.run_all()
    hers.wait_for_output(2, "alice ran this")
    his.wait_for_output(2, "alice ran this")
    his.type_into(2, "print(who.replace('alice', 'bob'))")
    his.run_cell(2)
    his.wait_for_output(2, "bob ran this")
    hers.wait_for_output(2, "bob ran this")


def test_notebooks_open_as_before_once_computehub_is_gone(tmp_path: Path, person: Callable[..., Person]) -> None:
    """A notebook that was on a GPU and saved there names no kernel of ours, and runs on a server without us."""
    cells = ["x = 6", "%gpu on T4 --for 30m --yes", "x *= 7\nprint('there', x)"]
    with running_lab(tmp_path) as lab:
        lab.write_notebook("travelled.ipynb", cells)
        alice = person(lab, "alice")
        tab = alice.open("travelled.ipynb")
        tab.run_all()
        tab.wait_for_output(3, "there 42")
        tab.menu("File", "Save Notebook")
        eventually("the notebook is saved", lambda: "there 42" in (lab.work / "travelled.ipynb").read_text())
        alice.leave()
    saved = json.loads((tmp_path / "work" / "travelled.ipynb").read_text())
    assert saved["metadata"]["kernelspec"]["name"] == "python3"
    assert "computehub" not in json.dumps(saved["metadata"])

    with running_lab(tmp_path, installed=False) as lab:
        alice = person(lab, "alice")
        tab = alice.open("travelled.ipynb")
        assert "there 42" in tab.output(3), "outputs stay"
        tab.run_cell(1)
        tab.type_into(3, "print('plain', x + 1)")
        tab.run_cell(3)
        tab.wait_for_output(3, "plain 7")
        alice.leave()


def test_notebook_7_itself(tmp_path: Path, person: Callable[..., Person]) -> None:
    """What NOTEBOOK_7_ERRORS forgives is there without ComputeHub too."""
    with running_lab(tmp_path, installed=False) as lab:
        lab.write_notebook("plain.ipynb", ["print(6 * 7)"])
        alice = person(lab, "alice")
        tab = alice.open("plain.ipynb", app="notebooks")
        tab.run_all()
        tab.wait_for_output(1, "42")
        alice.leave()
