"""The mark on an answer given before; apart from ``idempotency``, so that the edge need not import the database."""

from __future__ import annotations

from typing import Any


class Replayed(dict[str, Any]):
    """An answer given before; nothing was done again. The edge marks it ``Idempotency-Hit: true``."""
