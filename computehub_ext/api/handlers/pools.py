"""The calendar of one pool."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class AvailabilityHandler(ComputeHubHandler):
    path = "pools/{pool_id}/availability"

    @authorized("read", resource="computehub:offers")
    async def get(self, pool_id: str) -> None:
        self.reply(await self.plane.availability(self.actor, **self.arguments))
