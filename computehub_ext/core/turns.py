"""Writes of coroutines: what an event loop asks for in one turn goes to the writer together and comes back together.

The writer's thread and the loop's share Python's lock, and every statement is an occasion to hand it over. A writer
that starts with the first request of a turn fights the loop for the rest of it, and commits a few requests at a time.
So a turn lasts until nobody new has asked for some rounds of the loop, and the next one begins when this one is on the
disk: the writer works while the loop waits, one commit serves all who came, and one wake-up tells them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from computehub_ext.core.errors import Unavailable
from computehub_ext.core.unit import Unit
from computehub_ext.core.writer import GroupWriter, Request, Work

WAITING_MAX = 500
"""Beyond this many requests waiting, the next is told to come back rather than queued for long."""
QUIET_ROUNDS = 4
"""A request on its way to us takes some rounds of the loop. To whoever is alone these are 50 microseconds."""
TURN_SECONDS = 0.020
"""A turn ends after this long, however many still come."""


class Turns:
    """One event loop's way to the writer. Used in that loop's thread.

    Parameters
    ----------
    committed:
        Called with the unit of each request that is on the disk, before its caller goes on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: GroupWriter, committed: Callable[[Unit], None]) -> None:
        self.loop = loop
        self._writer = writer
        self._committed = committed
        self._asked: list[Request] = []
        self._gathering = False
        self._handed_over = 0
        self._done: deque[tuple[Request, asyncio.Future[Any]]] = deque()

    def ask(self, work: Work) -> asyncio.Future[Any]:
        """Have ``work`` done; the future gets its result once that is durable, or what it raised."""
        if self._writer.waiting + len(self._asked) >= WAITING_MAX:
            raise Unavailable("The server is very busy; try again in a moment.", retry_after_seconds=2)
        future: asyncio.Future[Any] = self.loop.create_future()

        def tell(request: Request) -> Callable[[], None]:
            self._done.append((request, future))
            return self._wake

        self._asked.append(Request(work, tell))
        self._begin()
        return future

    def _begin(self) -> None:
        """Begin a turn if there is something to do and no turn under way."""
        if self._asked and not self._gathering and not self._handed_over:
            self._gathering = True
            self._wait_for_quiet(0, 0, self.loop.time() + TURN_SECONDS)

    def _wait_for_quiet(self, seen: int, quiet: int, until: float) -> None:
        asked = len(self._asked)
        quiet = quiet + 1 if asked == seen else 0
        if quiet == QUIET_ROUNDS or self.loop.time() >= until:
            self._submit()
        else:
            self.loop.call_soon(self._wait_for_quiet, asked, quiet, until)

    def _submit(self) -> None:
        asked, self._asked = self._asked, []
        self._gathering, self._handed_over = False, len(asked)
        try:
            self._writer.submit_soon(asked)
        except Unavailable as error:
            for request in asked:
                request.error = error
                request.tell(request)
            self._finish()

    def _wake(self) -> None:
        """Called by the writer's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it whoever waited
            self.loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        while self._done:
            request, future = self._done.popleft()
            self._handed_over -= 1
            error = request.error
            if error is None and request.unit is not None:
                try:
                    self._committed(request.unit)
                except Exception as failure:  # told to who asked; the others get their answers
                    error = failure
            if future.cancelled():
                continue
            if error is None:
                future.set_result(request.result)
            else:
                future.set_exception(error)
        self._begin()
