"""What worked before ComputeHub works with it: notebooks that never ask for a GPU."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.browser import Person


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
