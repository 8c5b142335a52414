"""What was committed, told on Jupyter's event bus: a hint to fetch again, never a balance and never evidence.

The bus shows each event to everybody on the server. What goes out is therefore what the schema of its kind names, and
anything else in the payload stays here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

SCHEMAS = Path(__file__).parent / "event_schemas"
KINDS = ("approval", "booking", "lease", "notice", "person", "switch")

_log = logging.getLogger(__name__)


class Happening(Protocol):
    """As the outbox has it."""

    kind: str
    payload: dict[str, Any]
    occurred_at: datetime


class Events:
    """Speaks on the bus of one server.

    Made at the server's start (3 ms): a client that subscribes hears those schemas alone that are known by then.

    Parameters
    ----------
    logger:
        Jupyter's ``serverapp.event_logger``.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._declared: dict[str, tuple[str, frozenset[str]]] = {}
        for kind in KINDS:
            schema_id = f"urn:computehub:event:{kind}:v1"
            logger.register_event_schema(SCHEMAS / kind / "v1.yaml")
            self._declared[kind] = schema_id, frozenset(logger.schemas.get(schema_id).properties)

    def emit(self, kind: str, *, occurred_at: datetime | None = None, **payload: Any) -> None:
        """Tell everybody. Call on the event loop: the logger makes tasks there."""
        schema_id, names = self._declared[kind]
        at = (occurred_at or datetime.now(UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")
        data = {name: value for name, value in payload.items() if name in names and value is not None}
        self._logger.emit(schema_id=schema_id, data={**data, "occurred_at": at})

    def follow(self, listen: Callable[[Callable[[Any], None]], None]) -> None:
        """Tell what ``listen`` hears from now on. Call on the event loop; the listener may be called in any thread."""
        loop = asyncio.get_running_loop()
        lock = threading.Lock()
        waiting: list[Happening] = []

        def hear(event: Happening) -> None:
            with lock:
                waiting.append(event)
                first = len(waiting) == 1
            if first and not loop.is_closed():  # one wake-up for all that come until the loop has time
                loop.call_soon_threadsafe(tell_all)

        def tell_all() -> None:
            with lock:
                events, waiting[:] = waiting[:], []
            for event in events:
                self.tell(event.kind, occurred_at=event.occurred_at, **event.payload)

        listen(hear)

    def tell(self, kind: str, **named: Any) -> None:
        """As ``emit``; a hint that can't be given is logged, and stops nothing."""
        try:
            self.emit(kind, **named)
        except Exception:
            _log.exception("The event %s could not be told", kind)

    def switch_changed(self, switch: Any) -> None:
        """Listens to the notebook wing's moves, which live in this server and in no outbox."""
        now = switch.as_json()
        self.tell("switch", action=now["state"], switch_id=now["id"], kernel_id=now["kernel_id"])
