"""The facade's calls about a person: account, allowance, approvals, history."""

from __future__ import annotations

from datetime import datetime

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.client.edge import Edge, not_from_kernel, page_size
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.cursor import read_cursor, write_cursor
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Forbidden, NotFound
from computehub_ext.leases import store as lease_store
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import Approval, Person


class PeopleCalls(Edge):
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
        not_from_kernel(actor, "The allowance of kernels is set in the browser, not from a kernel.")

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
            return people.decide_approval(unit, approval_id=approval_id, person_id=person.id, approve=approve, now=now)

        return views.approval(await self._write(decide))

    async def history(self, actor: Actor, cursor: str | None = None, limit: int = 50) -> Json:
        limit = page_size(limit)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before = read_cursor(cursor)
            lines = ledger.statement(unit, people.account_of(person), before=before, limit=limit + 1)
            more = len(lines) > limit
            lines = lines[:limit]
            paid = lease_store.ids_by_hold(unit, [line.hold_id for line in lines if line.hold_id])
            return {
                "items": [views.history_line(line, lease_id=paid.get(line.hold_id or "")) for line in lines],
                "next": write_cursor(lines[-1].at, lines[-1].entry_id) if more else None,
            }

        return await self._as_person(actor, view)
