"""Half-open spans of aware UTC time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, order=True)
class TimeSpan:
    """``[start_at, end_at)``, never empty.

    Raises
    ------
    ValueError
        If a bound is naive or the span is empty or turned round. Callers check a person's input first.
    """

    start_at: datetime
    end_at: datetime

    def __post_init__(self) -> None:
        if self.start_at.tzinfo is None or self.end_at.tzinfo is None:
            raise ValueError("a time span needs aware times")
        object.__setattr__(self, "start_at", self.start_at.astimezone(UTC))
        object.__setattr__(self, "end_at", self.end_at.astimezone(UTC))
        if self.end_at <= self.start_at:
            raise ValueError(f"a time span ends after it starts, not {self.start_at} to {self.end_at}")

    @classmethod
    def starting(cls, start_at: datetime, duration: timedelta) -> TimeSpan:
        return cls(start_at, start_at + duration)

    @property
    def duration(self) -> timedelta:
        return self.end_at - self.start_at

    def __contains__(self, moment: datetime) -> bool:
        return self.start_at <= moment < self.end_at

    def overlaps(self, other: TimeSpan) -> bool:
        return self.start_at < other.end_at and other.start_at < self.end_at
