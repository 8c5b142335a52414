"""The table of guards is kept up to date; `make mutants` runs it."""

from __future__ import annotations

import pytest

from tests.architecture.source import ROOT
from tests.mutants.table import MUTANTS, Mutant
from tests.support import proof


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_guard_and_its_test_are_still_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1, f"{mutant.file} no longer reads {mutant.old!r}"
    assert mutant.new != mutant.old
    assert proof.exists(mutant.test), f"{mutant.test} is gone"
