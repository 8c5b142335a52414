"""Opaque cursors of lists, newest first: the place after ``(at, id)``."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta

from computehub_ext.core.errors import Invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_cursor(at: datetime, row_id: str) -> str:
    text = json.dumps([(at - _EPOCH) // timedelta(microseconds=1), row_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """The ``(at, id)`` that a cursor stands for; Invalid when it was not made by ``write_cursor``."""
    if cursor is None:
        return None
    try:
        microseconds, row_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if type(microseconds) is int and isinstance(row_id, str):
            return _EPOCH + timedelta(microseconds=microseconds), row_id
    except (binascii.Error, ValueError, TypeError, OverflowError):
        pass
    raise Invalid("This is not a cursor that a list gave; start without one.", field="cursor")
