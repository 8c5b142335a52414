"""What every part of the facade stands on: one transaction in one bounded thread, as one person."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.backends.capabilities import Terminals
from computehub_ext.backends.model import Backend
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.core import idempotency
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import Clock
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import Forbidden, Invalid, NeedsApproval
from computehub_ext.core.offload import Pools
from computehub_ext.core.settings import Settings
from computehub_ext.leases import room
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import EndReason, Lease, LeaseState, Placement
from computehub_ext.leases.operator import LeaseOperator
from computehub_ext.leases.room import Offer
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Device, Pool
from computehub_ext.pools.sampler import Sampler, Watched

T = TypeVar("T")

PAGE_MAX = 200


class Edge:
    """Where asynchronous callers meet synchronous services."""

    mounting = "embedded"

    def __init__(
        self,
        *,
        database: Database,
        backends: Mapping[str, Backend],
        clock: Clock,
        settings: Settings,
        identity: str,
        terminals_at: Collection[str] = (),
    ) -> None:
        self.settings = settings
        self._terminals_at = frozenset(name for name in terminals_at if isinstance(backends.get(name), Terminals))
        self._database = database
        self._backends = backends
        self._clock = clock
        self._identity = identity
        self._calendar = Calendar()
        self._operator = LeaseOperator(database, self._calendar, backends, clock, settings)
        self._pools = Pools()
        self._sampler = Sampler(self._watched, clock)

    async def _write(self, work: Callable[[Unit, datetime], T]) -> T:
        def dated(unit: Unit) -> T:
            return work(unit, self._clock.now())

        if self._database.has_writer:
            return await self._database.write_soon(dated)
        return await self._pools.run("database", lambda: self._database.write(dated))

    async def _read(self, work: Callable[[Unit, datetime], T]) -> T:
        return await self._pools.run(
            "database", lambda: self._database.read(lambda unit: work(unit, self._clock.now()))
        )

    def _ensure(self, unit: Unit, actor: Actor, now: datetime) -> Person:
        return people.ensure_person(
            unit,
            username=actor.username,
            display_name=actor.display_name,
            now=now,
            welcome_microcredits=self.settings.welcome_microcredits,
        )

    async def _as_person(self, actor: Actor, work: Callable[[Unit, Person, datetime], T]) -> T:
        """Read as a person; somebody who was never here before gets an account and the welcome grant first."""

        def try_read(unit: Unit, now: datetime) -> tuple[bool, T | None]:
            person = people.find_person(unit, actor.username)
            return (True, work(unit, person, now)) if person else (False, None)

        known, answer = await self._read(try_read)
        if known:
            return answer  # type: ignore[return-value]
        await self._write(lambda unit, now: self._ensure(unit, actor, now))
        _, answer = await self._read(try_read)
        return answer  # type: ignore[return-value]

    async def _once(
        self,
        actor: Actor,
        key: str,
        operation: str,
        inputs: Json,
        work: Callable[[Unit, Person, datetime], Json | ApprovalWanted],
    ) -> Json:
        """A keyed write: do it once, answer the same ever after; a request for approval is kept and then raised."""

        def keyed(unit: Unit, now: datetime) -> Json | ApprovalWanted:
            person = self._ensure(unit, actor, now)
            wanted: list[ApprovalWanted] = []

            def run() -> Json:
                outcome = work(unit, person, now)
                if isinstance(outcome, ApprovalWanted):
                    wanted.append(outcome)
                    return {}
                return outcome

            answer = idempotency.once(
                unit,
                person_id=person.id,
                key=key,
                operation=operation,
                inputs=inputs,
                now=now,
                work=run,
                keep=lambda: not wanted,
            )
            return wanted[0] if wanted else answer

        outcome = await self._write(keyed)
        if isinstance(outcome, ApprovalWanted):
            raise NeedsApproval(
                "A notebook may not spend this much by itself; approve it in your browser.",
                approval_id=outcome.approval.id,
                needed_microcredits=outcome.needed_microcredits,
                left_microcredits=outcome.left_microcredits,
            )
        return outcome

    def _own_lease(self, unit: Unit, actor: Actor, person: Person, lease_id: str) -> Lease:
        lease = leases.find(unit, lease_id, person_id=None if actor.is_admin else person.id)
        if actor.via is Via.KERNEL and lease.kernel_id != actor.kernel_id:
            raise Forbidden("A kernel may change its own lease only.", lease_id=lease_id)
        return lease

    def _offers(self, unit: Unit, now: datetime) -> list[Offer]:
        return room.offers(unit, self._calendar, limits=self._operator.limits, unwell=self._operator.unwell(), now=now)

    def _roomier(self, unit: Unit, lease: Lease, pool: Pool, now: datetime) -> Offer | None:
        """Where a lease that ended for want of main memory could go on; None where nothing has more."""
        limit = self._operator.limits(pool.backend).memory_mib
        if lease.end_reason is not EndReason.OUT_OF_MEMORY or limit is None:
            return None
        found = room.roomier(self._offers(unit, now), instead_of=pool, count=lease.count, memory_mib=limit + 1)
        return found[0] if found else None

    def _lease_view(self, unit: Unit, lease: Lease, now: datetime) -> Json:
        placements = lease_store.placements_of(unit, lease.id)
        placement_id = _standing(placements)
        pool = pools.get_pool(unit, lease.pool_id)
        return views.lease(
            lease,
            pool=pool,
            held=ledger.held(unit, lease.hold_id),
            devices=_claimed(unit, lease, placement_id),
            placement_id=placement_id,
            place_details=placements[-1].details if placements else {},
            roomier=self._roomier(unit, lease, pool, now),
            terminal=lease.state is LeaseState.RUNNING and self._offers_terminal(unit, lease),
            settings=self.settings,
            now=now,
        )

    def _offers_terminal(self, unit: Unit, lease: Lease) -> bool:
        """Whether the administrator allows terminals where the lease is, and the place can have them."""
        return pools.get_pool(unit, lease.pool_id).backend in self._terminals_at

    def _devices_of(self, unit: Unit, lease: Lease) -> list[Device]:
        return _claimed(unit, lease, _standing(lease_store.placements_of(unit, lease.id)))

    def _watched(self) -> list[Watched]:
        """The devices to read now: those that running leases hold."""

        def look(unit: Unit) -> list[Watched]:
            watched = []
            for lease in lease_store.in_states(unit, [LeaseState.RUNNING]):
                pool, devices = pools.get_pool(unit, lease.pool_id), self._devices_of(unit, lease)
                watched.append(Watched(lease.id, tuple(devices), pool.simulated, pool.memory_mib, lease.busy))
            return watched

        return self._database.read(look)


def _standing(placements: list[Placement]) -> str | None:
    return next((each.id for each in reversed(placements) if each.ended_at is None), None)


def _claimed(unit: Unit, lease: Lease, placement_id: str | None) -> list[Device]:
    claimed = set(lease_store.claimed_devices(unit, placement_id)) if placement_id else set()
    return [device for device in pools.devices_of(unit, lease.pool_id) if device.id in claimed]


def not_from_kernel(actor: Actor, message: str) -> None:
    if actor.via is Via.KERNEL:
        raise Forbidden(message)


def page_size(limit: int) -> int:
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"A page holds 1 to {PAGE_MAX} items.", field="limit")
    return limit


def moment(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"`{field}` is a time like 2026-03-02T09:00:00Z.", field=field) from error
    if at.tzinfo is None:
        raise Invalid(f"`{field}` needs a zone, as in 2026-03-02T09:00:00Z.", field=field)
    return at.astimezone(UTC)
