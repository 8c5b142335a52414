"""Objects of the standard library that pickle can't take, or takes wrongly, though nothing ties them to a process."""

from __future__ import annotations

import functools
import importlib
import os
import struct
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any

from .functions import by_name

Reducer = Callable[[Any, Any], Any]

STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")


def standard_stream(value: Any) -> str | None:
    """The name under which ``sys`` holds this stream."""
    for name in STREAMS:
        if getattr(sys, name, None) is value:
            return name
    return None


def reduce_property(carrier: Any, value: property) -> Any:
    return type(value), (value.fget, value.fset, value.fdel, value.__doc__)


def reduce_wrapped(carrier: Any, value: Any) -> Any:
    return type(value), (value.__func__,)


def reduce_cached_property(carrier: Any, value: Any) -> Any:
    # Older Pythons keep a lock in it; the function and the name are all that matters.
    return make_cached_property, (type(value), value.func, value.attrname)


def make_cached_property(kind: type, function: Any, name: str | None) -> Any:
    made = kind(function)
    made.attrname = name
    return made


def reduce_cached_function(carrier: Any, value: Any) -> Any:
    if by_name(value):
        return NotImplemented
    options = value.cache_parameters()
    return make_cached_function, (value.__wrapped__, options["maxsize"], options["typed"])


def make_cached_function(function: Any, maxsize: int | None, typed: bool) -> Any:
    """What it had remembered is computed again."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def reduce_mapping_proxy(carrier: Any, value: Any) -> Any:
    return types.MappingProxyType, (dict(value),)


def reduce_dict_view(carrier: Any, value: Any) -> Any:
    # `.mapping` is a read-only proxy; the dictionary itself can't be had, so the view comes with its own copy.
    kind = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}[type(value)]
    mapping = getattr(value, "mapping", None)
    if mapping is not None:
        contents = dict(mapping)
    else:
        contents = dict(value) if kind == "items" else dict(zip(value, value) if kind == "keys" else enumerate(value))
    return make_dict_view, (contents, kind)


def make_dict_view(contents: dict[Any, Any], kind: str) -> Any:
    return getattr(contents, kind)()


def reduce_new_type(carrier: Any, value: Any) -> Any:
    return (
        NotImplemented if by_name(value) else (make_new_type, (value.__name__, value.__supertype__, value.__module__))
    )


def make_new_type(name: str, supertype: Any, module_name: str) -> Any:
    new_type: Any = typing.NewType  # called with a name that a type checker can't see
    made = new_type(name, supertype)
    made.__module__ = module_name
    return made


def reduce_type_variable(carrier: Any, value: Any) -> Any:
    if by_name(value):
        return NotImplemented
    options: dict[str, Any] = {}
    for option, attribute in (("covariant", "__covariant__"), ("contravariant", "__contravariant__")):
        if getattr(value, attribute, False):
            options[option] = True
    if getattr(value, "__bound__", None) is not None:
        options["bound"] = value.__bound__
    if getattr(value, "__infer_variance__", False):
        options["infer_variance"] = True
    return (
        make_type_variable,
        (type(value), value.__name__, value.__module__, getattr(value, "__constraints__", ()), options),
    )


def make_type_variable(kind: Any, name: str, module_name: str, constraints: tuple[Any, ...], options: Any) -> Any:
    made = kind(name, *constraints, **options)
    try:
        made.__module__ = module_name
    except AttributeError:
        pass  # newer Pythons don't let it be set; nothing looks at it
    return made


def reduce_forward_reference(carrier: Any, value: Any) -> Any:
    # It holds code compiled from its text; the text is enough.
    options = {
        option: getattr(value, f"__forward_{option}__")
        for option in ("is_argument", "module", "is_class")
        if getattr(value, f"__forward_{option}__", None) is not None
    }
    return make_forward_reference, (value.__forward_arg__, options)


def make_forward_reference(text: str, options: dict[str, Any]) -> Any:
    try:
        return typing.ForwardRef(text, **options)
    except TypeError:
        return typing.ForwardRef(text)  # a Python that knows other options


def reduce_type_alias(carrier: Any, value: Any) -> Any:
    return make_type_alias, (value.__name__, value.__value__, value.__type_params__)


def make_type_alias(name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    return typing.TypeAliasType(name, value, type_params=parameters)  # type: ignore[attr-defined, unused-ignore]


def reduce_exception(carrier: Any, value: BaseException) -> Any:
    """Made again without its ``__init__``, whose arguments may be others than ``args``; the traceback stays."""
    plain = type(value).__reduce__ in (BaseException.__reduce__, Exception.__reduce__)
    if not plain or type(value).__reduce_ex__ is not object.__reduce_ex__:
        return NotImplemented
    state = (dict(value.__dict__), value.__cause__, value.__context__, value.__suppress_context__)
    return make_exception, (type(value), value.args), state, None, None, fill_exception


def make_exception(kind: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    made = kind.__new__(kind, *arguments)
    made.args = arguments
    return made


def fill_exception(made: BaseException, state: tuple[dict[str, Any], Any, Any, bool]) -> None:
    contents, made.__cause__, made.__context__, made.__suppress_context__ = state
    made.__dict__.update(contents)


def reduce_weak_reference(carrier: Any, value: Any) -> Any:
    return make_weak_reference, (value(),)


def make_weak_reference(target: Any) -> Any:
    return weakref.ref(types.SimpleNamespace()) if target is None else weakref.ref(target)


def reduce_weak_dictionary(carrier: Any, value: Any) -> Any:
    return type(value), (dict(value),)


def reduce_weak_set(carrier: Any, value: Any) -> Any:
    return type(value), (list(value),)


def reduce_struct(carrier: Any, value: Any) -> Any:
    return struct.Struct, (value.format,)


def reduce_environment(carrier: Any, value: Any) -> Any:
    return make_environment, ()


def make_environment() -> Any:
    return os.environ


def reduce_constant(carrier: Any, value: Any) -> Any:
    """A library's own marker, such as ``dataclasses.MISSING``: compared by identity, so it goes by name."""
    if getattr(value, "__dict__", None) and type(value).__module__ != "dataclasses":
        return NotImplemented  # it carries something: a value like any other
    module = sys.modules.get(type(value).__module__)
    for name, found in list(vars(module).items()) if module is not None else ():
        if found is value:
            return constant, (type(value).__module__, name)
    return NotImplemented


