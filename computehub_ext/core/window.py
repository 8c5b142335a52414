"""Where the counts of ``ratelimit`` are kept: the memory storage of ``limits``, without a thread of its own.

The library forgets old requests in a thread that it starts anew every 10 ms while requests come in. Whoever asks waits
until that thread has begun, which under load took 5 ms, on the event loop. Here the one who asks forgets their own old
requests, and once a minute those of the others. What is counted, refused and told is as the library has it.
"""

from __future__ import annotations

import threading
import time

from limits.storage import MemoryStorage
from limits.storage.memory import Entry

SWEEP_SECONDS = 60.0


class QuietStorage(MemoryStorage):
    """For moving windows. The other strategies work, as the library has them."""

    STORAGE_SCHEME = ["computehub-memory"]  # noqa: RUF012  as the library declares it

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._sweep_at = time.monotonic() + SWEEP_SECONDS

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count ``amount`` requests, unless that would be more than ``limit`` within the last ``expiry`` seconds."""
        if amount > limit:
            return False
        with self._lock:
            if time.monotonic() >= self._sweep_at:
                self._sweep()
            now = time.time()
            counted = self.events.setdefault(key, [])  # newest first
            while counted and counted[-1].expiry < now:
                counted.pop()
            if len(counted) > limit - amount:
                return False
            counted[:0] = [Entry(expiry)] * amount
            return True

    def _sweep(self) -> None:
        """Forget who has not asked for so long that nothing of it counts."""
        self._sweep_at = time.monotonic() + SWEEP_SECONDS
        now = time.time()
        for key, counted in list(self.events.items()):
            if not counted or counted[0].expiry < now:
                self.events.pop(key, None)
