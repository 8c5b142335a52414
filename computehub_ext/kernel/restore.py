"""Turning bytes back into a session, all or nothing. Nothing here runs before the stream has been verified."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import linecache
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

from . import session, settings, tensors
from .memory import Block, flat
from .names import StateError
from .place import Place, at

_OWN_PACKAGES = ("_computehub", "computehub_ext.kernel")
# What newer Pythons call otherwise than older ones.
_RENAMED = {("enum", "EnumType"): ("enum", "EnumMeta"), ("pathlib._local", "*"): ("pathlib", "*")}
_DTYPE = re.compile(r"[<>|=][biufc]\d{1,2}")


class Loaded:
    """What was read, before anything of it is put into the namespace."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.values: dict[str, Any] = {}
        self.failed: list[dict[str, str]] = []
        self.extras: dict[str, Any] = {}
        self.outputs: dict[int, Any] = {}
        self.habits: list[Any] = []
        self.surroundings: dict[str, Any] = {}
        self.sources: dict[str, str] = {}

    @property
    def notes(self) -> list[str]:
        return self.place.notes


def allocate(kind: dict[str, Any], size: int) -> tuple[Any, memoryview]:
    """Memory for one block, where its object will live. ``kind`` is not verified yet, and only picks among these."""
    made, view = _allocate(kind, size)
    if kind.get("k") == "raw":
        return made, view
    return Block(made, int(kind.get("a", 0))), view


def _allocate(kind: dict[str, Any], size: int) -> tuple[Any, memoryview]:
    asked = kind.get("k")
    if asked == "torch" and importlib.util.find_spec("torch") is not None:
        return tensors.storage_block(importlib.import_module("torch"), size)
    if asked in ("array", "bytes") and importlib.util.find_spec("numpy") is not None:
        numpy = importlib.import_module("numpy")
        if asked == "array" and _DTYPE.fullmatch(str(kind.get("d"))):
            shape = [int(count) for count in kind["s"]]
            dtype = numpy.dtype(kind["d"])
            if all(count >= 0 for count in shape) and _product(shape) * dtype.itemsize == size:
                array = numpy.empty(shape, dtype, order="F" if kind.get("o") == "F" else "C")
                return array, flat(array)
        array = numpy.empty(size, numpy.uint8)
        return array, memoryview(array)
    block = bytearray(size)
    return block, memoryview(block)


def _product(shape: list[int]) -> int:
    total = 1
    for count in shape:
        total *= count
    return total


class Reader:
    """The file that the unpickler reads: the received bytes, without another copy of them."""

    def __init__(self, data: Any) -> None:
        self.view = memoryview(data)
        self.at = 0

    def read(self, size: int = -1) -> bytes:
        end = len(self.view) if size < 0 else self.at + size
        piece = bytes(self.view[self.at : end])
        self.at += len(piece)
        return piece

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer).cast("B")
        piece = self.view[self.at : self.at + target.nbytes]
        target[: piece.nbytes] = piece
        self.at += piece.nbytes
        return piece.nbytes

    def readline(self) -> bytes:
        data = bytes(self.view[self.at :])
        end = data.find(b"\n") + 1
        return self.read(end if end else len(data))


class _Finding:
    """How the unpicklers look up names: our own modules are here under whichever name this place knows them."""

    def find_class(self, module_name: str, name: str) -> Any:
        for package in _OWN_PACKAGES:
            if module_name.startswith(package + "."):
                module_name = __name__.rpartition(".")[0] + module_name[len(package) :]
        try:
            return super().find_class(module_name, name)  # type: ignore[misc]
        except (AttributeError, ModuleNotFoundError):
            if (module_name, name) not in _RENAMED and (module_name, "*") not in _RENAMED:
                raise
            module_name, renamed = _RENAMED.get((module_name, name)) or _RENAMED[module_name, "*"]
            return super().find_class(module_name, renamed.replace("*", name))  # type: ignore[misc]


