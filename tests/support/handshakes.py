"""Whether a stranger is let in at a port."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message


def handshake(address: str, kind: int, keys: tuple[bytes, bytes] | None) -> int | None:
    """Return how the first handshake ends; None if the other end never answers it."""
    ends = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    context = zmq.Context()
    try:
        client = context.socket(kind)
        client.linger = 0
        if keys is not None:
            client.curve_publickey, client.curve_secretkey = keys
            client.curve_serverkey = keys[0]
        monitor = client.get_monitor_socket(ends)
        client.connect(address)
        return int(parse_monitor_message(monitor.recv_multipart())["event"]) if monitor.poll(1000) else None
    finally:
        context.destroy(linger=0)
