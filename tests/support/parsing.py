"""Parses again what an old interpreter failed to parse for no reason of the source's.

CPython 3.11 before 3.11.8 counts for the whole interpreter, not for each thread, how deep the syntax tree is that it
builds (python/cpython#106905). When the garbage collector runs meanwhile, and a callback of it lets another thread in
that parses too, ``ast.parse`` raises a SystemError about a mismatch. Hypothesis has such a callback and parses the
source of its tests, as pytest does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

IS_AFFECTED = (3, 11) <= sys.version_info < (3, 11, 8)
ATTEMPTS_MAX = 5


def patient(parse: Callable[..., Any]) -> Callable[..., Any]:
    """Try ``parse`` again after this one error; any other is raised as it is, and this one too when it stays."""

    @wraps(parse)
    def parse_again(*arguments: Any, **named: Any) -> Any:
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return parse(*arguments, **named)
            except SystemError as error:
                if "recursion depth mismatch" not in str(error):
                    raise
        return parse(*arguments, **named)

    return parse_again


if IS_AFFECTED:
    ast.parse = patient(ast.parse)
