"""Code objects: by marshal to the same minor version of Python, compiled again from their cell's source to another."""

from __future__ import annotations

import dis
import functools
import importlib.util
import linecache
import marshal
import types
from collections.abc import Iterator
from typing import Any

from .names import StateError
from .place import current

_GLOBAL_OPERATIONS = frozenset(
    {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
)
# What `from __future__ import …` leaves on a code object, all of them.
_FUTURES = 0x3FF0000
# Cells may hold `await` at their top level.
_TOP_LEVEL_AWAIT = 0x2000
# Which version of Python marshalled a code object.
MAGIC = importlib.util.MAGIC_NUMBER
# Longer files are not a cell.
SOURCE_LENGTH_MAX = 1 << 20


@functools.lru_cache(maxsize=8192)
def global_names(code: types.CodeType) -> frozenset[str]:
    """The globals that this code and the code inside it ask for."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in _GLOBAL_OPERATIONS}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= global_names(constant)
    return frozenset(found)


def source_of(filename: str) -> str | None:
    """The text that a code object was compiled from: a cell's, or a file's."""
    text = "".join(linecache.getlines(filename))
    return text if 0 < len(text) <= SOURCE_LENGTH_MAX else None


def reduce_code(carrier: Any, code: types.CodeType) -> Any:
    carrier.uses_source(code)
    return make_code, (MAGIC, marshal.dumps(code), outline(code))


def make_code(magic: bytes, marshalled: bytes, wanted: tuple[Any, ...]) -> types.CodeType:
    """The other half. Raises StateError where it can't be had on this Python."""
    if magic == importlib.util.MAGIC_NUMBER:
        code: types.CodeType = marshal.loads(marshalled)
        return code
    return recompiled(wanted)


def outline(code: types.CodeType) -> tuple[Any, ...]:
    """What tells this code object from its neighbours in the same source, on any version."""
    return (
        code.co_filename,
        code.co_name,
        code.co_firstlineno,
        code.co_flags & _FUTURES,
        code.co_varnames[: code.co_argcount + code.co_kwonlyargcount],
        tuple(sorted(code.co_freevars)),
        # Constants tell two lambdas on one line apart; those of other types differ between versions.
        tuple(sorted(repr(constant) for constant in code.co_consts if isinstance(constant, (int, float, str)))),
        tuple(sorted(code.co_names)),
    )


def recompiled(wanted: tuple[Any, ...]) -> types.CodeType:
    filename, name, line, futures = wanted[:4]
    source = current().sources.get(filename)
    if source is None:
        raise StateError(f"the source of {name!r} is not known, and it was compiled by another version of Python")
    try:
        whole = compile(source, filename, "exec", futures | _TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        raise StateError(f"{name!r} does not compile on this version of Python: {error}") from error
    candidates = [code for code in _nested(whole) if code.co_name == name and code.co_firstlineno == line]
    # From the loosest to the strictest likeness: stop where one is left.
    for depth in range(5, len(wanted) + 1):
        alike = [code for code in candidates if outline(code)[4:depth] == wanted[4:depth]]
        if not alike:
            break
        candidates = alike
    bodies = {(code.co_code, code.co_consts, code.co_names) for code in candidates}
    if len(bodies) != 1:
        raise StateError(f"{name!r} can't be told from its neighbours on line {line} of its cell on this Python")
    return candidates[0]


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _nested(constant)
