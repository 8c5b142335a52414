"""What a lease will probably cost."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class EstimatesHandler(ComputeHubHandler):
    path = "estimates"

    @authorized("read", resource="computehub:offers")
    async def get(self) -> None:
        self.reply(await self.plane.estimate(self.actor, **self.arguments))
