"""Instances of classes from cells that pickle would make through code of the class which is not ready for that.

Pickle calls ``__new__`` with fewer arguments than it may want, and asks an instance that has no attributes yet for
``__setstate__``, which a ``__getattr__`` may answer with endless recursion. Here neither is asked: what they had done
is in the instance's state.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable
from typing import Any

from .functions import by_name

_NEW_OBJECT = copyreg.__newobj__  # type: ignore[attr-defined]


def reducer_for(kind: Any) -> Callable[[Any, Any], Any] | None:
    """How to carry instances of this type, or None where pickle's own way is right."""
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        return None
    base = _builtin_base(kind) if _made_by_the_user(kind) else None
    answering = hasattr(kind, "__getattr__") and not hasattr(kind, "__setstate__")
    if base is None and not answering:
        return None

    def reduce_instance(carrier: Any, value: Any) -> Any:
        made, arguments, state, items, pairs = (*value.__reduce_ex__(5), None, None, None)[:5]
        if base is not None and made is _NEW_OBJECT:
            made, arguments = make_bare, (arguments[0], base, arguments[1:])
        if state is None or not answering:
            return made, arguments, state, items, pairs
        return made, arguments, state, items, pairs, set_state

    return reduce_instance


def _made_by_the_user(kind: Any) -> bool:
    """Whether ``__new__`` comes from a cell, and says nothing to pickle about its arguments."""
    owner = next(cls for cls in kind.__mro__ if "__new__" in cls.__dict__)
    if not isinstance(kind.__new__, types.FunctionType) or by_name(owner):
        return False
    told = (getattr(kind, name, None) for name in ("__getnewargs__", "__getnewargs_ex__"))
    return not any(isinstance(tells, types.FunctionType) for tells in told)


def _builtin_base(kind: Any) -> Any:
    return next(cls for cls in kind.__mro__ if isinstance(cls.__dict__.get("__new__"), types.BuiltinFunctionType))


# --- the other halves


def make_bare(kind: Any, base: Any, arguments: tuple[Any, ...]) -> Any:
    return base.__new__(kind, *arguments)


def set_state(made: Any, state: Any) -> None:
    """As pickle does for who has no ``__setstate__``."""
    contents, slots = state if isinstance(state, tuple) else (state, None)
    if contents:
        object.__getattribute__(made, "__dict__").update(contents)
    for name, value in (slots or {}).items():
        object.__setattr__(made, name, value)
