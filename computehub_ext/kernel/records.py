"""Dataclasses and named tuples: what ``dataclass`` and ``namedtuple`` generated has no source, and is generated again.

Named tuples always are. A dataclass's methods travel as code to the same minor version of Python, which keeps what the
user changed about them, and are generated again by another one.
"""

from __future__ import annotations

import collections
import dataclasses
import inspect
import types
from typing import Any

_NAMED_TUPLE_OWN = frozenset(
    [
        "__new__",
        "_make",
        "_replace",
        "__replace__",
        "__repr__",
        "_asdict",
        "__getnewargs__",
        "_field_defaults",
        "_fields",
    ]
) | {"__slots__", "__match_args__", "_fields_defaults", "__module__", "__qualname__"}
_GENERATED = frozenset(
    ["__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__", "__delattr__"]
)
_PARAMETERS = ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
_FIELD_OPTIONS = ("default", "default_factory", "init", "repr", "hash", "compare", "kw_only")


def is_named_tuple(cls: Any) -> bool:
    """A class that ``namedtuple`` or ``NamedTuple`` made, not one that inherits from such a class."""
    return (
        cls.__bases__ == (tuple,)
        and isinstance(cls.__dict__.get("_fields"), tuple)
        and isinstance(cls.__dict__.get("_make"), classmethod)
        and "_field_defaults" in cls.__dict__
    )


def reduce_named_tuple(carrier: Any, cls: Any) -> Any:
    defaults = [cls._field_defaults[name] for name in cls._fields if name in cls._field_defaults]
    skipped = _NAMED_TUPLE_OWN | {"__dict__", "__weakref__"}
    # A field's descriptor is made again; its text may be the user's.
    texts = {name: cls.__dict__[name].__doc__ for name in cls._fields if name in cls.__dict__}
    attributes = {
        name: value for name, value in vars(cls).items() if name not in skipped and name not in cls._fields
    }  # methods that the user wrote, annotations, the text
    for name in ("__repr__", "__new__"):
        if _written(cls.__dict__.get(name)):
            attributes[name] = cls.__dict__[name]
    state = {"attributes": attributes, "texts": texts}
    arguments = (cls.__name__, cls._fields, defaults, cls.__module__, cls.__qualname__)
    return make_named_tuple, arguments, state, None, None, fill_named_tuple


def _written(value: Any) -> bool:
    """Whether a function comes from a cell, not from the library."""
    return isinstance(value, types.FunctionType) and value.__globals__.get("__name__") == "__main__"


def generated_methods(cls: Any) -> dict[str, Any]:
    """The methods that ``dataclass`` wrote for this very class."""
    if "__dataclass_params__" not in cls.__dict__:
        return {}
    found = {}
    for name in _GENERATED:
        method = cls.__dict__.get(name)
        written = isinstance(method, types.FunctionType)
        if written and inspect.unwrap(method).__code__.co_filename == "<string>":
            found[name] = method
    return found


def recipe(cls: Any) -> dict[str, Any]:
    """What ``dataclass`` must be told to write those methods again."""
    params = cls.__dataclass_params__
    inherited = {id(field) for base in cls.__bases__ for field in getattr(base, "__dataclass_fields__", {}).values()}
    fields = {
        name: {option: getattr(field, option) for option in _FIELD_OPTIONS if hasattr(field, option)}
        for name, field in cls.__dataclass_fields__.items()
        if id(field) not in inherited and field._field_type is not dataclasses._FIELD_CLASSVAR  # type: ignore[attr-defined]
    }
    return {"params": {name: getattr(params, name) for name in _PARAMETERS}, "fields": fields}


# --- the other halves


def make_named_tuple(name: str, fields: tuple[str, ...], defaults: list[Any], module_name: str, qualname: str) -> Any:
    made = collections.namedtuple(name, fields, defaults=defaults or None, module=module_name)  # type: ignore[misc]
    made.__qualname__ = qualname
    return made


def fill_named_tuple(made: Any, state: dict[str, Any]) -> None:
    for name, value in state["attributes"].items():
        if not name.startswith("__static_attributes"):
            type.__setattr__(made, name, value)
    for name, text in state["texts"].items():
        if getattr(made, name).__doc__ != text:
            getattr(made, name).__doc__ = text


def write_again(made: Any, recipe: dict[str, Any]) -> None:
    """Let this Python's ``dataclass`` write the methods of a class whose attributes are all in place."""
    kept = {name: made.__dict__[name] for name in recipe["fields"] if name in made.__dict__}
    for name, options in recipe["fields"].items():
        usable = {key: value for key, value in options.items() if key in _FIELD_PARAMETERS}
        if usable.get("kw_only") is getattr(dataclasses, "MISSING", None):
            usable.pop("kw_only", None)
        type.__setattr__(made, name, dataclasses.field(**usable))
    dataclasses.dataclass(**recipe["params"])(made)
    for name in recipe["fields"]:
        if name in kept:
            type.__setattr__(made, name, kept[name])
        elif name in made.__dict__:
            type.__delattr__(made, name)


_FIELD_PARAMETERS = frozenset(inspect.signature(dataclasses.field).parameters)
