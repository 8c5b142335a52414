"""What the tests' own help does on an interpreter with a fault."""

from __future__ import annotations

import pytest

from tests.support.parsing import ATTEMPTS_MAX, patient

MISMATCH = SystemError("AST constructor recursion depth mismatch (before=33, after=192)")


@pytest.mark.parametrize(
    ("errors", "attempts"),
    [
        ([MISMATCH] * (ATTEMPTS_MAX - 1), ATTEMPTS_MAX),
        ([MISMATCH] * ATTEMPTS_MAX, ATTEMPTS_MAX),
        ([SystemError("another")], 1),
        ([SyntaxError("not Python")], 1),
    ],
)
def test_only_the_interpreters_own_fault_is_tried_again(errors: list[Exception], attempts: int) -> None:
    asked = []

    def parse(source: str) -> str:
        asked.append(source)
        if len(asked) <= len(errors):
            raise errors[len(asked) - 1]
        return "a tree"

    if len(errors) < attempts:
        assert patient(parse)("x") == "a tree"
    else:
        with pytest.raises(type(errors[-1]), match=str(errors[-1]).split(" (")[0]):
            patient(parse)("x")
    assert len(asked) == attempts
