"""The account's lines."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized


class HistoryHandler(ComputeHubHandler):
    path = "history"

    @authorized("read", resource="computehub:people")
    async def get(self) -> None:
        self.reply(await self.plane.history(self.actor, **self.arguments))
