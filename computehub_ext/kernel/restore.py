"""Turning bytes back into a session, all or nothing."""

from __future__ import annotations

import importlib
import pickle
from typing import Any


class Loaded:
    """What was read, before anything of it is put into the namespace."""

    def __init__(self) -> None:
        self.values: "dict[str, Any]" = {}
        self.failed: "list[dict[str, str]]" = []
        self.notes: "list[str]" = []


def allocate(kind: "dict[str, Any]", size: int) -> "tuple[Any, memoryview]":
    """Memory for one block, where its object will live."""
    block = bytearray(size)
    return block, memoryview(block)


def load(namespace: "dict[str, Any]", header: "dict[str, Any]", pickles: Any, blocks: "list[Any]") -> Loaded:
    loaded, at, used = Loaded(), 0, 0
    view = memoryview(pickles)
    for name, kind, *rest in header["names"]:
        try:
            if kind == "module":
                loaded.values[name] = importlib.import_module(rest[0])
                continue
            size, count = rest
            loaded.values[name] = pickle.loads(view[at : at + size], buffers=blocks[used : used + count])
            at, used = at + size, used + count
        except Exception as error:
            loaded.failed.append({"name": name, "reason": f"{type(error).__name__}: {error}"})
    return loaded


def commit(namespace: "dict[str, Any]", loaded: Loaded) -> "list[str]":
    """Put everything into the namespace, or nothing if anything failed."""
    if loaded.failed:
        return []
    namespace.update(loaded.values)
    return list(loaded.values)
