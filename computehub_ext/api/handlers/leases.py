"""Leases: looking, moving the end, ending."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class LeasesHandler(ComputeHubHandler):
    path = "leases"

    @authorized("read", resource="computehub:leases")
    async def get(self) -> None:
        self.reply(await self.plane.leases(self.actor, **self.arguments))


class LeaseHandler(ComputeHubHandler):
    path = "leases/{lease_id}"

    @authorized("read", resource="computehub:leases")
    async def get(self, lease_id: str) -> None:
        self.reply(await self.plane.lease(self.actor, **self.arguments))


class LeaseReadingsHandler(ComputeHubHandler):
    path = "leases/{lease_id}/readings"

    @authorized("read", resource="computehub:leases")
    async def get(self, lease_id: str) -> None:
        # Who may use the notebook sees its devices: known on its own server alone, which tells by this setting.
        is_here = self.settings.get("computehub_lease_is_here", lambda lease_id: False)
        self.reply(await self.plane.readings(self.actor, at_its_notebook=is_here(lease_id), **self.arguments))


class LeaseLogHandler(ComputeHubHandler):
    path = "leases/{lease_id}/log"

    @authorized("read", resource="computehub:leases")
    async def get(self, lease_id: str) -> None:
        self.reply(await self.plane.lease_log(self.actor, **self.arguments))


class ExtendLeaseHandler(ComputeHubHandler):
    path = "leases/{lease_id}/extend"

    @authorized("write", resource="computehub:leases")
    async def post(self, lease_id: str) -> None:
        by = self.body()
        self.reply(await self.plane.extend_lease(self.actor, key=self.idempotency_key, **self.arguments, **by))


class ShortenLeaseHandler(ComputeHubHandler):
    path = "leases/{lease_id}/shorten"

    @authorized("write", resource="computehub:leases")
    async def post(self, lease_id: str) -> None:
        by = self.body()
        self.reply(await self.plane.shorten_lease(self.actor, key=self.idempotency_key, **self.arguments, **by))


class EndLeaseHandler(ComputeHubHandler):
    path = "leases/{lease_id}/end"

    @authorized("write", resource="computehub:leases")
    async def post(self, lease_id: str) -> None:
        self.body()
        self.reply(await self.plane.end_lease(self.actor, key=self.idempotency_key, **self.arguments))
