"""Large memory, shared: each range of addresses travels once, however many arrays, views and tensors look into it."""

from __future__ import annotations

import bisect
import ctypes
import pickle
import sys
from typing import Any

# Smaller ones travel within the pickle: a block costs more than it saves.
INLINE_BYTES_MAX = 32 << 10
_PAGE_BITS = 12


class Memory:
    """A range of addresses in the source. Only the part that something carried looks at is sent."""

    def __init__(self, address: int, size: int, owner: Any) -> None:
        self.address = address
        self.size = size
        self.owner = owner  # keeps the range from being used for something else
        self.low = address + size
        self.high = address
        self.kind: dict[str, Any] = {"k": "bytes"}
        if size <= INLINE_BYTES_MAX:
            self.use(address, address + size)

    def use(self, low: int, high: int) -> None:
        self.low = min(self.low, low)
        self.high = max(self.high, high)

    def view(self, low: int, high: int) -> memoryview:
        if high <= low:
            return memoryview(b"")
        window: Any = (ctypes.c_ubyte * (high - low)).from_address(low)
        window.owner = self.owner  # a look at an address keeps nothing alive by itself
        return memoryview(window).cast("B")

    def used(self) -> memoryview:
        return self.view(self.low, self.high)


class Memories:
    """The ranges that were met so far. Small ones are found by the pages that they touch, large ones by bisection."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._large: list[Memory] = []
        self._small: dict[int, list[Memory]] = {}

    def at(self, address: int, size: int, owner: Any) -> Memory:
        """The range that holds these addresses, known or new."""
        if not size:
            return Memory(address, size, owner)
        index = bisect.bisect_right(self._starts, address)
        nearby = self._small.get(address >> _PAGE_BITS, [])
        for known in [*nearby, *self._large[max(index - 1, 0) : index]]:
            if known.address <= address and address + size <= known.address + known.size:
                return known
        new = Memory(address, size, owner)
        if size > INLINE_BYTES_MAX:
            self._starts.insert(index, address)
            self._large.insert(index, new)
        else:
            for page in range(address >> _PAGE_BITS, ((address + size - 1) >> _PAGE_BITS) + 1):
                self._small.setdefault(page, []).append(new)
        return new


class Block:
    """At the target: received memory, and the address in the source where it began."""

    def __init__(self, owner: Any, origin: int) -> None:
        self.owner = owner
        self.origin = origin


def reduce_memory(carrier: Any, memory: Memory) -> Any:
    if memory.size <= INLINE_BYTES_MAX:
        return small_block, (memory.address, bytes(memory.used()))
    return same_block, (carrier.out_of_band(memory),)


def same_block(block: Block) -> Block:
    return block


def small_block(origin: int, contents: bytes) -> Block:
    numpy = sys.modules.get("numpy")
    owner: Any = bytearray(contents)
    if numpy is not None:
        # An array that owns its memory, as a large block does: the next journey then finds the same thing.
        owner = numpy.frombuffer(contents, numpy.uint8).copy()
    return Block(owner, origin)


# --- looking into buffers


def flat(owner: Any) -> memoryview:
    """The bytes of a block's owner, in the order in which they lie in memory."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(owner, numpy.ndarray):
        whole = owner if owner.flags.c_contiguous else owner.T
        return memoryview(whole.reshape(-1).view(numpy.uint8))
    return memoryview(owner).cast("B")


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_FULL_READ_ONLY = 0x011C


def address_of(exporter: Any) -> tuple[int, int]:
    """Where an object's buffer begins, and how long it is."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(buffer), _FULL_READ_ONLY)
    try:
        return buffer.buf or 0, buffer.len
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


def token() -> pickle.PickleBuffer:
    """Stands for a block while pickling; the block's bytes are looked up when all is known."""
    return pickle.PickleBuffer(bytearray(1))
