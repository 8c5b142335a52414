"""The unit of work that every service function takes first."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from computehub_ext.core import outbox
from computehub_ext.core.clock import Clock


class Unit:
    """One transaction, as the services see it. Only a ``Database`` makes one.

    Attributes
    ----------
    connection:
        Runs statements in this transaction. Services neither commit nor roll back.
    driver:
        SQLite's own connection beneath it, None elsewhere; for ``Prepared`` alone.
    seen:
        What a store has read in this transaction and may take for true until its end. Whoever changes the rows in the
        database takes it out.
    """

    __slots__ = ("_actions", "_clock", "_undo", "connection", "driver", "emitted", "read_only", "seen")

    def __init__(
        self, connection: Connection, clock: Clock, *, read_only: bool = False, seen: dict[Any, Any] | None = None
    ) -> None:
        self.connection = connection
        self.seen = {} if seen is None else seen
        driver = connection.connection.driver_connection
        self.driver = driver if isinstance(driver, sqlite3.Connection) else None
        self.read_only = read_only
        self.emitted = False
        self._clock = clock
        self._undo: list[Callable[[], None]] = []
        self._actions: list[Callable[[], None]] = []

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` if this transaction does not commit: for indexes kept in memory, changed together with it.

        Undos run in the reverse order, before anybody else's work starts on the same writer.
        """
        self._undo.append(undo)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the commit is durable, in the thread that asked for the write. It must not fail."""
        self._actions.append(action)

    def emit(self, kind: str, **payload: Any) -> None:
        """Write an event that listeners are told after the commit. Hints only: no balance, no secret."""
        assert not self.read_only, "a unit that only reads has no events"
        self.emitted = True
        outbox.append(self, kind, payload, self._clock.now())

    def rolled_back(self) -> None:
        """Run the undos, newest first. Called by the database."""
        while self._undo:
            self._undo.pop()()

    def committed(self) -> None:
        """Run the actions in order. Called by the database."""
        for action in self._actions:
            action()
