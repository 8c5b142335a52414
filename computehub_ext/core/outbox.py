"""Events that became true with a commit: written in the same transaction, told to listeners afterwards.

An event is a hint ("booking X changed, fetch it again"), never a balance and never evidence. It is delivered at least
once: a process that dies between telling and marking tells it again.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, bindparam

from computehub_ext.core.prepared import Prepared, Transaction
from computehub_ext.core.tables import UtcDateTime, metadata

KEPT_FOR = timedelta(days=1)
"""An older hint is worth nothing, told or not, and is swept away."""
BATCH_MAX = 1000
"""A busy second's events: each batch is marked with a commit of its own."""
LOOK_SECONDS = 1.0
"""How often the deliverer looks for events that another process (``computehub grant``) committed."""
PAUSE_SECONDS = 0.05
"""From one delivery to the next: each marks its events with a commit of its own, which busy writers would wait for."""
BUSY_EVENTS, BUSY_PAUSE_SECONDS = 10, 0.25
"""After a delivery of so many events the pause is longer, or one commit in five would be for the marks."""

_log = logging.getLogger(__name__)

outbox_table = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(100), nullable=False),
    Column("payload", Text, nullable=False),
    Column("occurred_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    Index(None, "delivered_at", "id"),
    sqlite_autoincrement=True,  # or an id that was swept away would be given out again
)

_APPEND = Prepared(outbox_table.insert())
_UNDELIVERED = Prepared(
    outbox_table.select().where(outbox_table.c.delivered_at.is_(None)).order_by(outbox_table.c.id).limit(BATCH_MAX)
)
_MARK = Prepared(outbox_table.update().where(outbox_table.c.id.between(bindparam("first"), bindparam("last"))))
_SWEEP = Prepared(outbox_table.delete().where(outbox_table.c.occurred_at < bindparam("before")))


@dataclass(frozen=True)
class Event:
    """One committed happening. ``payload`` holds JSON values."""

    id: int
    kind: str
    payload: dict[str, Any]
    occurred_at: datetime


Listener = Callable[[Event], None]


def append(unit: Transaction, kind: str, payload: dict[str, Any], now: datetime) -> None:
    _APPEND.run(unit, kind=kind, payload=json.dumps(payload), occurred_at=now)


def undelivered(unit: Transaction) -> list[Event]:
    rows = _UNDELIVERED.all(unit)
    return [Event(row.id, row.kind, json.loads(row.payload), row.occurred_at) for row in rows]


def mark(unit: Transaction, events: list[Event], now: datetime) -> None:
    """Mark ``events`` as told, and sweep away those of any kind that have grown old."""
    for first, last in _runs([event.id for event in events]):
        _MARK.run(unit, first=first, last=last, delivered_at=now)
    _SWEEP.run(unit, before=now - KEPT_FOR)


def _runs(ids: list[int]) -> list[tuple[int, int]]:
    """The first and the last of each stretch of ``ids``, which ascend, without a gap.

    What a gap leaves out may be an event that another process committed meanwhile, and that nobody was told yet.
    """
    runs: list[tuple[int, int]] = []
    for each in ids:
        if runs and each == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], each)
        else:
            runs.append((each, each))
    return runs


class Deliverer:
    """Tells committed events to listeners, in order, from one thread that starts with the first listener.

    Parameters
    ----------
    load:
        Returns the oldest events not yet delivered.
    mark:
        Marks them as delivered, durably.
    """

    def __init__(self, load: Callable[[], list[Event]], mark: Callable[[list[Event]], None]) -> None:
        self._load, self._mark = load, mark
        self._listeners: list[Listener] = []
        self._one_at_a_time = threading.Lock()
        self._news = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, listener: Listener, *, in_background: bool = True) -> None:
        self._listeners.append(listener)
        if in_background and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="computehub-outbox", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        self._news.set()

    def deliver(self) -> int:
        """Tell what waits, and return how many events that was. A listener that raises is logged and has been told."""
        told = 0
        with self._one_at_a_time:
            while self._listeners and (events := self._load()):
                for event in events:
                    for listener in self._listeners:
                        try:
                            listener(event)
                        except Exception:
                            _log.exception("A listener failed on event %s (%s)", event.id, event.kind)
                self._mark(events)
                told += len(events)
        return told

    def close(self) -> None:
        self._closing.set()
        self._news.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            told = 0
            try:
                told = self.deliver()
            except Exception:
                _log.exception("Events could not be delivered; they wait for the next round")
            self._closing.wait(PAUSE_SECONDS if told < BUSY_EVENTS else BUSY_PAUSE_SECONDS)
            self._news.wait(LOOK_SECONDS)
            self._news.clear()
