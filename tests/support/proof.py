"""docs/proof.md: a table with a row for each promise, what shows it, on which real component, and its state.

``python -m tests.support.proof`` runs after pytest and fails where a row is called proven and its test did not pass in
this run. That the named tests and pictures exist is a test of its own (tests/architecture/test_proof.py).
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import records

TABLE = records.ROOT / "docs" / "proof.md"
STATES = ("proven", "unproven")


@dataclass(frozen=True)
class Row:
    """One promise. ``shown_by`` holds test ids (``tests/x.py::test_y``) and pictures (``images/z.png``)."""

    number: int
    promise: str
    shown_by: tuple[str, ...]
    component: str
    state: str
    """``proven``, or ``unproven: why``."""

    @property
    def tests(self) -> tuple[str, ...]:
        return tuple(name for name in self.shown_by if "::" in name)

    @property
    def pictures(self) -> tuple[str, ...]:
        return tuple(name for name in self.shown_by if "::" not in name)


def rows(table: Path = TABLE) -> list[Row]:
    found = []
    for number, line in enumerate(table.read_text().splitlines(), start=1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 4 or cells[0] == "Promise" or set(cells[0]) <= set("-: "):
            continue
        found.append(Row(number, cells[0], tuple(re.findall(r"`([^`]+)`", cells[1])), cells[2], cells[3]))
    return found


def exists(test_id: str) -> bool:
    """Whether the file holds that test, in that class where one is named.

    A class that extends another may inherit the test, and ``TestX = Machine.TestCase`` has hypothesis's ``runTest``:
    of those only the class is looked for, and the run itself is the witness.
    """
    path, *names = test_id.split("[")[0].split("::")
    file = records.ROOT / path
    if not file.is_file():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    inherits = False
    for name in names:
        found = next((node for node in body if name in _names(node)), None)
        if found is None:
            return inherits
        body = getattr(found, "body", [])
        inherits = isinstance(found, ast.Assign) or bool(getattr(found, "bases", []))
    return True


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []


def problems() -> list[str]:
    outcomes = records.read_outcomes()
    not_run = records.read_not_run()
    found = []
    for row in rows():
        if not row.state.startswith("proven"):
            continue
        for test_id in row.tests:
            # A parametrised test stands for all of its cases.
            cases = [word for nodeid, word in outcomes.items() if nodeid == test_id or nodeid.startswith(test_id + "[")]
            if not cases:
                lacking = next((why for nodeid, why in not_run.items() if nodeid.startswith(test_id)), None)
                if lacking is None:
                    found.append(f"docs/proof.md:{row.number}: {test_id} did not run")
                else:
                    print(f"docs/proof.md:{row.number}: {test_id} was not run here: needs {lacking}")
            elif any(word != "passed" for word in cases):
                found.append(f"docs/proof.md:{row.number}: {test_id} did not pass")
    return found


def main() -> int:
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    table = rows()
    unproven = [row for row in table if not row.state.startswith("proven")]
    print(f"proof: {len(table) - len(unproven)} promises proven, {len(unproven)} not, {len(found)} problems")
    for row in unproven:
        print(f"  unproven: {row.promise} ({row.state.partition(':')[2].strip() or 'no reason given'})")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
