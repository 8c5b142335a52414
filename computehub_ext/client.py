"""The control plane as others call it: one asynchronous facade whose answers are the API's JSON.

Handlers and the notebook wing hold an object with these methods and know nothing of services, threads or SQL. Each
method checks what the actor may do, hops to a bounded thread pool and runs one transaction there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.backends.model import Backend
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings import when
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.core import idempotency
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import Clock
from computehub_ext.core.cursor import read_cursor, write_cursor
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import Forbidden, Invalid, NeedsApproval, NotFound
from computehub_ext.core.offload import Pools
from computehub_ext.core.settings import Settings
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import EndReason, Lease
from computehub_ext.leases.operator import KernelRequest, LeaseOperator
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import Approval, ApprovalWanted, Person
from computehub_ext.pools import service as pools
from computehub_ext.reports import estimate as estimates

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_MAX = 200


class ControlPlane:
    """The control plane in this process.

    Parameters
    ----------
    identity:
        ``"owner"`` where everybody is the server's owner, ``"person"`` where a provider authenticates people.
    tick_seconds:
        How often leases are metered, paid ahead and reconciled.
    """

    mounting = "embedded"

    def __init__(
        self,
        *,
        database: Database,
        backends: Mapping[str, Backend],
        clock: Clock,
        settings: Settings,
        identity: str,
        tick_seconds: float = 5.0,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self._database = database
        self._backends = backends
        self._clock = clock
        self._identity = identity
        self._tick_seconds = tick_seconds
        self._on_close = on_close
        self._calendar = Calendar()
        self._operator = LeaseOperator(database, self._calendar, backends, clock, settings)
        self._pools = Pools()
        self._ticker: asyncio.Task[None] | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    def open(self, pool_specs: list[pools.PoolSpec]) -> None:
        """Bring the database up to date, learn the devices, mend what the last run left. Synchronous and slow."""
        now = self._clock.now()
        self._database.write(lambda unit: pools.sync_pools(unit, specs=pool_specs, now=now))
        self._database.read(lambda unit: bookings.load_calendar(unit, self._calendar, now=now))
        self._operator.reconcile(after_restart=True)

    def start_ticking(self) -> None:
        self._ticker = asyncio.ensure_future(self._tick_forever())

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            try:
                await self._pools.run("backend", self._operator.tick)
            except Exception:
                # The next beat tries again; unrenewed kernels end by themselves, so nothing runs unpaid meanwhile.
                log.exception("a beat of the control plane failed")

    async def close(self, *, end_leases: bool) -> None:
        """Stop. With ``end_leases`` every lease is settled and its kernel ended, otherwise both go on."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if end_leases:
            await self._pools.run("backend", lambda: self._operator.end_all(EndReason.SERVER_STOPPED))
        for backend in self._backends.values():
            await self._pools.run("backend", backend.close)
        self._pools.close()
        self._database.close()
        self._on_close()

    # --- helpers --------------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Unit, datetime], T]) -> T:
        return await self._pools.run(
            "database", lambda: self._database.write(lambda unit: work(unit, self._clock.now()))
        )

    async def _read(self, work: Callable[[Unit, datetime], T]) -> T:
        return await self._pools.run("database", lambda: self._database.read(lambda unit: work(unit, self._clock.now())))

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
        self, actor: Actor, key: str, operation: str, inputs: Json, work: Callable[[Unit, Person, datetime], Json | ApprovalWanted]
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
                unit, person_id=person.id, key=key, operation=operation, inputs=inputs, now=now, work=run, keep=lambda: not wanted
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

    def _lease_view(self, unit: Unit, lease: Lease, now: datetime) -> Json:
        placements = [p for p in lease_store.placements_of(unit, lease.id) if p.ended_at is None]
        placement_id = placements[-1].id if placements else None
        claimed = set(lease_store.claimed_devices(unit, placement_id)) if placement_id else set()
        return views.lease(
            lease,
            pool=pools.get_pool(unit, lease.pool_id),
            held=ledger.held(unit, lease.hold_id),
            devices=[d for d in pools.devices_of(unit, lease.pool_id) if d.id in claimed],
            placement_id=placement_id,
            settings=self.settings,
            now=now,
        )

    # --- people ---------------------------------------------------------------------------------------------------

    async def me(self, actor: Actor) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            per_day, left = people.allowance(
                unit, person.id, default_microcredits=self.settings.allowance_per_day_microcredits, now=now
            )
            return views.person(
                person,
                owned=ledger.balance(unit, people.account_of(person)),
                identity=self._identity,
                per_day=per_day,
                left=left,
                control_plane=self.mounting,
            )

        return await self._as_person(actor, view)

    async def set_allowance(self, actor: Actor, per_day_microcredits: int) -> Json:
        _not_from_kernel(actor, "The allowance of kernels is set in the browser, not from a kernel.")

        def change(unit: Unit, now: datetime) -> None:
            person = self._ensure(unit, actor, now)
            people.set_allowance(unit, person_id=person.id, amount_microcredits=per_day_microcredits, now=now)

        await self._write(change)
        return await self.me(actor)

    async def approvals(self, actor: Actor) -> Json:
        return await self._as_person(
            actor,
            lambda unit, person, now: {
                "items": [views.approval(a) for a in people.list_approvals(unit, person.id, now=now)],
                "next": None,
            },
        )

    async def approval(self, actor: Actor, approval_id: str) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            for approval in people.list_approvals(unit, person.id, now=now):
                if approval.id == approval_id:
                    return views.approval(approval)
            raise NotFound(f"There is no approval {approval_id} of yours.", approval_id=approval_id)

        return await self._as_person(actor, view)

    async def decide_approval(self, actor: Actor, approval_id: str, approve: bool) -> Json:
        if actor.via is not Via.BROWSER:
            raise Forbidden("An approval is given in the browser, where you are logged in.")

        def decide(unit: Unit, now: datetime) -> Approval:
            person = self._ensure(unit, actor, now)
            return people.decide_approval(
                unit, approval_id=approval_id, person_id=person.id, approve=approve, now=now
            )

        return views.approval(await self._write(decide))

    async def history(self, actor: Actor, cursor: str | None = None, limit: int = 50) -> Json:
        limit = _page(limit)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before = read_cursor(cursor)
            lines = ledger.statement(unit, people.account_of(person), before=before, limit=limit + 1)
            more = len(lines) > limit
            lines = lines[:limit]
            return {
                "items": [views.history_line(line) for line in lines],
                "next": write_cursor(lines[-1].at, lines[-1].entry_id) if more else None,
            }

        return await self._as_person(actor, view)

    # --- offers and bookings --------------------------------------------------------------------------------------

    async def offers(self, actor: Actor) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            items = []
            for pool in pools.list_pools(unit):
                free, earliest_at = bookings.free_now(self._calendar, pool, now=now)
                items.append(views.offer(pool, free_now=free, earliest_at=earliest_at))
            return {"items": items, "next": None}

        return await self._as_person(actor, view)

    async def quote(
        self,
        actor: Actor,
        model: str | None = None,
        count: int = 1,
        starts_at: str | None = None,
        when: str | None = None,
        time_zone: str | None = None,
        duration_seconds: int | None = None,
        max_rate_microcredits_per_hour: int | None = None,
    ) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            span = self._span(starts_at, when, time_zone, duration_seconds, now)
            quote = bookings.quote(
                unit,
                self._calendar,
                model=model,
                count=count,
                span=span,
                now=now,
                max_rate_microcredits_per_hour=max_rate_microcredits_per_hour,
            )
            return views.quote(quote)

        return await self._as_person(actor, view)

    def _span(
        self, starts_at: str | None, words: str | None, time_zone: str | None, duration_seconds: int | None, now: datetime
    ) -> TimeSpan:
        if starts_at is not None and words is not None:
            raise Invalid("Give either `starts_at` or `when`, not both.", field="when")
        start = now
        if words is not None:
            start = when.parse_when(words, time_zone or "UTC", now)
        elif starts_at is not None:
            start = when.parse_when(starts_at, "UTC", now)
        duration = self.settings.default_duration if duration_seconds is None else timedelta(seconds=duration_seconds)
        if duration <= timedelta(0):
            raise Invalid("A GPU is held for a time above zero.", field="duration_seconds")
        return TimeSpan.starting(start, duration)

    async def availability(self, actor: Actor, pool_id: str, start: str, end: str, step_seconds: int) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            pool = pools.get_pool(unit, pool_id)
            window = TimeSpan(_moment(start, "start"), _moment(end, "end"))
            slots = bookings.availability(self._calendar, pool, span=window, step=timedelta(seconds=step_seconds))
            items = [{"starts_at": views.moment(at), "free": free} for at, free in slots]
            return {"pool_id": pool.id, "count": pool.count, "step_seconds": step_seconds, "items": items}

        return await self._as_person(actor, view)

    async def book(
        self,
        actor: Actor,
        key: str,
        model: str | None = None,
        count: int = 1,
        starts_at: str | None = None,
        when: str | None = None,
        time_zone: str | None = None,
        duration_seconds: int | None = None,
        notebook_path: str | None = None,
        approval_id: str | None = None,
    ) -> Json:
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            span = self._span(starts_at, when, time_zone, duration_seconds, now)
            if actor.via is Via.KERNEL:
                quote = bookings.quote(unit, self._calendar, model=model, count=count, span=span, now=now)
                outcome = people.spend_allowance(
                    unit,
                    person_id=person.id,
                    amount_microcredits=quote.amount_microcredits,
                    purpose=f"a booking of {count} × {quote.pool.model} from {views.moment(span.start_at)}",
                    key=key,
                    approval_id=approval_id,
                    kernel_id=actor.kernel_id,
                    notebook_path=notebook_path,
                    now=now,
                    default_microcredits=self.settings.allowance_per_day_microcredits,
                    lifetime=self.settings.approval_lifetime,
                )
                if isinstance(outcome, ApprovalWanted):
                    return outcome
            booking = bookings.book(
                unit,
                self._calendar,
                person=person,
                model=model,
                count=count,
                span=span,
                key=key,
                notebook_path=notebook_path,
                now=now,
                limits=bookings.limits_of(self.settings),
            )
            unit.emit("booking", action="confirmed", booking_id=booking.id)
            return views.booking(booking)

        return await self._once(actor, key, "book", inputs, work)

    async def bookings(self, actor: Actor, cursor: str | None = None, limit: int = 50) -> Json:
        limit = _page(limit)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before = read_cursor(cursor)
            found = bookings.list_bookings(unit, person.id, before=before, limit=limit + 1)
            more, found = len(found) > limit, found[:limit]
            return {
                "items": [views.booking(b) for b in found],
                "next": write_cursor(found[-1].created_at, found[-1].id) if more else None,
            }

        return await self._as_person(actor, view)

    async def booking(self, actor: Actor, booking_id: str) -> Json:
        return await self._as_person(
            actor, lambda unit, person, now: views.booking(bookings.find(unit, booking_id, person_id=person.id))
        )

    async def cancel_booking(self, actor: Actor, key: str, booking_id: str) -> Json:
        def work(unit: Unit, person: Person, now: datetime) -> Json:
            lease = lease_store.lease_of_booking(unit, booking_id)
            if lease is not None and lease.person_id == person.id and lease.ended_at is None:
                self._own_lease(unit, actor, person, lease.id)
                leases.begin_closing(
                    unit, self._calendar, lease_id=lease.id, reason=EndReason.RETURNED, message=None, now=now
                )
                return views.booking(bookings.find(unit, booking_id, person_id=person.id))
            booking = bookings.cancel(unit, self._calendar, booking_id=booking_id, person_id=person.id, now=now)
            unit.emit("booking", action="cancelled", booking_id=booking.id)
            return views.booking(booking)

        answer = await self._once(actor, key, "cancel_booking", {"booking_id": booking_id}, work)
        await self._pools.run("backend", self._operator.reconcile)
        return answer

    async def estimate(
        self,
        actor: Actor,
        model: str | None = None,
        count: int = 1,
        duration_seconds: int | None = None,
        notebook_path: str | None = None,
    ) -> Json:
        duration = self.settings.default_duration if duration_seconds is None else timedelta(seconds=duration_seconds)
        return await self._as_person(
            actor,
            lambda unit, person, now: views.estimate(
                estimates.estimate(
                    unit, person=person, model=model, count=count, duration=duration, notebook_path=notebook_path
                )
            ),
        )

    # --- leases ---------------------------------------------------------------------------------------------------

    async def leases(self, actor: Actor, live: bool = False, cursor: str | None = None, limit: int = 50) -> Json:
        limit = _page(limit)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before = read_cursor(cursor)
            found = lease_store.of_person(unit, person.id, live_only=live, before=before, limit=limit + 1)
            more, found = len(found) > limit, found[:limit]
            return {
                "items": [self._lease_view(unit, lease, now) for lease in found],
                "next": write_cursor(found[-1].created_at, found[-1].id) if more else None,
            }

        return await self._as_person(actor, view)

    async def lease(self, actor: Actor, lease_id: str) -> Json:
        return await self._as_person(
            actor,
            lambda unit, person, now: self._lease_view(unit, self._own_lease(unit, actor, person, lease_id), now),
        )

    async def extend_lease(self, actor: Actor, key: str, lease_id: str, seconds: int, approval_id: str | None = None) -> Json:
        return await self._change_end(actor, key, lease_id, seconds, approval_id)

    async def shorten_lease(self, actor: Actor, key: str, lease_id: str, seconds: int) -> Json:
        return await self._change_end(actor, key, lease_id, -seconds, None)

    async def _change_end(self, actor: Actor, key: str, lease_id: str, seconds: int, approval_id: str | None) -> Json:
        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            self._own_lease(unit, actor, person, lease_id)
            outcome = leases.change_end(
                unit,
                self._calendar,
                lease_id=lease_id,
                person=person,
                by=timedelta(seconds=seconds),
                key=key,
                from_kernel=actor.via is Via.KERNEL,
                approval_id=approval_id,
                settings=self.settings,
                now=now,
            )
            return outcome if isinstance(outcome, ApprovalWanted) else self._lease_view(unit, outcome, now)

        answer = await self._once(actor, key, "change_end", {"lease_id": lease_id, "seconds": seconds}, work)
        # The supervisor learns the new end now, not at the next beat: a shortened lease must not run on unpaid.
        await self._pools.run("backend", self._operator.tick)
        return answer

    async def end_lease(self, actor: Actor, key: str, lease_id: str) -> Json:
        """End it now, without moving the notebook: what runs there is lost. `%gpu off` is the way that keeps it."""

        def work(unit: Unit, person: Person, now: datetime) -> Json:
            self._own_lease(unit, actor, person, lease_id)
            lease = leases.begin_closing(
                unit, self._calendar, lease_id=lease_id, reason=EndReason.RETURNED, message=None, now=now
            )
            return self._lease_view(unit, lease, now)

        answer = await self._once(actor, key, "end_lease", {"lease_id": lease_id}, work)
        await self._pools.run("backend", self._operator.reconcile)
        return answer

    # --- what the notebook wing calls -----------------------------------------------------------------------------

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
        if actor.via is Via.KERNEL and actor.kernel_id != kernel_id:
            raise Forbidden("A kernel may move its own notebook only.")
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            wanted = leases.LeaseRequest(
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
            outcome = leases.request(
                unit, self._calendar, person=person, wanted=wanted, key=key, settings=self.settings, now=now
            )
            return outcome if isinstance(outcome, ApprovalWanted) else self._lease_view(unit, outcome, now)

        return await self._once(actor, key, "take_lease", inputs, work)

    async def start_placement(
        self, lease_id: str, cwd: str, kernel_name: str, session_key: bytes, username: str, env: Mapping[str, str]
    ) -> Json:
        wanted = KernelRequest(cwd, kernel_name, session_key, username, env)
        started = await self._pools.run("backend", lambda: self._operator.start(lease_id, wanted))
        return {
            "placement_id": started.placement.id,
            "connection_info": started.placed.connection_info,
            "warm": started.placed.warm,
            "python_version": started.placed.python_version,
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

    async def orders(self) -> list[Json]:
        orders = await self._write(lambda unit, now: leases.take_orders(unit, settings=self.settings, now=now))
        return [views.order(order) for order in orders]

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


def _not_from_kernel(actor: Actor, message: str) -> None:
    if actor.via is Via.KERNEL:
        raise Forbidden(message)


def _page(limit: int) -> int:
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"A page holds 1 to {PAGE_MAX} items.", field="limit")
    return limit


def _moment(text: str, field: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"`{field}` is a time like 2026-03-02T09:00:00Z.", field=field) from error
    if at.tzinfo is None:
        raise Invalid(f"`{field}` needs a zone, as in 2026-03-02T09:00:00Z.", field=field)
    return at.astimezone(UTC)
