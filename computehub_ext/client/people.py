"""The facade's calls about a person: account, allowance, approvals, history."""

from __future__ import annotations

from datetime import datetime, timedelta

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
from computehub_ext.reports import history as histories


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
                is_admin=actor.is_admin,
                settings=self.settings,
            )

        return await self._as_person(actor, view)

    async def set_allowance(self, actor: Actor, per_day_microcredits: int) -> Json:
        not_from_kernel(actor, "The allowance of kernels is set in the browser, not from a kernel.")

        def change(unit: Unit, now: datetime) -> None:
            person = self._ensure(unit, actor, now)
            people.set_allowance(unit, person_id=person.id, amount_microcredits=per_day_microcredits, now=now)

        await self._write(change)
        return await self.me(actor)

    async def defaults(self, actor: Actor) -> Json:
        return await self._as_person(actor, lambda unit, person, now: views.defaults(person, self.settings))

    async def set_defaults(self, actor: Actor, **chosen: int | None) -> Json:
        """Set those that are given, in the API's names and units; None follows the administrator."""
        not_from_kernel(actor, "Your defaults are set in the browser or the shell, not from a kernel.")
        changes: dict[str, timedelta | int | None] = {}
        for name, value in chosen.items():
            length = name.removesuffix("_seconds")
            changes[length] = value if length == name or value is None else timedelta(seconds=value)

        def change(unit: Unit, now: datetime) -> Json:
            person = self._ensure(unit, actor, now)
            person = people.set_defaults(unit, person=person, changes=changes, settings=self.settings, now=now)
            return views.defaults(person, self.settings)

        return await self._write(change)

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

    async def history(self, actor: Actor, group: str = "none", cursor: str | None = None, limit: int = 50) -> Json:
        limit = page_size(limit)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            before, account_id = read_cursor(cursor), people.account_of(person)
            if group == "lease":
                grouped = histories.by_lease(unit, account_id, before=before, limit=limit + 1)
                places = [(line.at, line.place) for line in grouped]
                items = [views.grouped_line(line) for line in grouped]
            else:
                lines = ledger.statement(unit, account_id, before=before, limit=limit + 1)
                places = [(line.at, line.entry_id) for line in lines]
                paid = lease_store.ids_by_hold(unit, [line.hold_id for line in lines if line.hold_id])
                items = [views.history_line(line, lease_id=paid.get(line.hold_id or "")) for line in lines]
            more = len(items) > limit
            return {"items": items[:limit], "next": write_cursor(*places[limit - 1]) if more else None}

        return await self._as_person(actor, view)

    async def history_table(
        self, actor: Actor, group: str = "none", cursor: str | None = None, limit: int = 50
    ) -> Json:
        """A page of the history as rows of CSV in ``text``, the first page with their names above."""
        page = await self.history(actor, group=group, cursor=cursor, limit=limit)
        return {"text": histories.as_csv(page["items"], header=cursor is None), "next": page["next"]}
