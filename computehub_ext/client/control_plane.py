"""The facade: asynchronous calls whose answers are the API's JSON.

Handlers and the notebook wing hold an object with these methods and know nothing of services, threads or SQL. Each
method checks what the actor may do, hops to a bounded thread pool and runs one transaction there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from computehub_ext.backends.model import Backend
from computehub_ext.bookings import service as bookings
from computehub_ext.client.leases import LeaseCalls
from computehub_ext.client.notebooks import NotebookCalls
from computehub_ext.client.people import PeopleCalls
from computehub_ext.client.schedules import ScheduleCalls
from computehub_ext.client.terminals import TerminalCalls
from computehub_ext.core.clock import Clock
from computehub_ext.core.database import Database
from computehub_ext.core.outbox import Listener
from computehub_ext.core.settings import Settings
from computehub_ext.leases.model import EndReason
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import PoolSpec

log = logging.getLogger(__name__)


class ControlPlane(PeopleCalls, ScheduleCalls, LeaseCalls, TerminalCalls, NotebookCalls):
    """The control plane in this process.

    Parameters
    ----------
    identity:
        ``"owner"`` where everybody is the server's owner, ``"person"`` where a provider authenticates people.
    tick_seconds:
        How often leases are metered, paid ahead and reconciled.
    terminals_at:
        The places where the owners of leases may open terminals.
    on_close:
        Called last.
    """

    def __init__(
        self,
        *,
        database: Database,
        backends: Mapping[str, Backend],
        clock: Clock,
        settings: Settings,
        identity: str,
        tick_seconds: float = 5.0,
        terminals_at: Collection[str] = (),
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            database=database,
            backends=backends,
            clock=clock,
            settings=settings,
            identity=identity,
            terminals_at=terminals_at,
        )
        self._tick_seconds = tick_seconds
        self._on_close = on_close
        self._ticker: asyncio.Task[None] | None = None

    def open(self, pool_specs: list[PoolSpec]) -> None:
        """Bring the database up to date, learn the devices, mend what the last run left. Synchronous and slow."""
        now = self._clock.now()
        self._database.write(lambda unit: pools.sync_pools(unit, specs=pool_specs, now=now))
        self._database.read(lambda unit: bookings.load_calendar(unit, self._calendar, now=now))
        self._operator.reconcile(after_restart=True)
        self._operator.warm.prepare(pool_specs)
        self._operator.tick()

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` each event after its commit, from a thread of the database's."""
        self._database.listen(listener)

    def start_ticking(self) -> None:
        self._sampler.start()
        self._ticker = asyncio.ensure_future(self._tick_forever())

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            try:
                await self._pools.run("beat", self._operator.tick)
            except Exception:
                # The next beat tries again; unrenewed kernels end by themselves, so nothing runs unpaid meanwhile.
                log.exception("a beat of the control plane failed")

    async def close(self, *, end_leases: bool, kernel_ids: Collection[str] | None = None) -> None:
        """Stop.

        Parameters
        ----------
        end_leases:
            Settle leases and end what they run; otherwise both go on.
        kernel_ids:
            The notebook kernels whose leases these are: another server's go on, under that server. None means all.
        """
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if end_leases:
            await self._pools.run("backend", lambda: self._operator.end_all(EndReason.SERVER_STOPPED, kernel_ids))
        self._desk.close()
        for backend in self._backends.values():
            await self._pools.run("backend", backend.close)
        await self._pools.run("backend", self._sampler.close)
        self._pools.close()
        self._database.close()
        self._on_close()
