"""The facade's calls for terminals: opened, asked what they show, typed into and closed, each a call of its own.

They are plain calls, so that they go to a control plane in another server as all others do. What is shown is fetched,
never pushed: who does not fetch it holds the programs up, and nothing piles up on the way.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from computehub_ext.api.views import Json
from computehub_ext.backends.capabilities import TerminalRequest
from computehub_ext.client.edge import Edge
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import ComputeHubError, Conflict
from computehub_ext.core.outbox import Event
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import Lease, LeaseState, PlacementState
from computehub_ext.leases.terminals import KERNEL_OVER, LEASE_OVER, SHELL_OVER, Key, TerminalDesk, check_may_open
from computehub_ext.people import service as people
from computehub_ext.people.model import Person
from computehub_ext.pools import service as pools

SHOWN_BYTES_MAX = 64 * 1024
WAIT_SECONDS = 15.0
"""How long a call waits for something to be shown; well below what counts as nobody looking."""
ACTIVE_EVERY_SECONDS = 60.0
"""Whoever types is there: the lease's idle time starts again, written down not more often than this."""


class TerminalCalls(Edge):
    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self._desk = TerminalDesk()
        self._active_at: dict[str, float] = {}
        self._listens = False

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._database.listen(self._hear)

    def _hear(self, event: Event) -> None:
        if event.kind == "lease" and event.payload.get("action") in ("closing", "closed"):
            self._desk.lease_ended(event.payload["lease_id"])

    async def check_terminal(self, actor: Actor, lease_id: str) -> Json:
        """Raise what ``open_terminal`` would, before a connection is made for it."""
        await self._as_person(actor, lambda unit, person, now: self._may_open(unit, actor, person, lease_id))
        return {"lease_id": lease_id}

    def _may_open(self, unit: Unit, actor: Actor, person: Person, lease_id: str) -> Lease:
        lease = self._own_lease(unit, actor, person, lease_id)
        check_may_open(
            lease,
            is_owner=lease.person_id == person.id,
            from_kernel=actor.via is Via.KERNEL,
            is_offered=self._offers_terminal(unit, lease),
        )
        return lease

    async def open_terminal(self, actor: Actor, lease_id: str, name: str, rows: int = 24, columns: int = 80) -> Json:
        """Open a terminal beside the lease's kernel, or find the one of this name again that is still open.

        Returns
        -------
        ``terminal_id``, and whether it ``is_new``.
        """

        def look(unit: Unit, person: Person, now: datetime) -> TerminalRequest:
            lease = self._may_open(unit, actor, person, lease_id)
            started = [p for p in lease_store.placements_of(unit, lease.id) if p.state is PlacementState.STARTED]
            if not started:
                raise Conflict("The kernel is being started again; open the terminal in a moment.", lease_id=lease_id)
            pool = pools.get_pool(unit, lease.pool_id)
            return TerminalRequest(
                placement_id=started[-1].id,
                rows=rows,
                columns=columns,
                devices=tuple(self._devices_of(unit, lease)),
                model=pool.model,
                simulated=pool.simulated,
                username=people.get_person(unit, lease.person_id).username,
            )

        self._listen()  # before the look, so that no end is missed after it
        request = await self._as_person(actor, look)
        kept, is_new = self._desk.reserve(Key(actor.username, lease_id, name))
        if is_new:
            try:
                # Begun in that thread too: who asks may go away before it is open, and then it is closed there.
                await self._pools.run("backend", lambda: kept.begin(self._operator.open_terminal(request)))
            except BaseException:
                self._desk.drop(kept)
                raise
        return {"terminal_id": kept.id, "is_new": is_new}

    async def terminal_output(self, actor: Actor, terminal_id: str) -> Json:
        """What it shows and nobody fetched yet, as soon as there is something; ``ended`` says why it is over.

        Answers with nothing after some seconds; whoever still looks asks again at once.
        """
        kept = self._desk.find(terminal_id, actor.username)
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        kept.on_news = lambda: _tell(loop, news)
        if not kept.has_news:
            try:
                await asyncio.wait_for(news.wait(), WAIT_SECONDS)
            except TimeoutError:
                pass
            self._desk.find(terminal_id, actor.username)  # it may have been taken over meanwhile
        text, ended = kept.take(SHOWN_BYTES_MAX)
        if ended is not None:
            self._desk.drop(kept)
            self._active_at.pop(terminal_id, None)
            if ended == SHELL_OVER:
                ended = await self._read(lambda unit, now: _why_it_ended(unit, kept.key.lease_id))
        return {"text": text, "ended": ended}

    async def terminal_input(self, actor: Actor, terminal_id: str, typed: str) -> Json:
        kept = self._desk.find(terminal_id, actor.username)
        if (terminal := kept.terminal) is not None:
            terminal.write(typed.encode("utf-8", errors="replace"))
            await self._is_there(terminal_id, kept.key.lease_id)
        return {}

    async def _is_there(self, terminal_id: str, lease_id: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._active_at.get(terminal_id, -ACTIVE_EVERY_SECONDS) >= ACTIVE_EVERY_SECONDS:
            # Of one that was taken over, or whose lease ended, nobody says that it is over.
            recent = {each: at for each, at in self._active_at.items() if now - at < ACTIVE_EVERY_SECONDS}
            self._active_at = {**recent, terminal_id: now}
            try:
                await self._write(lambda unit, now: leases.keep(unit, lease_id=lease_id, now=now))
            except ComputeHubError:
                pass  # it has just ended, which whoever reads is told

    async def resize_terminal(self, actor: Actor, terminal_id: str, rows: int, columns: int) -> Json:
        if (terminal := self._desk.find(terminal_id, actor.username).terminal) is not None:
            terminal.resize(rows, columns)
        return {}

    async def close_terminal(self, actor: Actor, terminal_id: str) -> Json:
        self._desk.drop(self._desk.find(terminal_id, actor.username))
        self._active_at.pop(terminal_id, None)
        return {}


def _tell(loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.set)


def _why_it_ended(unit: Unit, lease_id: str) -> str:
    """Whether it was the shell alone that ended."""
    if leases.find(unit, lease_id).state is not LeaseState.RUNNING:
        return LEASE_OVER
    started = [p for p in lease_store.placements_of(unit, lease_id) if p.state is PlacementState.STARTED]
    return SHELL_OVER if started else KERNEL_OVER
