"""From what a place says of a kernel's end to its lease's: the reason, the words and until when it is billed. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from computehub_ext.backends.model import Ending, Look
from computehub_ext.leases.model import EndReason, Lease

RESTART_GRACE = timedelta(seconds=30)
"""How long a dead kernel's lease waits for the notebook's server to restart it."""

NO_RESTART = (Ending.UNPAID, Ending.PREEMPTED, Ending.TIME_LIMIT, Ending.NODE_LOST)
"""Ends after which the notebook's server has nothing to restart on, so that their leases don't wait for it."""
_END_REASONS = {
    Ending.UNPAID: EndReason.UNPAID,
    Ending.OUT_OF_MEMORY: EndReason.OUT_OF_MEMORY,
    Ending.PREEMPTED: EndReason.PREEMPTED,
    Ending.NODE_LOST: EndReason.PLACE_LOST,
}


@dataclass(frozen=True)
class End:
    reason: EndReason
    message: str | None
    billed_until: datetime


class Sight(IntEnum):
    """How much was seen of a lease's kernel, the least first."""

    NONE = 0
    """None runs, or nobody can tell. It is not billed."""
    SILENT = 1
    """It gives no sign of life on a machine that does: its bill waits, and has this time in it however it ends, unless
    its machine turns out to be lost."""
    SEEN = 2


def sight_of(look: Look) -> Sight:
    """How much a look sees of a kernel that its place does not call ended."""
    if look.heard_at is None:
        return Sight.SEEN
    return Sight.SILENT if look.machine_answers else Sight.NONE


def waits_for_restart(look: Look, now: datetime) -> bool:
    """Whether the notebook's server may still restart a kernel that ended."""
    return look.reason not in NO_RESTART and now - (look.ended_at or now) <= RESTART_GRACE


def end_of(lease: Lease, look: Look, *, seen_at: datetime | None, now: datetime) -> End:
    """How a lease ends whose kernel has; ``seen_at`` is when it was last seen to run, if this control plane saw it."""
    told_at = min(filter(None, [now, look.ended_at, lease.paid_until]))
    # The moment comes from where the person's own code runs. What our clock saw running is billed whatever it says.
    ended_at = max(told_at, seen_at or told_at)
    if lease.paid_until is not None:
        ended_at = min(ended_at, lease.paid_until)  # by then its supervisor had ended it, whoever looked when
    if ended_at >= lease.ends_at:
        reason = EndReason.TIME_UP
    else:
        reason = _END_REASONS.get(look.reason or Ending.CRASHED, EndReason.KERNEL_DIED)
    message = None if reason is EndReason.TIME_UP else look.message
    return End(reason, message, max(ended_at, lease.started_at or ended_at))


def still_ahead(moment: datetime | None, now: datetime) -> datetime | None:
    return moment if moment is not None and moment > now else None
