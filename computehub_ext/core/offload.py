"""The one way from the event loop to code that waits: bounded pools of threads, one for each kind of waiting."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TypeVar

from computehub_ext.core.errors import Unavailable

T = TypeVar("T")

THREADS: Mapping[str, int] = MappingProxyType({"database": 20, "backend": 8, "start": 32, "beat": 1})
"""Apart, or a slow place stops the ledger, and a course's starts that wait for a full cluster stop everybody's renewal.
Twenty callers of the database share each durable commit."""
WAITING_MAX = 500
"""Beyond this many calls waiting for a thread, a caller is told to come back rather than queued for minutes."""


class Pools:
    """Runs blocking functions for coroutines.

    Parameters
    ----------
    threads:
        The size of each pool by its name.
    """

    def __init__(self, threads: Mapping[str, int] = THREADS) -> None:
        self._executors = {
            name: ThreadPoolExecutor(size, thread_name_prefix=f"computehub-{name}") for name, size in threads.items()
        }
        self._most = {name: size + WAITING_MAX for name, size in threads.items()}
        self._busy = dict.fromkeys(threads, 0)
        self._lock = threading.Lock()

    async def run(self, pool: str, function: Callable[[], T]) -> T:
        """Run ``function`` in a thread of ``pool`` and return its result.

        A caller that is cancelled stops waiting, but the function runs to its end: a transaction has no half.
        """
        with self._lock:
            if self._busy[pool] >= self._most[pool]:
                raise Unavailable("The server is very busy; try again in a moment.", retry_after_seconds=2)
            self._busy[pool] += 1
        context = contextvars.copy_context()
        try:
            future = self._executors[pool].submit(context.run, function)
        except RuntimeError as error:  # the executor was shut down
            self._left(pool)
            raise Unavailable("The server is shutting down.") from error
        # Counted by the thread's end, not the coroutine's: a cancelled caller leaves its thread occupied.
        future.add_done_callback(lambda _: self._left(pool))
        return await asyncio.wrap_future(future)

    def close(self, *, wait: bool = True) -> None:
        """Take no more work; with ``wait``, return when what was begun is done."""
        for executor in self._executors.values():
            executor.shutdown(wait=wait, cancel_futures=True)

    def _left(self, pool: str) -> None:
        with self._lock:
            self._busy[pool] -= 1
