"""The facade's calls about leases: what their holders ask for."""

from __future__ import annotations

from datetime import datetime, timedelta

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.client.edge import Edge, moment, page_size
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.cursor import read_cursor, write_cursor
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Invalid
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import EndReason
from computehub_ext.people.model import ApprovalWanted, Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Device
from computehub_ext.pools.readings import Reading


class LeaseCalls(Edge):
    async def leases(
        self,
        actor: Actor,
        live: bool = False,
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Json:
        limit = page_size(limit)
        if live and state == "closed":
            raise Invalid("A lease that is closed is not live: leave out `live`.", field="state")
        is_open = True if live else None if state is None else state == "open"

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before = read_cursor(cursor)
            found = lease_store.of_person(unit, person.id, is_open=is_open, before=before, limit=limit + 1)
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

    async def readings(
        self, actor: Actor, lease_id: str, since: str | None = None, *, at_its_notebook: bool = False
    ) -> Json:
        """What the lease's devices said, an hour back.

        Parameters
        ----------
        at_its_notebook:
            The caller asks as one who may use the notebook that this lease serves, which the notebook's server knows.
        """
        after = None if since is None else moment(since, "since")

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            shared = at_its_notebook and actor.via is not Via.KERNEL
            lease = leases.find(unit, lease_id) if shared else self._own_lease(unit, actor, person, lease_id)
            pool = pools.get_pool(unit, lease.pool_id)
            kept: dict[str, tuple[Device, list[Reading]]] = {d.id: (d, []) for d in self._devices_of(unit, lease)}
            kept |= {device.id: (device, found) for device, found in self._sampler.of(lease.id)}
            return views.readings(
                lease,
                pool=pool,
                devices=[
                    views.device_readings(device, [r for r in found if after is None or r.at > after], pool=pool)
                    for device, found in sorted(kept.values(), key=lambda each: each[0].index)
                ],
                interval_seconds=self._sampler.interval_seconds,
                now=now,
            )

        return await self._as_person(actor, view)

    async def lease_log(self, actor: Actor, lease_id: str) -> Json:
        """The end of what the lease's newest kernel wrote outside its channels, for its payer and administrators.

        While it waits for what was booked, what it waits for.
        """

        def newest(unit: Unit, person: Person, now: datetime) -> tuple[str | None, str]:
            lease = self._own_lease(unit, actor, person, lease_id)
            placements = lease_store.placements_of(unit, lease.id)
            return (placements[-1].id if placements else None), lease.booking_id

        placement_id, booking_id = await self._as_person(actor, newest)

        def read() -> str | None:
            return self._operator.log(placement_id) if placement_id else self._operator.log_of_booking(booking_id)

        text = await self._pools.run("backend", read)
        return {"lease_id": lease_id, "kept": text is not None, "text": text or ""}

    async def extend_lease(
        self, actor: Actor, key: str, lease_id: str, seconds: int, approval_id: str | None = None
    ) -> Json:
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
        await self._pools.run("backend", lambda: self._operator.tell(lease_id))
        return answer

    async def end_lease(self, actor: Actor, key: str, lease_id: str) -> Json:
        """End it now, without moving the notebook: what runs there is lost. `%gpu off` is the way that keeps it."""

        def work(unit: Unit, person: Person, now: datetime) -> Json:
            self._own_lease(unit, actor, person, lease_id)
            lease = self._operator.begin_closing(unit, lease_id, EndReason.RETURNED, now=now)
            return self._lease_view(unit, lease, now)

        answer = await self._once(actor, key, "end_lease", {"lease_id": lease_id}, work)
        await self._pools.run("backend", self._operator.reconcile)
        return answer