def constant(module_name: str, name: str) -> Any:
    return getattr(importlib.import_module(module_name), name)


def is_marker(kind: Any) -> bool:
    """Whether values of this type carry nothing but their identity, or are dataclasses' own."""
    if kind.__module__ == "dataclasses":
        return kind.__name__.startswith("_FIELD") or kind.__name__ in ("_MISSING_TYPE", "_KW_ONLY_TYPE")
    return (
        kind.__module__ not in ("__main__", "builtins")
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and getattr(kind, "__getstate__", None) is getattr(object, "__getstate__", None)
        and not kind.__flags__ & _CONTAINERS
        and not any(base.__dict__.get("__slots__") for base in kind.__mro__)
    )


# Subclasses of int, list, tuple, bytes, str, dict, exceptions and type carry their contents.
_CONTAINERS = 0xFF << 24


def reducers() -> dict[type, Reducer]:
    """The reducers that go by a value's exact type."""
    found: dict[type, Reducer] = {
        property: reduce_property,
        staticmethod: reduce_wrapped,
        classmethod: reduce_wrapped,
        functools.cached_property: reduce_cached_property,
        type(functools.lru_cache(int)): reduce_cached_function,
        types.MappingProxyType: reduce_mapping_proxy,
        weakref.ref: reduce_weak_reference,
        weakref.WeakKeyDictionary: reduce_weak_dictionary,
        weakref.WeakValueDictionary: reduce_weak_dictionary,
        weakref.WeakSet: reduce_weak_set,
        type({}.keys()): reduce_dict_view,
        type({}.values()): reduce_dict_view,
        type({}.items()): reduce_dict_view,
        type(os.environ): reduce_environment,
        typing.ForwardRef: reduce_forward_reference,
        struct.Struct: reduce_struct,
    }
    for name in ("TypeVar", "ParamSpec", "TypeVarTuple"):
        if hasattr(typing, name):
            found[getattr(typing, name)] = reduce_type_variable
    if isinstance(typing.NewType, type):
        found[typing.NewType] = reduce_new_type
    if hasattr(typing, "TypeAliasType"):
        found[typing.TypeAliasType] = reduce_type_alias
    return found


def make_standard_stream(name: str) -> Any:
    return getattr(sys, name)
