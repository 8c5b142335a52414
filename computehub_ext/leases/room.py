"""What each pool offers now, and where a kernel may use more main memory than it may elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from computehub_ext.backends.model import KernelLimits
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.core.database import Unit
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Offer:
    """A pool as it is now. ``limits`` are a kernel's in its place; ``unwell`` says why nothing can be started there."""

    pool: Pool
    free_now: int
    earliest_at: datetime | None
    unwell: str | None
    limits: KernelLimits

    def has_room(self, memory_mib: int) -> bool:
        """Whether a kernel may use so much main memory there; without a limit it may, as far as the machine has it."""
        return self.limits.memory_mib is None or self.limits.memory_mib >= memory_mib


def offers(
    unit: Unit,
    calendar: Calendar,
    *,
    limits: Callable[[str], KernelLimits],
    unwell: Mapping[str, str],
    now: datetime,
) -> list[Offer]:
    """What there is, cheapest first.

    Parameters
    ----------
    limits:
        What a kernel may use in a place, by its name.
    unwell:
        Places where nothing can be started now, and why.
    """
    found = []
    for pool in pools.list_pools(unit):
        free, earliest_at = bookings.free_now(calendar, pool, now=now)
        why = unwell.get(pool.backend)
        found.append(Offer(pool, 0 if why else free, earliest_at, why, limits(pool.backend)))
    return found


def roomier(found: Iterable[Offer], *, instead_of: Pool, count: int, memory_mib: int) -> list[Offer]:
    """The offers where a kernel may use at least ``memory_mib``, each of another model: what is free comes first, then
    what is free soonest, then the cheaper.

    A model counts only if all its pools have that much, since who asks for a model gets any of them. Nobody who was
    on a real device is sent to simulated ones.
    """
    found = list(found)
    cramped = {offer.pool.model for offer in found if not offer.has_room(memory_mib)}
    fitting = [
        offer
        for offer in found
        if offer.pool.model not in cramped
        and offer.pool.count >= count
        and (instead_of.simulated or not offer.pool.simulated)
        and offer.unwell is None
        and (offer.free_now >= count or offer.earliest_at is not None)
    ]
    fitting.sort(
        key=lambda offer: (
            offer.free_now < count,
            _NEVER if offer.free_now >= count or offer.earliest_at is None else offer.earliest_at,
            offer.limits.memory_mib is None,
            offer.pool.rate_microcredits_per_hour,
        )
    )
    best: dict[str, Offer] = {}
    for offer in fitting:
        best.setdefault(offer.pool.model, offer)
    return list(best.values())
