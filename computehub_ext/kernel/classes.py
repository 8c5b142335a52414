"""Classes made in cells, by value: first the empty class, then what is in it, which may refer to the class itself.

The class is made without running its bases' ``__init_subclass__``, its attributes' ``__set_name__`` or its own
metaclass's ``__new__`` a second time: what those did is part of what comes along.
"""

from __future__ import annotations

import abc
import enum
import operator
import sys
import types
from typing import Any

from . import records
from .functions import by_name
from .refusals import Refused

# What a ctypes structure is made from; its fields follow.
_C_LAYOUT = ("_fields_", "_pack_", "_layout_", "_align_", "_anonymous_")
_SKIPPED = frozenset({"__dict__", "__weakref__", "__module__", "__slots__", "_abc_impl", "__abstractmethods__"})
# What EnumMeta works out itself from the members.
_ENUM_OWN = _SKIPPED | frozenset(
    [
        "_generate_next_value_",
        "_member_names_",
        "_member_map_",
        "_value2member_map_",
        "_unhashable_values_",
        "_unhashable_values_map_",
        "_hashable_values_",
        "_member_type_",
        "_value_repr_",
        "_use_args_",
        "_new_member_",
        "__new_member__",
        "__new__",
        "_flag_mask_",
        "_singles_mask_",
        "_all_bits_",
        "_boundary_",
        "_inverted_",
        "__reduce_ex__",
    ]
)
# Types that Python makes but names nowhere in builtins, found through the module that does.
_HIDDEN = {kind: ("types", name) for name, kind in vars(types).items() if isinstance(kind, type)}
_HIDDEN.update({type({}.keys()): ("_collections_abc", "dict_keys")})


def reduce_class(carrier: Any, cls: Any) -> Any:
    if cls in _BY_PICKLE:
        return NotImplemented
    if by_name(cls):
        carrier.needs(cls.__module__)
        return NotImplemented
    if cls in _HIDDEN and cls.__module__ == "builtins":
        return builtin_type, _HIDDEN[cls]
    if isinstance(cls, enum.EnumMeta) and len(cls):
        return _reduce_enum(cls)
    if records.is_named_tuple(cls):
        return records.reduce_named_tuple(carrier, cls)
    if "_sa_registry" in cls.__dict__ or "_sa_class_manager" in cls.__dict__:
        raise Refused(cls, "a class that SQLAlchemy maps to a table: run its cell again there")
    meta: Any = type(cls)
    if meta.__module__ == "_ctypes" and meta.__name__ == "PyCArrayType":
        return operator.mul, (cls._type_, cls._length_)
    skeleton = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    for name in _C_LAYOUT:
        if name in cls.__dict__:
            skeleton[name] = cls.__dict__[name]
    slots = cls.__dict__.get("__slots__")
    if slots is not None:
        skeleton["__slots__"] = slots if isinstance(slots, (str, dict)) else list(slots)
    if meta.__module__ == "_ctypes":
        # No name leads to these metaclasses; the first base has the same.
        maker, meta = None, None
    else:
        maker = next(kind for kind in meta.__mro__ if by_name(kind))
    arguments = (maker, meta, cls.__name__, cls.__bases__, skeleton)
    state = _state(cls, _SKIPPED.union(_C_LAYOUT))
    generated = records.generated_methods(cls)
    if generated:
        carrier.excuse(generated.values())
        if not carrier.same_python:
            state["dataclass"] = records.recipe(cls)
            # The other Python writes them itself; later ones also add what older ones don't have.
            for name in [*generated, "__replace__", "__dataclass_fields__", "__dataclass_params__"]:
                state["attributes"].pop(name, None)
    return make_class, arguments, state, None, None, fill_class


_BY_PICKLE = (type(None), type(NotImplemented), type(...))


def _state(cls: Any, skipped: frozenset[str]) -> dict[str, Any]:
    attributes = {
        name: value
        for name, value in vars(cls).items()
        if name not in skipped
        # Made by the class's own slots and by its having a dictionary; the skeleton makes them again.
        and not (isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)) and _owner(value) is cls)
        and type(value).__name__ != "CField"
    }
    state: dict[str, Any] = {"attributes": attributes}
    if isinstance(cls, abc.ABCMeta):
        state["abstract"] = sorted(getattr(cls, "__abstractmethods__", ()))
        state["virtual"] = _registered(cls)
    return state


def _owner(descriptor: Any) -> Any:
    return getattr(descriptor, "__objclass__", None)


