"""What there is to have."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class OffersHandler(ComputeHubHandler):
    path = "offers"

    @authorized("read", resource="computehub:offers")
    async def get(self) -> None:
        self.reply(await self.plane.offers(self.actor))
