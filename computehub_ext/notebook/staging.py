"""Connections to a kernel that is not in place yet: everybody who listens is connected before anything changes over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.notebook import wire
from computehub_ext.notebook.code import Line
from computehub_ext.notebook.places import Place
from computehub_ext.notebook.websocket import close_all
from computehub_ext.notebook.wire import Subscription


@dataclass
class Staged:
    """Connections to a kernel that is not in place yet, of all who will listen to it."""

    place: Place
    line: Line
    activity: tuple[ZMQStream, Subscription] | None = None
    browsers: dict[Any, tuple[dict[str, ZMQStream], Subscription]] = field(default_factory=dict)
    buffered: tuple[dict[str, ZMQStream], Subscription] | None = None
    relay: Subscription | None = None

    def close(self) -> None:
        """Close the connections; the line is its maker's."""
        if self.activity is not None:
            close_all({"iopub": self.activity[0]})
        if self.buffered is not None:
            close_all(self.buffered[0])
        if self.relay is not None:
            close_all({"iopub": self.relay.stream})
        for streams, _ in self.browsers.values():
            close_all(streams)


async def stage(kernel: Any, place: Place, line: Line) -> Staged:
    """Connect all who listen to ``kernel`` to another one, and wait until that one has heard of them.

    Parameters
    ----------
    kernel:
        The :class:`~computehub_ext.notebook.kernel.SwitchableKernelManager`, which calls this module in turn.
    """
    staged = Staged(place, line)
    try:
        await complete(kernel, staged)
    except BaseException:
        staged.close()
        raise
    return staged


async def complete(kernel: Any, staged: Staged) -> None:
    """Stage those who came since."""
    info = staged.place.connection_info
    while True:
        waited: list[Subscription] = []
        if staged.activity is None:
            socket = wire.connect(kernel.context, info, "iopub", drops_nothing=True)
            stream = wire.stream(socket, "iopub")
            staged.activity = stream, Subscription(stream)
            waited.append(staged.activity[1])
        for connection in list(kernel.traffic.connections):
            if connection not in staged.browsers and connection.channels:
                staged.browsers[connection] = connection.connected(info)
                waited.append(staged.browsers[connection][1])
        if staged.buffered is None and (buffered := connected_buffer(kernel, info)) is not None:
            staged.buffered = buffered
            waited.append(buffered[1])
        if staged.relay is None and (relayed := kernel.relay.stage(info)) is not None:
            staged.relay = relayed
            waited.append(relayed)
        if not waited:
            return
        for subscription in waited:
            subscription.stream.on_recv(_pass_over)
        await asyncio.gather(*(kernel.heard(subscription, info) for subscription in waited))


def connected_buffer(kernel: Any, info: Mapping[str, Any]) -> tuple[dict[str, ZMQStream], Subscription] | None:
    """Connect the channels of a browser that is away, under its own identity, if one left any."""
    buffer = kernel.kernels._kernel_buffers.get(kernel.kernel_id)
    if not buffer or not buffer["channels"]:
        return None
    streams = {}
    for channel, stream in buffer["channels"].items():
        identity = stream.socket.identity if not stream.closed() else None
        new = streams[channel] = wire.stream(wire.connect(kernel.context, info, channel, identity), channel)
        new.channel = channel  # type: ignore[attr-defined]  # as Jupyter's own connection marks its streams
    return streams, Subscription(streams["iopub"])


def _pass_over(frames: list[bytes]) -> None:
    """What a kernel says before it is in place is nobody's."""
