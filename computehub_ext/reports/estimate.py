"""What a lease will probably cost: from the rate, and from what this notebook did before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from computehub_ext.core.credits import rated
from computehub_ext.core.database import Unit
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import Lease
from computehub_ext.people.model import Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool

RUNS_LOOKED_AT = 20


@dataclass(frozen=True)
class Estimate:
    """The most that ``duration`` can cost, and what this notebook's earlier leases cost, where there are any."""

    pool: Pool
    count: int
    duration: timedelta
    most_microcredits: int
    runs: int
    usual_duration: timedelta | None
    usual_microcredits: int | None


def estimate(
    unit: Unit, *, person: Person, model: str | None, count: int, duration: timedelta, notebook_path: str | None
) -> Estimate:
    """Estimate a lease on the cheapest pool of ``model`` (of all pools, where no model is named)."""
    candidates = pools.pools_of_model(unit, model) if model else pools.list_pools(unit)
    pool = min(candidates, key=lambda p: p.rate_microcredits_per_hour)
    earlier: list[Lease] = []
    if notebook_path:
        earlier = lease_store.closed_of_notebook(unit, person.id, notebook_path, RUNS_LOOKED_AT)
    lengths = [_held(lease).total_seconds() for lease in earlier]
    usual = timedelta(seconds=round(median(lengths))) if lengths else None
    rate = pool.rate_microcredits_per_hour
    return Estimate(
        pool=pool,
        count=count,
        duration=duration,
        most_microcredits=rated(rate, duration, count),
        runs=len(lengths),
        usual_duration=usual,
        usual_microcredits=rated(rate, min(usual, duration), count) if usual is not None else None,
    )


def _held(lease: Lease) -> timedelta:
    begun: datetime = lease.billed_from_at or lease.started_at or lease.created_at
    return max(timedelta(0), (lease.ended_at or begun) - begun)
