"""A terminal beside a lease's kernel.

Not among Jupyter's own ``/terminals``: those are for whoever may use the server, this is for who pays for the lease.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.base.websocket import WebSocketMixin
from tornado.web import HTTPError
from tornado.websocket import WebSocketHandler

from computehub_ext.api.terminals import Conversation
from computehub_ext.core.web import ComputeHubHandler, authorized

MESSAGE_BYTES_MAX = 1024 * 1024
"""Somebody may paste a file."""


class LeaseTerminalHandler(WebSocketMixin, WebSocketHandler, ComputeHubHandler):
    path = "leases/{lease_id}/terminals/websocket/{terminal_name}"

    async def prepare(self) -> None:  # type: ignore[override]
        # As for every other route; Jupyter's own for websockets would pass by it.
        await ComputeHubHandler.prepare(self)

    @authorized("execute", resource="computehub:leases")
    async def get(self, lease_id: str, terminal_name: str) -> None:
        self._conversation = Conversation(self, self.plane, self.actor, **self.arguments)
        await self.plane.check_terminal(self.actor, lease_id=lease_id)
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise HTTPError(400, "This address is for a WebSocket.")
        await super().get(lease_id, terminal_name)

    @property
    def route_class(self) -> str:
        """Starting a shell costs more than a look does."""
        return "write"

    @property
    def max_message_size(self) -> int:
        return MESSAGE_BYTES_MAX

    def get_compression_options(self) -> Any:
        return None

    def open(self, *arguments: Any, **named: Any) -> None:
        super().open(*arguments, **named)
        self._conversation.begin()

    async def on_message(self, message: str | bytes) -> None:
        await self._conversation.heard(message)

    def on_close(self) -> None:
        super().on_close()
        self._conversation.close()
