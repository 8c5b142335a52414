"""Jupyter's messages and sockets, in the few forms that the server handles without unpacking them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import zmq
from jupyter_client.connect import channel_socket_types
from jupyter_client.session import DELIM
from tornado.ioloop import IOLoop
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.actor import Actor

READY_TOPIC = b"computehub-ready."
"""Nobody publishes under it. A kernel that announces subscriptions answers to it, and so tells that it has heard all
that the same socket subscribed to before."""

LINGER_MILLISECONDS = 1000


class Client(Protocol):
    """Somebody who sends a kernel requests: a browser's websocket or a peer of the relay."""

    def forward(self, request: ShellRequest) -> None:
        """Send the request to the kernel in place."""

    def reply(self, request: ShellRequest, msg_type: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Answer the request in the kernel's name."""


@dataclass(eq=False)
class ShellRequest:
    """A request on its way to a kernel, with its parts as they came.

    Parameters
    ----------
    header:
        Unpacked, with the authenticated user in it.
    parts:
        Header, parent header, metadata, content and buffers, packed.
    client:
        Who sent it.
    sender:
        The person behind it, as the server's own login knows them; None where it knows nobody.
    """

    header: dict[str, Any]
    parts: list[bytes]
    client: Client
    sender: Actor | None = None

    @property
    def msg_id(self) -> str:
        return self.header["msg_id"]

    @property
    def msg_type(self) -> str:
        return self.header["msg_type"]

    @property
    def subshell_id(self) -> str | None:
        return self.header.get("subshell_id")

    @cached_property
    def content(self) -> dict[str, Any]:
        content = json.loads(bytes(self.parts[3]))
        return content if isinstance(content, dict) else {}

    @property
    def comm_id(self) -> str | None:
        return self.content.get("comm_id")

    @property
    def stops_on_error(self) -> bool:
        silent = self.content.get("silent", False)
        return bool(self.content.get("stop_on_error", True)) and not silent


def unpacked_v1(raw: bytes) -> tuple[str, list[bytes]]:
    """Channel and parts of a message in the protocol v1.kernel.websocket.jupyter.org.

    Raises
    ------
    ValueError
        It is none. Believed unchecked, eight bytes of nonsense are a count of parts that fills the memory.
    """
    count = int.from_bytes(raw[:8], "little")
    if not 6 <= count <= len(raw) // 8:
        raise ValueError("no message of this protocol")
    at = [int.from_bytes(raw[8 * (i + 1) : 8 * (i + 2)], "little") for i in range(count)]
    return raw[at[0] : at[1]].decode(), [raw[at[i] : at[i + 1]] for i in range(1, count - 1)]


def is_sound(parts: list[bytes]) -> bool:
    """Tell whether a kernel can unpack these parts. It ignores what it can't, and the gate would wait for ever."""
    try:
        return len(parts) >= 4 and all(isinstance(json.loads(bytes(part)), dict) for part in parts[1:4])
    except ValueError:
        return False


def after_identities(frames: list[bytes]) -> int:
    """Index of the header in a message as it comes off a socket (identities, delimiter, signature, header, ...)."""
    return frames.index(DELIM) + 2


def connect(
    context: zmq.Context[Any],
    info: Mapping[str, Any],
    channel: str,
    identity: bytes | None = None,
    *,
    drops_nothing: bool = False,
) -> zmq.Socket[bytes]:
    """Connect a plain socket to one channel of a kernel."""
    socket: zmq.Socket[bytes] = context.socket(channel_socket_types[channel], socket_class=zmq.Socket)
    prepare(socket, info, identity)
    if drops_nothing:
        socket.rcvhwm = 0
    socket.connect(address(info, channel))
    return socket


def prepare(socket: zmq.Socket[bytes], info: Mapping[str, Any], identity: bytes | None = None) -> None:
    socket.linger = LINGER_MILLISECONDS
    if identity:
        socket.identity = identity
    if info.get("curve_publickey"):
        public, secret = _bytes(info["curve_publickey"]), _bytes(info["curve_secretkey"])
        socket.curve_publickey, socket.curve_secretkey, socket.curve_serverkey = public, secret, public


def address(info: Mapping[str, Any], channel: str) -> str:
    transport, ip, port = info.get("transport", "tcp"), info["ip"], info[f"{channel}_port"]
    return f"{transport}://{ip}:{port}" if transport == "tcp" else f"{transport}://{ip}-{port}"


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("ascii")


class IopubStream(ZMQStream):
    """What a kernel publishes. Its subscription takes note of what comes, whoever receives it just then."""

    subscription: Subscription | None = None

    def on_recv(self, callback: Callable[[list[bytes]], Any] | None, copy: bool = True) -> None:  # type: ignore[override]
        subscription = self.subscription
        if callback is None or subscription is None or subscription.heard.done():
            super().on_recv(callback, copy)
            return

        def note_and_pass_on(frames: list[bytes]) -> None:
            subscription.saw(frames)
            callback(frames)

        super().on_recv(note_and_pass_on, copy)


def stream(socket: zmq.Socket[bytes], channel: str) -> ZMQStream:
    """Read a channel's socket in the running loop."""
    return (IopubStream if channel == "iopub" else ZMQStream)(socket, IOLoop.current())


@dataclass(eq=False)
class Subscription:
    """An iopub stream that knows when its kernel has heard of it."""

    stream: ZMQStream
    topic: bytes = field(default_factory=lambda: READY_TOPIC + secrets.token_hex(8).encode())
    heard: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def __post_init__(self) -> None:
        assert isinstance(self.stream, IopubStream)
        self.stream.subscription = self
        self._subscribe()

    def _subscribe(self) -> None:
        self.stream.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.stream.socket.setsockopt(zmq.SUBSCRIBE, self.topic)

    def _forget_topic(self) -> None:
        self.stream.socket.setsockopt(zmq.UNSUBSCRIBE, self.topic)

    def saw(self, frames: list[bytes]) -> None:
        """Note what came in: the announcement, or anything that the kernel publishes."""
        if not self.heard.done() and (not frames[0].startswith(READY_TOPIC) or frames[0] == self.topic):
            self.heard.set_result(None)
            if not self.stream.closed():
                self._forget_topic()
