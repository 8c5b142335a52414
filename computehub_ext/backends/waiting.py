"""Waiting for what others write, and for a word of our own that there is something else to do.

Not by ``select.select``, which takes no descriptor from 1024 on: a server of many kernels and browsers has more.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading

RETRY_SECONDS = 0.05


def wait_to_read(seconds: float, *descriptors: int) -> bool:
    """Wait until one of them has something to read, or its end; False where the time is over first."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(math.ceil(max(seconds, 0) * 1000)))


class WokenStream:
    """What each ``shells.Stream`` here has in common; how it sends, receives and closes is its own."""

    def __init__(self) -> None:
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._in_use = threading.Lock()
        self._waking = threading.Lock()
        self._is_over = False

    def exchange(self, out: bytes, seconds: float) -> tuple[int, bytes | None]:
        with self._in_use:
            if self._is_over:
                return 0, None
            sent = self._sent(out)
            found = self._received()
            if found == b"":
                wait = min(seconds, RETRY_SECONDS) if sent < len(out) else seconds
                wait_to_read(wait, self._descriptor(), self._woken)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                found = self._received()
            return sent, found

    def wake(self) -> None:
        with self._waking, contextlib.suppress(OSError):
            if not self._is_over:
                os.write(self._waker, b"w")

    def _is_over_now(self) -> None:
        """Before what it consists of is closed, by who has ``_in_use``: nobody wakes it then."""
        with self._waking:
            self._is_over = True
            os.close(self._woken)
            os.close(self._waker)

    def _descriptor(self) -> int:
        raise NotImplementedError

    def _sent(self, out: bytes) -> int:
        raise NotImplementedError

    def _received(self) -> bytes | None:
        raise NotImplementedError
