"""The browser's connections to a kernel, in front of whichever kernel is behind the id."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from jupyter_server.services.kernels.connection.base import (
    deserialize_binary_message,
    serialize_msg_to_ws_v1,
)
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.websocket import WebSocketClosedError
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.actor import Actor
from computehub_ext.notebook import wire
from computehub_ext.notebook.wire import ShellRequest, Subscription

V1 = "v1.kernel.websocket.jupyter.org"
CHANNELS = ("iopub", "shell", "control", "stdin")


class GatedConnection(ZMQChannelsWebsocketConnection):
    """Stamps each message with the authenticated user and sends cells through the kernel's gate.

    Kernels that can't be switched (another language, another provisioner) get Jupyter's own connection, untouched.
    """

    _old: list[dict[str, ZMQStream]]
    _restart_untold = False

    @property
    def traffic(self) -> Any:
        """The kernel's traffic, or None for a kernel that can't be switched."""
        return getattr(self.kernel_manager, "traffic", None)

    # -- connecting ----------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        self._username = self.websocket_handler.current_user.username
        identify = self.websocket_handler.settings.get("computehub_identify")
        self._person: Actor | None = identify(self.websocket_handler) if identify else None
        self._old = []
        await super().prepare()

    def create_stream(self) -> None:
        if self.traffic is None:
            super().create_stream()
            return
        self.channels, _ = self.connected(self.kernel_manager.place.connection_info)
        for stream in self.channels.values():
            stream.on_recv_stream(self.handle_outgoing_message)

    def connected(self, info: dict[str, Any]) -> tuple[dict[str, ZMQStream], Subscription]:
        """Connect all channels to a kernel."""
        streams = {}
        for channel in CHANNELS:
            socket = wire.connect(self.kernel_manager.context, info, channel, self.session.bsession)
            stream = streams[channel] = wire.stream(socket, channel)
            stream.channel = channel  # type: ignore[attr-defined]  # as Jupyter's own connection does
        return streams, Subscription(streams["iopub"])

    def nudge(self) -> asyncio.Future[None]:
        """Resolve once the kernel has heard of our subscription, so that no output is lost.

        Jupyter's own asks for kernel information until something comes back. Ours has the kernel announce it, which
        also works while a cell runs; and it is told when the kernel changes meanwhile.
        """
        if self.traffic is None:
            nudged: asyncio.Future[None] = super().nudge()
            return nudged
        self.traffic.connections.add(self)
        # A cell's answer is several small messages. Held back until the browser has confirmed the one before, as is a
        # socket's default, they take up to 40 ms.
        self.websocket_handler.set_nodelay(True)
        return asyncio.ensure_future(self._subscribed())

    async def _subscribed(self) -> None:
        # Channels that went on while the browser was away were heard of long ago, unless the kernel has just changed.
        subscription = getattr(self.channels["iopub"], "subscription", None)
        if subscription is not None:
            await self.kernel_manager.heard(subscription)

    def disconnect(self) -> None:  # type: ignore[override]
        if self.traffic is not None:
            self.traffic.connections.discard(self)
            self.forget_old()
        super().disconnect()

    def on_kernel_restarted(self) -> None:
        """A kernel that died is about to be restarted. A browser that hears of it forgets the cell that ran, and so
        where to show why a leased kernel died: it is told after that."""
        if self.traffic is not None and self.kernel_manager.lease_id is not None:
            self._restart_untold = True
        else:
            super().on_kernel_restarted()

    def tell_restart(self) -> None:
        """Tell the browser now, if it was not."""
        if self._restart_untold:
            self._restart_untold = False
            super().on_kernel_restarted()

    # -- from the browser ----------------------------------------------------------------------------------------------

    def handle_incoming_message(self, incoming_msg: Any) -> None:
        if self.traffic is None or not self.channels:
            super().handle_incoming_message(incoming_msg)
            return
        try:
            channel, header, parts = self._unpacked(incoming_msg)
            msg_type = header["msg_type"]
            header["msg_id"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            self.log.warning("Ignoring a malformed message for kernel %s", self.kernel_id)
            return
        if channel not in self.channels:
            self.log.warning("No such channel: %r", channel)
            return
        allowed = self.multi_kernel_manager.allowed_message_types
        if allowed and msg_type not in allowed:
            self.log.warning('Received message of type "%s", which is not allowed. Ignoring.', msg_type)
            return
        if header.get("username") != self._username:
            header["username"] = self._username
            parts[0] = self.session.pack(header)
        if channel != "shell":
            self.session.send_raw(self.channels[channel], parts)
        elif wire.is_sound(parts):
            self.traffic.arrived(ShellRequest(header, parts, self, self._person))

    def _unpacked(self, incoming: Any) -> tuple[str, dict[str, Any], list[bytes]]:
        if self.subprotocol == V1:
            channel, parts = wire.unpacked_v1(incoming)
            return channel, json.loads(parts[0]), parts
        message = deserialize_binary_message(incoming) if isinstance(incoming, bytes) else json.loads(incoming)
        pack = self.session.pack
        parts = [pack(message[name]) for name in ("header", "parent_header", "metadata", "content")]
        header = json.loads(parts[0])
        return message.get("channel") or "shell", header, [*parts, *message.get("buffers", [])]

    def forward(self, request: ShellRequest) -> None:
        stream = self.channels.get("shell")
        if stream is not None and not stream.closed():
            self.session.send_raw(stream, request.parts)
        else:
            # The browser went away while its cell waited: it runs all the same, as one that a kernel had queued.
            self.kernel_manager.send_for(request)

    # -- to the browser ------------------------------------------------------------------------------------------------

    def handle_outgoing_message(self, stream: Any, outgoing_msg: list[Any]) -> None:
        if outgoing_msg[0].startswith(wire.READY_TOPIC):
            return
        super().handle_outgoing_message(stream, outgoing_msg)
        if self.traffic is None:
            return
        channel = getattr(stream, "channel", stream)
        if channel == "shell":
            at = wire.after_identities(outgoing_msg)
            if b'"execute_reply"' in outgoing_msg[at]:
                self.traffic.replied(json.loads(outgoing_msg[at + 1]).get("msg_id", ""))
        elif channel == "control":
            self.traffic.controlled(outgoing_msg, wire.after_identities(outgoing_msg))

    def send_to_browser(self, channel: str, message: dict[str, Any]) -> None:
        """Send a message that the server made in the kernel's name."""
        try:
            if self.subprotocol == V1:
                self.write_message(serialize_msg_to_ws_v1(message, channel, self.session.pack), binary=True)
            else:
                self.write_message(self._reserialize_reply({"buffers": [], **message}, channel=channel))
        except WebSocketClosedError:
            self.log.debug("The browser of kernel %s went away", self.kernel_id)

    def reply(self, request: ShellRequest, msg_type: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
        message = self.session.msg(msg_type, content, parent={"header": request.header}, metadata=metadata)
        self.send_to_browser("shell", message)

    # -- when the kernel changes ---------------------------------------------------------------------------------------

    def move(self, streams: dict[str, ZMQStream], *, keep_old: bool) -> None:
        """Go over to channels that are connected to another kernel; at once, between two messages."""
        before, self.channels = self.channels, streams
        for stream in streams.values():
            stream.on_recv_stream(self.handle_outgoing_message)
        self._old.append(before)
        if not keep_old:
            self.forget_old()

    def forget_old(self) -> None:
        """Stop listening to kernels of before: until then their late output still comes through."""
        for streams in getattr(self, "_old", []):
            close_all(streams)
        self._old = []


def close_all(streams: dict[str, ZMQStream]) -> None:
    for stream in streams.values():
        if not stream.closed():
            stream.on_recv(None)
            stream.close()