class Unpickler(_Finding, pickle.Unpickler):
    """The fast one."""

    def load_next(self) -> Any:
        self.load()  # the marker
        return self.load()


def load(namespace: dict[str, Any], header: dict[str, Any], pickles: Any, blocks: list[Any]) -> Loaded:
    """Read all values. They are in the namespace already, since code that rebuilds one may use the others;
    ``commit`` keeps them, or takes all of them out again when ``failed`` names any.
    """
    loaded = _load(namespace, header, lambda: Unpickler(Reader(pickles), buffers=blocks), stop=True)
    if loaded.failed:
        from . import careful

        kind = type("CarefulUnpickler", (_Finding, careful.Unpickler), {})
        loaded.place.roll_back()
        loaded = _load(namespace, header, lambda: kind(Reader(pickles), blocks), stop=False)
    return loaded


def _load(namespace: dict[str, Any], header: dict[str, Any], unpickler: Callable[[], Any], *, stop: bool) -> Loaded:
    place = Place(namespace, dict(header.get("sources") or {}))
    loaded = Loaded(place)
    loaded.sources = place.sources
    loaded.surroundings = dict(header.get("session") or {})
    try:
        session.surround(place, loaded.surroundings)
        with at(place), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when the values were made, if at all
            _read(loaded, unpickler(), header["names"], stop)
    except BaseException:
        place.roll_back()
        raise
    return loaded


def _read(loaded: Loaded, unpickler: Any, records: list[list[Any]], stop: bool) -> None:
    for name, kind in records:
        try:
            value = unpickler.load_next()
        except Exception as error:
            if kind == "name":
                loaded.failed.append({"name": name, "reason": describe(error)})
            if stop:
                return  # extras come last: where one of those fails, no name is missing
            continue
        _keep(loaded, name, kind, value)


def _put(place: Place, name: str, value: Any) -> None:
    namespace, before = place.namespace, place.namespace.get(name, place)
    place.undo.append(lambda: namespace.pop(name, None) if before is place else namespace.update({name: before}))
    namespace[name] = value


def _keep(loaded: Loaded, name: str, kind: str, value: Any) -> None:
    if kind == "name":
        loaded.values[name] = value
        _put(loaded.place, name, value)
    elif kind == "output":
        loaded.outputs[value[0]] = value[1]
    elif kind == "habit":
        loaded.habits.append(value)
    else:
        loaded.extras[kind] = value


def describe(error: BaseException) -> str:
    """Why a value can't be rebuilt, for a person."""
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed there"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it there"
    if isinstance(error, StateError):
        return str(error)
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__


def commit(
    namespace: dict[str, Any], loaded: Loaded, execution_count: int | None = None, *, accept_failures: bool = False
) -> list[str]:
    """Put everything into the namespace, or nothing if anything failed. The names that are there now."""
    if loaded.failed and not accept_failures:
        loaded.place.roll_back()
        loaded.values.clear()
        return []
    for filename, source in loaded.sources.items():
        # Tracebacks and inspect.getsource then show the cells; no modification time: the disk is not asked.
        if filename not in linecache.cache:
            linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    loaded.place.undo.clear()
    finishing: list[Callable[[], Any]] = [
        lambda: session.set_history(namespace, loaded.extras.get("inputs", []), loaded.outputs, execution_count),
        lambda: loaded.notes.extend(settings.restore(loaded.extras.get("settings", {}))),
        lambda: settings.set_warning_filters(loaded.surroundings.get("warnings") or []),
        *[functools.partial(settings.take_up, habit) for habit in loaded.habits],
        lambda: session.set_random_states(loaded.extras.get("random", {})),
    ]
    for finish in finishing:
        try:
            finish()
        except Exception as error:
            loaded.place.note(f"The session's surroundings are not quite as they were: {describe(error)}.")
    return list(loaded.values)
