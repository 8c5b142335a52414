"""The account's lines."""

from __future__ import annotations

from computehub_ext.core.web import ComputeHubHandler, authorized

_PAGE = 200


class HistoryHandler(ComputeHubHandler):
    path = "history"

    @authorized("read", resource="computehub:people")
    async def get(self) -> None:
        self.reply(await self.plane.history(self.actor, **self.arguments))


class HistoryTableHandler(ComputeHubHandler):
    """All lines, sent page by page: the table is never whole in memory."""

    path = "history.csv"

    _gone = False

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._gone = True  # who cancels a download is read no further pages

    @authorized("read", resource="computehub:people")
    async def get(self) -> None:
        wanted = self.arguments
        page = await self.plane.history_table(self.actor, limit=_PAGE, **wanted)
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", 'attachment; filename="computehub-history.csv"')
        self.set_header("Cache-Control", "no-store")
        self.write(page["text"])
        while page["next"] is not None and not self._gone:
            await self.flush()
            page = await self.plane.history_table(self.actor, limit=_PAGE, cursor=page["next"], **wanted)
            self.write(page["text"])
        self.finish(set_content_type="text/csv; charset=utf-8")
