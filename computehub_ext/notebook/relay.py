"""The ports that a kernel's connection file names: they stay, whichever kernel is behind them.

``jupyter console --existing`` and every other direct client connect here, so that they go along when the notebook
moves, and so that their cells wait at the same gate as the browser's. Browsers do not come this way: the server
connects them to the kernel in place, without a hop more than in plain Jupyter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client.session import DELIM, Session
from tornado.ioloop import IOLoop
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.actor import Actor
from computehub_ext.notebook import wire
from computehub_ext.notebook.wire import ShellRequest, Subscription

_FRONT_TYPES = {"shell": zmq.ROUTER, "control": zmq.ROUTER, "stdin": zmq.ROUTER, "iopub": zmq.XPUB, "hb": zmq.ROUTER}
_ROUTED = ("shell", "control", "stdin")


class RelayPeer:
    """One direct client, known by its ZeroMQ identity."""

    def __init__(self, relay: Relay, identities: list[bytes]) -> None:
        self._relay, self._identities = relay, identities

    def forward(self, request: ShellRequest) -> None:
        self._relay.send_behind("shell", self._identities, request.parts)

    def reply(self, request: ShellRequest, msg_type: str, content: dict[str, Any], metadata: dict[str, Any]) -> None:
        self._relay.answer(self._identities, msg_type, content, request.header, metadata)


@dataclass(eq=False)
class RelaySubscription(Subscription):
    """The same over a socket that passes on the topics of others."""

    topics: list[bytes] = field(default_factory=list)

    def _subscribe(self) -> None:
        for topic in (*self.topics, self.topic):
            self.stream.socket.send(b"\x01" + topic)

    def _forget_topic(self) -> None:
        self.stream.socket.send(b"\x00" + self.topic)


class Relay:
    """The front of one kernel for direct clients.

    Parameters
    ----------
    traffic:
        The kernel's :class:`~computehub_ext.notebook.traffic.Traffic`, which decides about shell requests.
    ports:
        Channels' ports of a relay that this one replaces, after a restart of the server; 0 or absent picks one.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        session: Session,
        traffic: Any,
        ip: str,
        ports: Mapping[str, int],
        curve: tuple[bytes, bytes] | None = None,
    ) -> None:
        self._context, self._traffic = context, traffic
        self._session = Session(key=session.key, signature_scheme=session.signature_scheme)
        self._front: dict[str, ZMQStream] = {}
        self._behind: dict[str, ZMQStream] = {}
        self._old: list[ZMQStream] = []
        self._topics: dict[bytes, int] = {}
        self._info: Mapping[str, Any] | None = None
        self.ports: dict[str, int] = {}
        self.alive = True
        for channel, kind in _FRONT_TYPES.items():
            socket: zmq.Socket[bytes] = context.socket(kind, socket_class=zmq.Socket)
            socket.linger = wire.LINGER_MILLISECONDS
            if kind == zmq.ROUTER:
                socket.router_handover = 1  # a client that comes back under its identity gets its answers
            else:
                socket.xpub_verbose = 1  # each subscriber is announced to the kernel, not only the first
            if curve is not None:
                socket.curve_publickey, socket.curve_secretkey = curve
                socket.curve_server = True
            self.ports[channel] = _bind(socket, ip, ports.get(channel, 0))
            stream = self._front[channel] = ZMQStream(socket, IOLoop.current())
            stream.on_recv(getattr(self, f"_from_{channel}"))

    @property
    def iopub(self) -> ZMQStream | None:
        """What the kernel in place says, if anybody listens here."""
        return self._behind.get("iopub")

    def close(self) -> None:
        for stream in (*self._front.values(), *self._behind.values(), *self._old):
            if not stream.closed():
                stream.on_recv(None)
                stream.close()
        self._front, self._behind, self._old = {}, {}, []

    def stage(self, info: Mapping[str, Any]) -> Subscription | None:
        """Subscribe at a kernel that is not in place yet, if anybody listens here."""
        return RelaySubscription(self._subscriber(info), topics=list(self._topics)) if self._topics else None

    def move(self, info: Mapping[str, Any], *, iopub: ZMQStream | None = None, keep_old: bool = False) -> None:
        """Stand in front of another kernel from now on.

        Parameters
        ----------
        iopub:
            The stream that ``stage`` made.
        keep_old:
            Go on handing out what the kernel before still says, until ``forget_old``.
        """
        self._info = info
        before, self._behind = self._behind, {}
        for channel, stream in before.items():
            if keep_old and channel != "stdin":
                self._old.append(stream)
            else:
                stream.on_recv(None)
                stream.close()
        if "shell" in before:
            self._connect_routed()
        if iopub is not None:
            self._behind["iopub"] = iopub
            iopub.on_recv(self._publish)
        elif self._topics:
            self._connect_iopub()

    def forget_old(self) -> None:
        for stream in self._old:
            if not stream.closed():
                stream.on_recv(None)
                stream.close()
        self._old = []

    # -- to the kernel -------------------------------------------------------------------------------------------------

    def send_behind(self, channel: str, identities: list[bytes], parts: list[bytes]) -> None:
        if channel not in self._behind:
            self._connect_routed()
        if channel in self._behind:
            self._behind[channel].send_multipart([*identities, DELIM, self._session.sign(parts[:4]), *parts])

    def _connect_routed(self) -> None:
        """Connect all three at once and under one identity: a kernel asks for input by the identity of the request."""
        if self._info is None:
            return
        identity = b"computehub-relay-" + self._session.bsession
        for channel in _ROUTED:
            socket = wire.connect(self._context, self._info, channel, identity)
            stream = self._behind[channel] = ZMQStream(socket, IOLoop.current())
            stream.on_recv(self._control_reply if channel == "control" else self._front[channel].send_multipart)

    def _control_reply(self, frames: list[bytes]) -> None:
        self._traffic.controlled(frames, wire.after_identities(frames))
        self._front["control"].send_multipart(frames)

    def _connect_iopub(self) -> None:
        if self._info is None:
            return
        stream = self._behind["iopub"] = self._subscriber(self._info)
        for topic in self._topics:
            stream.socket.send(b"\x01" + topic)
        stream.on_recv(self._publish)

    def _subscriber(self, info: Mapping[str, Any]) -> ZMQStream:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.XSUB, socket_class=zmq.Socket)
        wire.prepare(socket, info)
        socket.connect(wire.address(info, "iopub"))
        return wire.stream(socket, "iopub")

    def _publish(self, frames: list[bytes]) -> None:
        if not frames[0].startswith(wire.READY_TOPIC):
            self._front["iopub"].send_multipart(frames)

    # -- from the clients ----------------------------------------------------------------------------------------------

    def _from_shell(self, frames: list[bytes]) -> None:
        index = frames.index(DELIM) if DELIM in frames else -1
        if index < 1 or frames[index + 1] != self._session.sign(frames[index + 2 : index + 6]):
            return  # a kernel ignores what isn't signed with its key; it must not reach the gate either
        identities, parts = frames[:index], frames[index + 2 :]
        try:
            header = self._session.unpack(parts[0])
            header["msg_id"], header["msg_type"]
        except (ValueError, TypeError, KeyError):
            return
        if not wire.is_sound(parts):
            return
        self._traffic.arrived(ShellRequest(header, parts, RelayPeer(self, identities), self._sender))

    @property
    def _sender(self) -> Actor | None:
        """Who holds the connection file could read it as the person who started the kernel."""
        starter: Actor | None = self._traffic.starter
        return starter

    def _from_control(self, frames: list[bytes]) -> None:
        if "control" not in self._behind:
            self._connect_routed()
        if "control" in self._behind:
            self._behind["control"].send_multipart(frames)

    def _from_stdin(self, frames: list[bytes]) -> None:
        if "stdin" in self._behind:
            self._behind["stdin"].send_multipart(frames)

    def _from_iopub(self, frames: list[bytes]) -> None:
        subscribes, topic = frames[0][:1] == b"\x01", frames[0][1:]
        if subscribes:
            self._topics[topic] = self._topics.get(topic, 0) + 1
        else:
            self._topics.pop(topic, None)  # told once, when the last one left
        if "iopub" in self._behind:
            self._behind["iopub"].send_multipart(frames)
        elif subscribes:
            self._connect_iopub()

    def _from_hb(self, frames: list[bytes]) -> None:
        if self.alive:
            self._front["hb"].send_multipart(frames)

    # -- in the kernel's name ------------------------------------------------------------------------------------------

    def publish(self, message: dict[str, Any]) -> None:
        if self._topics:
            topic = f"computehub.{message['header']['msg_type']}".encode()
            self._front["iopub"].send_multipart(self._session.serialize(message, ident=topic))

    def answer(
        self,
        identities: list[bytes],
        msg_type: str,
        content: dict[str, Any],
        parent: dict[str, Any],
        metadata: dict[str, Any],
    ) -> None:
        message = self._session.msg(msg_type, content, parent={"header": parent}, metadata=metadata)
        self._front["shell"].send_multipart(self._session.serialize(message, ident=identities))


def _bind(socket: zmq.Socket[bytes], ip: str, port: int) -> int:
    if port:
        try:
            socket.bind(f"tcp://{ip}:{port}")
            return port
        except zmq.ZMQError:
            pass  # somebody else has it by now: consoles have to be connected anew
    return socket.bind_to_random_port(f"tcp://{ip}")
