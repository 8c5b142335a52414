"""What a slot would cost."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class QuotesHandler(ComputeHubHandler):
    path = "quotes"

    @authorized("read", resource="computehub:offers")
    async def post(self) -> None:
        self.reply(await self.plane.quote(self.actor, **self.body()))
