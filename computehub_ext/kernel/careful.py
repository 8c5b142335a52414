"""The second reading, after a value could not be rebuilt: slow, but it goes on behind a failure and names all of them.

The fast unpickler can't be set to go on: what a failed value would have remembered is missing for the values after it.
Here those places are marked as gone, and a value that refers to one fails too, for that reason.
"""

from __future__ import annotations

import pickle
import pickletools
import types
from typing import Any, ClassVar

from .functions import by_name
from .names import StateError
from .place import current

_GONE = object()


class Buffers:
    """Hands out the blocks in order, and can be moved on."""

    def __init__(self, blocks: list[Any]) -> None:
        self.blocks = blocks
        self.at = 0

    def __iter__(self) -> Buffers:
        return self

    def __next__(self) -> Any:
        if self.at >= len(self.blocks):
            raise StopIteration
        self.at += 1
        return self.blocks[self.at - 1]


class SharedWithLost(StateError):
    """A value that refers to something inside another one, which could not be rebuilt."""


_Slow: Any = pickle._Unpickler  # documented nowhere, and in every Python since 3.4


class Unpickler(_Slow):
    """Python's own unpickler written in Python, which refuses to read what is gone."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Slow.dispatch)

    def __init__(self, reader: Any, blocks: list[Any]) -> None:
        self.reader = reader
        self.buffers = Buffers(blocks)
        super().__init__(reader, buffers=self.buffers)

    def load_next(self) -> Any:
        """The next marker and value; after a failure, stands behind them."""
        at, memorized, buffers = self.reader.at, len(self.memo), self.buffers.at
        try:
            self.load()
            return self.load()
        except Exception:
            size, remembers, takes = _measure(self.reader, at)
            self.reader.at = at + size
            self.buffers.at = buffers + takes
            for index in range(memorized, memorized + remembers):
                if index not in self.memo or not _whole(self.memo[index]):
                    self.memo[index] = _GONE
            raise

    def _present(self) -> None:
        if self.stack[-1] is _GONE:
            raise SharedWithLost("it shares an object with another one that can't be rebuilt")

    def load_get_byte(self) -> None:
        _Slow.load_binget(self)
        self._present()

    def load_get_long(self) -> None:
        _Slow.load_long_binget(self)
        self._present()

    dispatch[pickle.BINGET[0]] = load_get_byte
    dispatch[pickle.LONG_BINGET[0]] = load_get_long


def _whole(value: Any) -> bool:
    """Whether this was there before the value that failed, or has nothing inside that could be missing."""
    if isinstance(value, (type, types.FunctionType)):
        return by_name(value)
    return isinstance(value, (str, bytes, types.ModuleType, types.BuiltinFunctionType)) or (
        value is current().namespace
    )


def _measure(reader: Any, at: int) -> tuple[int, int, int]:
    """What the two pickles at this place come to: bytes, remembered objects, blocks."""
    reader.at = at
    remembers = takes = 0
    for _ in range(2):
        for operation, _argument, _position in pickletools.genops(reader):
            remembers += operation.name == "MEMOIZE"
            takes += operation.name == "NEXT_BUFFER"
    return reader.at - at, remembers, takes
