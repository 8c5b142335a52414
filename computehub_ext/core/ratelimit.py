"""How often one person may ask, per class of route, in a moving window.

Counted in this process's memory: one control plane serves one database, so there is nobody to share counts with. A
restart forgives everybody, which costs less than writing each request down.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from computehub_ext.core.errors import TooManyRequests

DEFAULT_RATE_LIMITS: Mapping[str, str] = {
    "read": "1200/minute",
    "write": "120/minute",
    "kernel-read": "600/minute",
    "kernel-write": "60/minute",
}
"""By route class. Kernels are counted by themselves, so that a cell's runaway loop leaves its owner's browser alone."""

_LIMIT = re.compile(r"[1-9]\d{0,8}/(second|minute|hour|day)")


class RateLimits:
    """The limits and their counts.

    Parameters
    ----------
    by_class:
        ``{"write": "120/minute"}``, per second, minute, hour or day. A class that is not named has no limit.

    Raises
    ------
    ValueError
        If a limit can't be read.
    """

    def __init__(self, by_class: Mapping[str, str] = DEFAULT_RATE_LIMITS) -> None:
        for name, text in by_class.items():
            if not _LIMIT.fullmatch(text):
                raise ValueError(f"the rate limit of {name} must be like 120/minute, not {text!r}")
        self._by_class = dict(by_class)
        self._strategy: Any = None
        self._items: dict[str, Any] = {}

    def hit(self, username: str, route_class: str) -> None:
        """Count one request, or refuse it and say when the next may come."""
        if route_class not in self._by_class:
            return
        strategy, item = self._prepared(route_class)
        if strategy.hit(item, username, route_class):
            return
        reset_at, _ = strategy.get_window_stats(item, username, route_class)
        seconds = max(1, math.ceil(reset_at - time.time()))
        raise TooManyRequests(
            f"That was too often: {self._by_class[route_class].replace('/', ' in a ')} at most. "
            f"Ask again in {seconds} second{'s' * (seconds != 1)}.",
            retry_after_seconds=seconds,
        )

    def _prepared(self, route_class: str) -> tuple[Any, Any]:
        if self._strategy is None:  # imported at the first request: 0.2 s that a server's start need not wait for
            from limits import parse
            from limits.strategies import MovingWindowRateLimiter

            from computehub_ext.core.window import QuietStorage

            self._items = {name: parse(text) for name, text in self._by_class.items()}
            self._strategy = MovingWindowRateLimiter(QuietStorage())
        return self._strategy, self._items[route_class]
