"""What the places are told that keep kernels ready: which pools stand there, and for whom they may be soon."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from computehub_ext.backends.capabilities import WarmPool
from computehub_ext.backends.model import Backend
from computehub_ext.bookings.finding import beginning
from computehub_ext.bookings.model import BookingState
from computehub_ext.core.database import Database, Unit
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool, PoolSpec

log = logging.getLogger(__name__)

EXPECTED_BEFORE = timedelta(minutes=2)
"""How long before a booking begins its place is told."""


class WarmPlaces:
    """Hints, without which all goes on more slowly: a place that breaks over one gets no more of them."""

    def __init__(self, database: Database, backends: Mapping[str, Backend]) -> None:
        self._database = database
        self._places = {name: backend for name, backend in backends.items() if isinstance(backend, WarmPool)}

    def prepare(self, specs: Iterable[PoolSpec]) -> None:
        """Let each keep kernels ready for the pools that stand there."""
        specs = list(specs)
        for name, place in list(self._places.items()):
            try:
                place.prepare([spec for spec in specs if spec.backend == name])
            except Exception:
                self._leave(name)

    def expect(self, pool: Pool) -> None:
        """Somebody may soon want a kernel there. Asks nobody and returns at once."""
        place = self._places.get(pool.backend)
        if place is not None:
            try:
                place.expect(pool.model)
            except Exception:
                self._leave(pool.backend)

    def tick(self, now: datetime) -> None:
        """Expect those whose booking begins soon, or has begun and waits for its kernel."""
        if not self._places:
            return

        def look(unit: Unit) -> list[Pool]:
            soon = beginning(unit, now=now, before=now + EXPECTED_BEFORE)
            wanted = {each.pool_id for each in soon if each.state is BookingState.CONFIRMED}
            return [pools.get_pool(unit, pool_id) for pool_id in wanted]

        for pool in self._database.read(look):
            self.expect(pool)

    def _leave(self, name: str) -> None:
        log.exception("the place %s failed over the kernels that it keeps ready; it is left alone with them", name)
        self._places.pop(name, None)
