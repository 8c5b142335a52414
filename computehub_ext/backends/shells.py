"""Terminals as several kinds of places open them: ``kernel/shell.py`` at the other end of a stream of bytes.

A place runs ``[python, *ARGUMENTS]`` beside the kernel and gives its standard input and output as a ``Stream``. All
the rest is here: the programs are sent, then what is typed and how large the window is; what it shows is read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from computehub_ext.core.errors import Conflict

from .environment import SECRET_NAMES

_RECEIVE = """
import os
def take(count):
    text = b""
    while len(text) < count:
        part = os.read(0, count - len(text))
        if not part:
            raise SystemExit(0)
        text += part
    return text
names = []
for name in ("supervisor", "shell"):
    names.append({"__name__": name})
    exec(compile(take(int(take(8), 16)), name + ".py", "exec"), names[-1])
raise SystemExit(names[1]["main"](names[0]))
"""
ARGUMENTS = ("-I", "-S", "-c", _RECEIVE)
"""What a Python is run with, to take the programs and run them. No secret: who may list processes reads it."""
TYPED_BYTES_MAX = 256 * 1024
READ_BYTES = 64 * 1024
_KERNEL_WING = Path(__file__).resolve().parents[1] / "kernel"  # programs that we send, not modules that we import


class Stream(Protocol):
    """Standard input and output of a program elsewhere. Only ``wake`` and ``close`` are called from other threads."""

    def exchange(self, out: bytes, seconds: float) -> tuple[int, bytes | None]:
        """Send what can be sent of ``out`` without waiting, wait for something to read, ``wake`` or the time's end.

        Return how much was sent and what was read: nothing yet is empty, None is the end.
        """

    def wake(self) -> None:
        """Have a waiting ``exchange`` return."""

    def close(self) -> None:
        """End the program's standard input, and see that the program ends. May be called again."""


class StreamTerminal:
    """A ``backends.model.Terminal`` over a stream."""

    def __init__(self, stream: Stream, config: Mapping[str, Any]) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._out = bytearray(_programs() + _frame("C", {"secret_names": SECRET_NAMES, **config}))
        self._size = b""  # the newest that was not sent yet; it needs no room, and so is never refused
        self._is_closed = False

    def read(self, seconds: float) -> bytes | None:
        with self._lock:
            if len(self._out) < READ_BYTES:  # not at each of its turns, while nothing is taken
                self._out += self._size
                self._size = b""
            out = bytes(self._out[:READ_BYTES])
        if self._is_closed:
            return None
        sent, found = self._stream.exchange(out, seconds)
        with self._lock:
            del self._out[:sent]
        return found

    def write(self, typed: bytes) -> None:
        with self._lock:
            frames = self._size + b"I%08x" % len(typed) + typed
            if len(self._out) + len(frames) > TYPED_BYTES_MAX:
                raise Conflict("What was typed is not read by anything in the terminal; nothing more is taken.")
            self._out += frames
            self._size = b""
        self._stream.wake()

    def resize(self, rows: int, columns: int) -> None:
        with self._lock:
            self._size = _frame("R", [rows, columns])
        self._stream.wake()

    def close(self) -> None:
        self._is_closed = True
        self._stream.close()


def _frame(letter: str, value: Any) -> bytes:
    text = json.dumps(value).encode()
    return b"%s%08x" % (letter.encode(), len(text)) + text


@cache
def _programs() -> bytes:
    texts = [(_KERNEL_WING / f"{name}.py").read_bytes() for name in ("supervisor", "shell")]
    return b"".join(b"%08x" % len(text) + text for text in texts)
