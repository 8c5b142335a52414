"""Functions and modules: those of an importable module by name, those made in cells by value, with their globals.

A function's globals are one of three: the user's namespace (at the target, the target's), a module that can be
imported, or a dictionary of its own (a script that was run, code that was exec'd), of which what it uses comes along.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import types
from typing import Any

from .bytecode import global_names

_ATTRIBUTES = ("__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__type_params__")
_MODULE_OWN = frozenset({"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtins__"})


class Globals:
    """Stands for one dictionary of globals in the stream."""

    def __init__(self, namespace: dict[str, Any], kind: str, name: str | None) -> None:
        self.namespace = namespace
        self.kind = kind
        self.name = name

    def __reduce__(self) -> Any:
        if self.kind == "user":
            return user_globals, ()
        if self.kind == "module":
            return module_globals, (self.name,)
        return own_globals, (self.name,)


class Cell:
    """Stands for a closure's cell, empty: its contents come after the function, which they may contain."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def __reduce__(self) -> Any:
        return empty_cell, ()


def by_name(value: Any) -> bool:
    """Whether importing the module and following the qualified name gives this very object."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None or module.__name__ in ("__main__", "__mp_main__") or not importable(module):
        return False
    found: Any = module
    for part in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, part, None)
        if found is None:
            return False
    return found is value


def importable(module: types.ModuleType) -> bool:
    return getattr(module, "__spec__", None) is not None or module.__name__ in sys.builtin_module_names


def reduce_function(carrier: Any, function: types.FunctionType) -> Any:
    if by_name(function):
        carrier.needs(function.__module__)
        return NotImplemented
    code = function.__code__
    globals_ = carrier.globals_of(function)
    names = global_names(code)
    cells = {name: carrier.cell(cell) for name, cell in _pairs(code.co_freevars, function.__closure__ or ())}
    state: dict[str, Any] = {
        "cells": [(proxy, proxy.cell.cell_contents) for proxy in cells.values() if _full(proxy.cell)],
        "dict": dict(function.__dict__),
    }
    if globals_.kind == "user":
        carrier.uses(names)
    elif globals_.kind == "own":
        state["globals"] = {name: globals_.namespace[name] for name in sorted(names & globals_.namespace.keys())}
    for name in _ATTRIBUTES:
        value = getattr(function, name, None)
        if value is not None and value != ():
            state[name] = value
    annotations = _annotations(function)
    if annotations:
        state["__annotations__"] = annotations
    return make_function, (code, globals_, function.__name__, cells), state, None, None, fill_function


def _pairs(names: tuple[str, ...], cells: tuple[Any, ...]) -> list[tuple[str, Any]]:
    return [(name, cells[index]) for index, name in enumerate(names)]


def _full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (asking is how one knows)
    except ValueError:
        return False
    return True


def _annotations(function: types.FunctionType) -> dict[str, Any] | None:
    try:
        return dict(function.__annotations__)
    except Exception:
        return None  # evaluated when asked for, on newer Pythons, and naming something that is gone


def reduce_cell(carrier: Any, cell: types.CellType) -> Any:
    """A cell that the user holds as such."""
    if not _full(cell):
        return same, (carrier.cell(cell),)
    return same, (carrier.cell(cell),), (cell.cell_contents,), None, None, fill_cell


def reduce_method(carrier: Any, method: types.MethodType) -> Any:
    return types.MethodType, (method.__func__, method.__self__)


def reduce_module(carrier: Any, module: types.ModuleType) -> Any:
    name = module.__name__
    if name == "__main__" or module is sys.modules.get("__main__"):
        return main_module, ()
    if name in sys.modules and importable(module):
        carrier.needs(name)
        return importlib.import_module, (name,)
    # Made by hand: there is nothing to import it from, so it comes along with what is in it.
    contents = {key: value for key, value in vars(module).items() if key not in _MODULE_OWN}
    return types.ModuleType, (name, module.__doc__), contents, None, None, fill_module


# --- the other halves


def user_globals() -> dict[str, Any]:
    from .place import current

    return current().namespace


def module_globals(name: str) -> dict[str, Any]:
    return importlib.import_module(name).__dict__


def own_globals(name: str | None) -> dict[str, Any]:
    return {"__builtins__": builtins, "__name__": name}


def empty_cell() -> types.CellType:
    return types.CellType()


def same(value: Any) -> Any:
    return value


def fill_cell(made: types.CellType, state: tuple[Any]) -> None:
    made.cell_contents = state[0]


def make_function(code: types.CodeType, namespace: dict[str, Any], name: str, cells: dict[str, Any]) -> Any:
    # By name: another Python may keep the free variables in another order, or more of them.
    closure = tuple([cells.get(variable) or types.CellType() for variable in code.co_freevars])
    return types.FunctionType(code, namespace, name, None, closure or None)


def fill_function(made: types.FunctionType, state: dict[str, Any]) -> None:
    for cell, contents in state.pop("cells"):
        cell.cell_contents = contents
    for name, value in state.pop("globals", {}).items():
        made.__globals__.setdefault(name, value)
    made.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        if name != "__type_params__" or sys.version_info >= (3, 12):
            setattr(made, name, value)


def main_module() -> types.ModuleType:
    return sys.modules["__main__"]


def fill_module(made: types.ModuleType, contents: dict[str, Any]) -> None:
    made.__dict__.update(contents)
