"""Ids that the caller makes: sortable by time, safe in a URL, and telling by their prefix what they name."""

from __future__ import annotations

import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_TIME_DIGITS, _RANDOM_DIGITS = 10, 16


_lock = threading.Lock()
_last = 0


def new_id(prefix: str) -> str:
    """Return ``prefix_`` and 26 digits: 50 bits of milliseconds since 1970, then 80 random bits (ULID's layout).

    Each is larger than those that this process made before, also within a millisecond, so that lists ordered by time
    and id keep the order in which things were made.
    """
    global _last
    with _lock:
        number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
        if number <= _last:
            number = _last + 1 + secrets.randbits(64)
        _last = number
    digits = [_ALPHABET[number >> shift & 31] for shift in range(5 * (_TIME_DIGITS + _RANDOM_DIGITS - 1), -1, -5)]
    return f"{prefix}_{''.join(digits)}"
