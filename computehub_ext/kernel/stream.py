"""The stream that carries a state: its layout, its hash, and moving it through a socket without copying.

    stream := frame*         frame := length (8 bytes, big endian) + payload
    frame 0   header, JSON: format, Python, the names with their share of frame 1, and what each block is
    frame 1   the pickles, one per name, one memo for all of them
    frame 2.. the blocks: the large buffers, out of band

The source hashes its own memory before it offers it, and sends that same memory. The target receives straight into the
memory where the objects will live, hashing each piece while it is hot in the cache.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from .names import StateError

FORMAT = 1
HEADER_MAX = 64 << 20
_LENGTH = struct.Struct(">Q")
# Small enough to be hashed out of the cache, large enough that the calls don't count.
_PIECE = 1 << 20
# Copied together for less than a message of their own costs.
_SMALL = 64 << 10


def as_bytes(buffer: Any) -> memoryview:
    """A flat view of a contiguous buffer's bytes."""
    view = memoryview(buffer)
    return view if view.ndim == 1 and view.format == "B" else view.cast("B")


class Outgoing:
    """A stream ready to be sent: pieces of memory in order, their total size and hash."""

    def __init__(self, header: dict[str, Any], pickles: list[Any], blocks: list[Any]) -> None:
        head = json.dumps(header, separators=(",", ":")).encode()
        self.pieces: list[memoryview] = []
        self._frame([head])
        self._frame(pickles)
        for block in blocks:
            self._frame([block])
        self.size = sum(piece.nbytes for piece in self.pieces)
        self._sha256: str | None = None

    def _frame(self, parts: list[Any]) -> None:
        views = [as_bytes(part) for part in parts if len(part)]
        self.pieces.append(memoryview(_LENGTH.pack(sum(view.nbytes for view in views))))
        self.pieces.extend(views)

    @property
    def sha256(self) -> str:
        if self._sha256 is None:
            digest = hashlib.sha256()
            for piece in self.pieces:
                digest.update(piece)
            self._sha256 = digest.hexdigest()
        return self._sha256

    def send(self, connection: Any) -> None:
        for piece in self.pieces:
            connection.sendall(piece)

    def messages(self, size: int) -> Iterator[Any]:
        """The stream in messages of at most ``size`` bytes: parts of the memory itself, and small pieces together."""
        small = bytearray()
        for piece in self.pieces:
            if len(small) + piece.nbytes <= size and piece.nbytes < _SMALL:
                small += piece
                continue
            if small:
                yield small
                small = bytearray()
            for at in range(0, piece.nbytes, size):
                yield piece[at : at + size]
        if small:
            yield small

    def close(self) -> None:
        """Let go of the memory."""
        self.pieces = []


class Incoming:
    """Reads a stream into preallocated memory. Nothing in it is believed until ``verify`` has passed."""

    def __init__(self, receive_into: Callable[[memoryview], int], size: int, sha256: str) -> None:
        self._receive_into = receive_into
        self._left = size
        self._expected = sha256
        self._digest = hashlib.sha256()
        self.header: dict[str, Any] = {}
        self.pickles: Any = b""
        self.blocks: list[Any] = []

    def read(self, allocate: Callable[[dict[str, Any], int], tuple[Any, memoryview]]) -> None:
        """Take in the whole stream. ``allocate(kind, size)`` gives a block's object and its writable memory."""
        head = bytearray(self._length(HEADER_MAX))
        self._fill(memoryview(head))
        self.header = self._parse(bytes(head))
        self.pickles = bytearray(self._length())
        self._fill(memoryview(self.pickles))
        for kind in self.header["blocks"]:
            size = self._length()
            block, memory = allocate(kind, size)
            if memory.nbytes != size:
                raise StateError("The state that arrived contradicts itself; nothing was restored.")
            self._fill(memory)
            self.blocks.append(block)

    def verify(self) -> None:
        """Raise unless exactly the promised bytes came."""
        if self._left:
            raise StateError(f"The state that arrived is {self._left} bytes short; nothing was restored.")
        if self._digest.hexdigest() != self._expected:
            raise StateError(
                "The state that arrived is not the one that was offered (its hash differs); nothing was restored."
            )

    def _parse(self, head: bytes) -> dict[str, Any]:
        try:
            header = json.loads(head)
            if not isinstance(header, dict) or header.get("format") != FORMAT or not isinstance(header["blocks"], list):
                raise ValueError("another format")
        except (ValueError, KeyError, RecursionError) as error:
            raise StateError("The state that arrived can't be read; nothing was restored.") from error
        return header

    def _length(self, at_most: int | None = None) -> int:
        prefix = bytearray(_LENGTH.size)
        self._fill(memoryview(prefix))
        (length,) = _LENGTH.unpack(prefix)
        # Checked before memory is taken: a forged length must not make us allocate.
        if length > self._left or (at_most is not None and length > at_most):
            raise StateError("The state that arrived is longer than what was offered; nothing was restored.")
        return int(length)

    def _fill(self, memory: memoryview) -> None:
        if memory.nbytes > self._left:
            raise StateError("The state that arrived is longer than what was offered; nothing was restored.")
        memory = memory.cast("B") if memory.nbytes else memory
        at, end = 0, memory.nbytes
        while at < end:
            got = self._receive_into(memory[at : min(at + _PIECE, end)])
            if not got:
                raise StateError("The state stopped coming half way; nothing was restored.")
            self._digest.update(memory[at : at + got])
            at += got
        self._left -= end


def pieces_of(data: Iterable[bytes]) -> Callable[[memoryview], int]:
    """A ``receive_into`` over bytes in memory, for tests and for restoring from a file."""
    buffer = memoryview(b"".join(data))
    at = 0

    def receive_into(memory: memoryview) -> int:
        nonlocal at
        got = min(memory.nbytes, len(buffer) - at)
        memory[:got] = buffer[at : at + got]
        at += got
        return got

    return receive_into
