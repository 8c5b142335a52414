"""The guards whose removal a test must notice. Add a row with each new one.

``old`` stands exactly once in the file; ``new`` is the same without the guard. A row goes out of date loudly: a quick
test of every `make test` looks for each text and each test.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    name: str
    """What goes wrong without the guard."""
    file: str
    old: str
    new: str
    test: str


MUTANTS: tuple[Mutant, ...] = ()
