"""How often one person may ask, per class of route, in a moving window.

Counted in this process's memory: one control plane serves one database, so there is nobody to share counts with. A
restart forgives everybody, which costs less than writing each request down.
"""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping

from computehub_ext.core.errors import TooManyRequests

DEFAULT_RATE_LIMITS: Mapping[str, str] = {
    "read": "1200/minute",
    "write": "120/minute",
    "kernel-read": "600/minute",
    "kernel-write": "60/minute",
}
"""By route class. Kernels are counted by themselves, so that a cell's runaway loop leaves its owner's browser alone."""

SWEEP_AT = 10_000
"""With so many people and classes counted, those whose window is empty by now are forgotten."""

_LIMIT = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


class RateLimits:
    """The limits and their counts.

    Parameters
    ----------
    by_class:
        ``{"write": "120/minute"}``, per second, minute, hour or day. A class that is not named has no limit.

    clock:
        Seconds that only grow.

    Raises
    ------
    ValueError
        If a limit can't be read.
    """

    def __init__(
        self, by_class: Mapping[str, str] = DEFAULT_RATE_LIMITS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._by_class: dict[str, tuple[int, float, str]] = {}
        for name, text in by_class.items():
            found = _LIMIT.fullmatch(text)
            if found is None:
                raise ValueError(f"the rate limit of {name} must be like 120/minute, not {text!r}")
            self._by_class[name] = int(found[1]), _SECONDS[found[2]], text
        self._clock = clock
        self._hits: dict[tuple[str, str], deque[float]] = {}

    def hit(self, username: str, route_class: str) -> None:
        """Count one request, or refuse it and say when the next may come. Called on the event loop."""
        limit = self._by_class.get(route_class)
        if limit is None:
            return
        most, seconds, text = limit
        now = self._clock()
        times = self._hits.get((username, route_class))
        if times is None:
            if len(self._hits) >= SWEEP_AT:
                self._sweep(now)
            times = self._hits[username, route_class] = deque()
        while times and times[0] <= now - seconds:
            times.popleft()
        if len(times) < most:
            times.append(now)
            return
        wait = max(1, math.ceil(times[0] + seconds - now))
        raise TooManyRequests(
            f"That was too often: {text.replace('/', ' in a ')} at most. "
            f"Ask again in {wait} second{'s' * (wait != 1)}.",
            retry_after_seconds=wait,
        )

    def _sweep(self, now: float) -> None:
        for key, times in list(self._hits.items()):
            if times[-1] <= now - self._by_class[key[1]][1]:
                del self._hits[key]
