"""What an administrator chose, as the domain receives it: frozen, with units, without traitlets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT


@dataclass(frozen=True)
class Settings:
    """Rules of the control plane. ``app.ComputeHub`` fills them from its traits and says there what each is for."""

    welcome_microcredits: int = 10 * MICROCREDITS_PER_CREDIT
    allowance_per_day_microcredits: int = 5 * MICROCREDITS_PER_CREDIT
    approval_lifetime: timedelta = timedelta(minutes=15)
    default_duration: timedelta = timedelta(hours=2)
    min_duration: timedelta = timedelta(minutes=5)
    max_duration: timedelta = timedelta(hours=24)
    max_ahead: timedelta = timedelta(days=60)
    max_count: int = 8
    closing_reserve: timedelta = timedelta(seconds=60)
    idle_timeout: timedelta = timedelta(minutes=20)
    idle_timeout_max: timedelta = timedelta(hours=2)
    idle_warning: timedelta = timedelta(minutes=2)
    paid_horizon: timedelta = timedelta(minutes=10)
    start_timeout: timedelta = timedelta(minutes=5)
    no_show_grace: timedelta = timedelta(minutes=15)

    def __post_init__(self) -> None:
        if self.closing_reserve >= self.min_duration:
            raise ValueError("closing_reserve must be shorter than min_duration, or a lease would only ever be closing")
