"""How often one person may ask, per class of route, in a moving window.

Counted in this process's memory: one control plane serves one database, so there is nobody to share counts with. A
restart forgives everybody, which costs less than writing each request down. Our own, since the library for it starts a
thread to forget what is over, a hundred times a second on a busy server; here each request forgets its person's.
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from computehub_ext.core.errors import TooManyRequests

DEFAULT_RATE_LIMITS: Mapping[str, str] = {
    "read": "1200/minute",
    "write": "120/minute",
    "kernel-read": "600/minute",
    "kernel-write": "60/minute",
}
"""By route class. Kernels are counted by themselves, so that a cell's runaway loop leaves its owner's browser alone."""

_LIMIT = re.compile(r"([1-9]\d{0,8})/(second|minute|hour|day)")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


class RateLimits:
    """The limits and their counts.

    Parameters
    ----------
    by_class:
        ``{"write": "120/minute"}``, per second, minute, hour or day. A class that is not named has no limit.

    clock:
        Seconds that never go back.

    Raises
    ------
    ValueError
        If a limit can't be read.
    """

    def __init__(
        self, by_class: Mapping[str, str] = DEFAULT_RATE_LIMITS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._by_class = dict(by_class)
        self._limits: dict[str, tuple[int, int]] = {}
        for name, text in by_class.items():
            found = _LIMIT.fullmatch(text)
            if not found:
                raise ValueError(f"the rate limit of {name} must be like 120/minute, not {text!r}")
            self._limits[name] = int(found[1]), _SECONDS[found[2]]
        self._clock = clock
        self._times: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def hit(self, username: str, route_class: str) -> None:
        """Count one request, or refuse it and say when the next may come. Called on the event loop alone."""
        if route_class not in self._limits:
            return
        most, window = self._limits[route_class]
        times, now = self._times[username, route_class], self._clock()
        while times and times[0] <= now - window:
            times.popleft()
        if len(times) < most:
            times.append(now)
            return
        seconds = max(1, math.ceil(times[0] + window - now))
        raise TooManyRequests(
            f"That was too often: {self._by_class[route_class].replace('/', ' in a ')} at most. "
            f"Ask again in {seconds} second{'s' * (seconds != 1)}.",
            retry_after_seconds=seconds,
        )