def _registered(cls: Any) -> list[type]:
    """What was said to be a subclass by ``cls.register``."""
    try:
        registry = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return []
    return [found for found in (reference() for reference in registry) if found is not None]


def _reduce_enum(cls: Any) -> Any:
    members = [(name, member._value_) for name, member in cls.__members__.items()]
    boundary = getattr(cls, "_boundary_", None)
    options = {} if boundary is None else {"boundary": boundary.name}
    maker = next(kind for kind in type(cls).__mro__ if by_name(kind))
    arguments = (maker, type(cls), cls.__name__, cls.__bases__, members, cls.__module__, cls.__qualname__, options)
    state = _state(cls, _ENUM_OWN)
    for name in cls.__members__:
        state["attributes"].pop(name, None)
    state["members"] = {name: dict(member.__dict__) for name, member in cls.__members__.items()}
    custom = cls.__dict__.get("__new_member__", cls.__dict__.get("_new_member_"))
    if isinstance(custom, (types.FunctionType, staticmethod)) and not by_name(getattr(custom, "__func__", custom)):
        state["attributes"]["__new_member__"] = custom
    return make_enum, arguments, state, None, None, fill_enum


# --- the other halves


def builtin_type(module_name: str, name: str) -> Any:
    return getattr(sys.modules.get(module_name) or __import__(module_name), name)


def make_class(maker: Any, meta: Any, name: str, bases: tuple[Any, ...], skeleton: dict[str, Any]) -> Any:
    if meta is None:
        meta = maker = type(bases[0])
    with _quiet(bases):
        try:
            return maker.__new__(meta, name, bases, dict(skeleton))
        except TypeError:
            if maker is type:
                raise
        # A maker that wants more than a skeleton (TypedDict's refuses the bases that it has itself put in).
        made = type.__new__(meta, name, bases, dict(skeleton))
        if isinstance(made, abc.ABCMeta):
            abc._abc_init(made)  # type: ignore[attr-defined]
        return made


class _quiet:
    """Bases whose ``__init_subclass__`` does not run: it ran when the class was made the first time."""

    def __init__(self, bases: tuple[Any, ...]) -> None:
        self.bases = bases
        self.hushed: list[tuple[Any, Any]] = []

    def __enter__(self) -> None:
        for base in self.bases:
            for cls in base.__mro__:
                hook = cls.__dict__.get("__init_subclass__")
                if hook is None or cls is object or any(cls is done for done, _ in self.hushed):
                    continue
                try:
                    type.__setattr__(cls, "__init_subclass__", classmethod(_nothing))
                    self.hushed.append((cls, hook))
                except TypeError:
                    pass  # a class written in C: its hook runs

    def __exit__(self, *_: Any) -> None:
        for cls, hook in self.hushed:
            type.__setattr__(cls, "__init_subclass__", hook)


def _nothing(cls: Any, **_options: Any) -> None:
    """Stands in for ``__init_subclass__``."""


def fill_class(made: Any, state: dict[str, Any]) -> None:
    for name, value in state["attributes"].items():
        if name in ("__annotate__", "__annotate_func__") and sys.version_info < (3, 14):
            continue
        try:
            type.__setattr__(made, name, value)
        except TypeError:
            setattr(made, name, value)  # a metaclass in C, which has its own way
    if "dataclass" in state:
        records.write_again(made, state["dataclass"])
    if "abstract" in state:
        type.__setattr__(made, "__abstractmethods__", frozenset(state["abstract"]))
        for virtual in state["virtual"]:
            abc.ABCMeta.register(made, virtual)


def make_enum(
    maker: Any,
    meta: Any,
    name: str,
    bases: tuple[Any, ...],
    members: list[tuple[str, Any]],
    module_name: str,
    qualname: str,
    options: dict[str, Any],
) -> Any:
    if "boundary" in options:
        found = getattr(enum, "FlagBoundary", None)  # since Python 3.11
        options = {} if found is None else {"boundary": found[options["boundary"]]}
    contents = maker.__prepare__(name, bases, **options)
    contents["__module__"] = module_name
    contents["__qualname__"] = qualname
    for member, value in members:
        contents[member] = value
    with _quiet(bases):
        return maker.__new__(meta, name, bases, contents, **options)


def fill_enum(made: Any, state: dict[str, Any]) -> None:
    for name, contents in state["members"].items():
        made.__members__[name].__dict__.update(contents)
    fill_class(made, state)
