"""Credits as integers: 1 credit = 1,000,000 microcredits = one hour of the reference device."""

from __future__ import annotations

from datetime import timedelta

MICROCREDITS_PER_CREDIT = 1_000_000
_MICROSECONDS_PER_HOUR = 3_600_000_000


def rated(rate_microcredits_per_hour: int, duration: timedelta, count: int = 1) -> int:
    """Price of holding ``count`` devices for ``duration``, in microcredits.

    The only place that rounds, and it rounds down, so that nobody pays for time they did not hold. A meter posts
    ``rated(whole time) - already posted`` and so never adds roundings up.
    """
    assert rate_microcredits_per_hour >= 0 and count >= 0, "a rate or a count below zero is a bug of the caller"
    microseconds = duration // timedelta(microseconds=1)
    return max(0, rate_microcredits_per_hour * microseconds * count // _MICROSECONDS_PER_HOUR)


def in_credits(amount_microcredits: int, digits: int = 2) -> str:
    """Write an amount for a person: ``in_credits(1_250_000) == "1.25"``; trailing digits are cut, not rounded up."""
    sign = "-" if amount_microcredits < 0 else ""
    whole, rest = divmod(abs(amount_microcredits), MICROCREDITS_PER_CREDIT)
    return f"{sign}{whole:,}" + (f".{rest:06d}"[: digits + 1] if digits else "")
