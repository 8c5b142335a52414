"""The facade's calls for the notebook wing: what a switch and its watch need. None of them is a route."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.client.edge import Edge
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Forbidden, NeedsApproval
from computehub_ext.core.ids import new_id
from computehub_ext.leases import room
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import EndReason, Order
from computehub_ext.leases.requests import LeaseRequest
from computehub_ext.leases.requests import request as request_lease
from computehub_ext.leases.starts import KernelRequest
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person
from computehub_ext.pools import service as pools

FITS_MAX = 3
"""How many other offers are named to who needs more memory."""


class NotebookCalls(Edge):
    async def take_lease(
        self,
        actor: Actor,
        key: str,
        kernel_id: str,
        model: str | None = None,
        count: int = 1,
        duration_seconds: int | None = None,
        max_rate_microcredits_per_hour: int | None = None,
        booking_id: str | None = None,
        notebook_path: str | None = None,
        idle_timeout_seconds: int | None = None,
        approval_id: str | None = None,
    ) -> Json:
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}
        wanted = _wanted(actor, approval_id=approval_id, **inputs)

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            outcome = request_lease(
                unit,
                self._calendar,
                person=person,
                wanted=wanted,
                key=key,
                settings=self.settings,
                now=now,
                unwell=self._operator.unwell(),
            )
            return outcome if isinstance(outcome, ApprovalWanted) else self._lease_view(unit, outcome, now)

        return await self._once(actor, key, "take_lease", inputs, work)

    async def try_lease(self, actor: Actor, kernel_id: str, **asked: Any) -> Json:
        """What ``take_lease`` would answer or refuse with: done in full and taken back before it is committed.

        Returns
        -------
        The lease that it would be, and under ``on_the_spot`` whether its slot would be booked for it.
        """
        wanted = _wanted(actor, kernel_id=kernel_id, **asked)

        def work(unit: Unit, now: datetime) -> None:
            person = self._ensure(unit, actor, now)
            outcome = request_lease(
                unit,
                self._calendar,
                person=person,
                wanted=wanted,
                key=new_id("try"),
                settings=self.settings,
                now=now,
                unwell=self._operator.unwell(),
            )
            if isinstance(outcome, ApprovalWanted):
                raise NeedsApproval(  # without an approval's id: that one is taken back too
                    "A notebook may not spend this much by itself; it will ask in your browser.",
                    needed_microcredits=outcome.needed_microcredits,
                    left_microcredits=outcome.left_microcredits,
                )
            self._operator.warm.expect(pools.get_pool(unit, outcome.pool_id))
            raise _TakenBack({**self._lease_view(unit, outcome, now), "on_the_spot": outcome.on_the_spot})

        try:
            await self._write(work)
        except _TakenBack as tried:
            return tried.answer
        raise AssertionError("a try never commits")

    async def room_for(self, actor: Actor, pool: str, count: int, memory_mib: int) -> Json | None:
        """What a kernel lacks that needs so much main memory on a pool, by its name; None where it fits.

        Returns
        -------
        ``limit_mib``, what it may use there, ``place``, and ``fits``, the offers that have enough, best first.
        """

        def view(unit: Unit, person: Person, now: datetime) -> Json | None:
            offers = self._offers(unit, now)
            wanted = next((offer for offer in offers if offer.pool.name == pool), None)
            if wanted is None or wanted.has_room(memory_mib):
                return None
            found = room.roomier(offers, instead_of=wanted.pool, count=count, memory_mib=memory_mib)
            return {
                "limit_mib": wanted.limits.memory_mib,
                "place": wanted.pool.backend,
                "fits": [views.offer(offer) for offer in found[:FITS_MAX]],
            }

        return await self._as_person(actor, view)

    async def lease_seen(self, actor: Actor, lease_id: str) -> Json:
        """A lease as whoever may use its notebook sees it: who pays, what this one may do, since when it is idle."""

        def view(unit: Unit, now: datetime) -> Json:
            lease = leases.find(unit, lease_id)
            payer = people.get_person(unit, lease.person_id)
            mine, since = payer.username == actor.username, lease.idle_since
            return {
                "lease": self._lease_view(unit, lease, now),
                "payer": views.named(payer),
                "is_mine": mine,
                "may": leases.rights(lease, is_payer=mine, is_admin=actor.is_admin),
                "idle": {
                    "since_at": views.moment(since),
                    "gives_back_at": views.moment(since + lease.idle_timeout if since else None),
                },
            }

        return await self._read(view)

    async def keep_lease(self, lease_id: str) -> None:
        """The idle time of a lease starts again; its notebook's server has seen to it that a person asked."""
        await self._write(lambda unit, now: leases.keep(unit, lease_id=lease_id, now=now))

    async def start_placement(
        self, lease_id: str, cwd: str, kernel_name: str, session_key: bytes, username: str, env: Mapping[str, str]
    ) -> Json:
        wanted = KernelRequest(cwd, kernel_name, session_key, username, env)
        started = await self._pools.run("start", lambda: self._operator.start(lease_id, wanted))
        return {
            "placement_id": started.placement.id,
            "connection_info": started.placed.connection_info,
            "warm": started.placed.warm,
            "python_version": started.placed.python_version,
            "meeting_dir": started.placed.meeting_dir,
            "host": started.placed.host,
            "details": dict(started.placed.details),
            "devices": [{"index": d.index, "uuid": d.uuid} for d in started.devices],
        }

    async def end_placement(self, placement_id: str) -> None:
        await self._pools.run("backend", lambda: self._operator.end_placement(placement_id))

    async def lease_running(self, lease_id: str) -> Json:
        lease = await self._pools.run("backend", lambda: self._operator.run(lease_id))
        return await self._read(lambda unit, now: self._lease_view(unit, lease, now))

    async def lease_failed(self, lease_id: str, reason: str, message: str | None = None) -> Json:
        """The switch did not come about: nothing is charged. ``reason`` is ``start_failed`` or ``cancelled``."""
        return await self._end(lease_id, EndReason(reason), message)

    async def release_lease(self, lease_id: str, reason: str, message: str | None = None) -> Json:
        return await self._end(lease_id, EndReason(reason), message)

    async def _end(self, lease_id: str, reason: EndReason, message: str | None) -> Json:
        lease = await self._pools.run("backend", lambda: self._operator.end(lease_id, reason, message))
        return await self._read(lambda unit, now: self._lease_view(unit, lease, now))

    async def report_activity(self, kernel_id: str, busy: bool) -> None:
        await self._write(lambda unit, now: leases.report_activity(unit, kernel_id=kernel_id, busy=busy, now=now))

    async def orders(self, kernel_ids: list[str]) -> list[Json]:
        """What is due for these kernels; each server asks for its own, since a warning is handed out once."""

        def take(unit: Unit, now: datetime) -> list[Order]:
            return leases.take_orders(unit, kernel_ids=set(kernel_ids), settings=self.settings, now=now)

        return [views.order(order) for order in await self._write(take)] if kernel_ids else []

    async def lease_of_kernel(self, kernel_id: str) -> Json | None:
        def view(unit: Unit, now: datetime) -> Json | None:
            lease = lease_store.live_lease_of_kernel(unit, kernel_id)
            return self._lease_view(unit, lease, now) if lease else None

        return await self._read(view)

    async def lease_by_id(self, lease_id: str) -> Json:
        """A lease for the notebook wing's own use, whosever it is."""
        return await self._read(lambda unit, now: self._lease_view(unit, leases.find(unit, lease_id), now))

    async def look_placement(self, placement_id: str) -> Json:
        look = await self._pools.run("backend", lambda: self._operator.look(placement_id))
        return {"state": str(look.state), "exit_code": look.exit_code, "reason": look.reason, "message": look.message}

    async def interrupt_placement(self, placement_id: str) -> None:
        await self._pools.run("backend", lambda: self._operator.interrupt(placement_id))

    async def transfer_ticket(self, lease_id: str, source_kernel_id: str) -> Json:
        """A one-time capability for moving state between a lease's old and new kernel (decision 9).

        The source kernel serves one connection that shows it; the control plane keeps no copy.
        """
        lease = await self.lease_by_id(lease_id)
        if lease["kernel_id"] != source_kernel_id:
            raise Forbidden("The lease belongs to another kernel.", lease_id=lease_id)
        return {"ticket": secrets.token_urlsafe(32)}


class _TakenBack(Exception):
    """No failure: ends a transaction that was tried out, and carries past it what came of it."""

    def __init__(self, answer: Json) -> None:
        super().__init__()
        self.answer = answer


def _wanted(
    actor: Actor,
    *,
    kernel_id: str,
    model: str | None = None,
    count: int = 1,
    duration_seconds: int | None = None,
    max_rate_microcredits_per_hour: int | None = None,
    booking_id: str | None = None,
    notebook_path: str | None = None,
    idle_timeout_seconds: int | None = None,
    approval_id: str | None = None,
) -> LeaseRequest:
    if actor.via is Via.KERNEL and actor.kernel_id != kernel_id:
        raise Forbidden("A kernel may move its own notebook only.")
    return LeaseRequest(
        kernel_id=kernel_id,
        notebook_path=notebook_path,
        model=model,
        count=count,
        duration=None if duration_seconds is None else timedelta(seconds=duration_seconds),
        max_rate_microcredits_per_hour=max_rate_microcredits_per_hour,
        booking_id=booking_id,
        idle_timeout=None if idle_timeout_seconds is None else timedelta(seconds=idle_timeout_seconds),
        from_kernel=actor.via is Via.KERNEL,
        approval_id=approval_id,
    )
