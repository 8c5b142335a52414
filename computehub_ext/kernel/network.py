"""A state's way between two machines that share no folder: TCP under CurveZMQ, with the ticket shown inside.

The side on the node listens, whichever way the state goes: the server reaches the node's kernel in any case, or there
would be no notebook on it, while a node seldom reaches the server's machine. It listens on the one address by which the
server knows it, for one journey, with a key pair of its own that is never used again. The public half travels with the
manifest, through the control plane and over the kernels' own channels: who does not have it gets no further than the
handshake, and who has it but not the ticket is told so and may not guess for long.

The receiver says how many messages it has room for, so that neither side holds more than a window of them.

    who connects   "hello", the ticket
    the receiver   "room", a count: as many messages more may come
    the sender     "data", at most a MiB of the stream
    the receiver   "done", when it has all of it
    who listens    "no", to a wrong ticket; "there?", which needs no answer, to find out whether the other is
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from typing import Any, Callable

from .names import StateError
from .stream import Outgoing

MESSAGE_BYTES = 1 << 20
WINDOW = 16
ROOM_AGAIN = 4
LOOK_SECONDS = 0.5
ANSWER_SECONDS = 15.0
SILENCE_SECONDS = 60.0
HEARTBEAT_SECONDS = 3
WRONG_TICKETS_MAX = 8
LINGER_MILLISECONDS = 2000
_OVERHEAD_BYTES = 64 << 10
_HELLO, _ROOM, _DATA, _DONE, _NO, _THERE = b"hello", b"room", b"data", b"done", b"no", b"there?"
_COUNT = struct.Struct(">I")


class HungUp(StateError):
    """The other side is gone."""


class End:
    """One end of the way: the socket, and who is at the other end of it."""

    def __init__(self, kind: str, host: str) -> None:
        import zmq

        if not zmq.has("curve"):
            raise StateError("This Python's ZeroMQ can't encrypt (it lacks CurveZMQ), so no state goes over a network.")
        self._zmq = zmq
        self._context = zmq.Context()
        self.socket = self._context.socket(getattr(zmq, kind))
        self.socket.linger = LINGER_MILLISECONDS
        self.socket.ipv6 = ":" in host
        self.socket.maxmsgsize = MESSAGE_BYTES + _OVERHEAD_BYTES
        self.socket.heartbeat_ivl = HEARTBEAT_SECONDS * 1000
        self.socket.heartbeat_timeout = HEARTBEAT_SECONDS * 4000
        self.public, self.secret = zmq.curve_keypair()
        self.socket.curve_publickey, self.socket.curve_secretkey = self.public, self.secret
        self._room = 0
        self._given = 0
        self._rest: Any = None

    # --- what the two kinds do each in their way

    def say(self, *frames: Any) -> None:
        """Send one message to the other end; raises ``HungUp`` where there is none any more."""
        raise NotImplementedError

    def hear(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> list[Any]:
        """The next message of the other end; raises ``HungUp`` when it is gone, or silent for so long."""
        raise NotImplementedError

    # --- the journey

    def send(self, outgoing: Outgoing, stopped: Callable[[], bool] = lambda: False) -> None:
        """Send all of it, from where it lies, as fast as the other end takes it."""
        for message in outgoing.messages(MESSAGE_BYTES):
            while self._room == 0:
                self._take_note(self.hear(SILENCE_SECONDS, stopped))
            self._room -= 1
            self.say(_DATA, message)
        while self._take_note(self.hear(SILENCE_SECONDS, stopped)) != _DONE:
            pass

    def _take_note(self, frames: list[Any]) -> bytes:
        kind = bytes(frames[0])
        if kind == _ROOM and len(frames) == 2 and len(frames[1]) == _COUNT.size:
            self._room += min(_COUNT.unpack(bytes(frames[1]))[0], WINDOW)
        return kind

    def receive_into(self, memory: memoryview) -> int:
        """Fill some of the memory, as a socket does."""
        if self._rest is None or not self._rest.nbytes:
            self._make_room()
            while True:
                frames = self.hear(SILENCE_SECONDS)
                if bytes(frames[0]) == _DATA and len(frames) == 2:
                    break
            self._given -= 1
            self._rest = memoryview(frames[1])
        count = min(memory.nbytes, self._rest.nbytes)
        memory[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _make_room(self) -> None:
        free = WINDOW - self._given
        if free >= ROOM_AGAIN:
            self.say(_ROOM, _COUNT.pack(free))
            self._given += free

    def done(self) -> None:
        """Tell the sender that all of it has come."""
        try:
            self.say(_DONE)
        except HungUp:
            pass  # it sees so by itself

    def close(self) -> None:
        self._rest = None
        if not self._context.closed:
            self._context.destroy(linger=LINGER_MILLISECONDS)

    def _received(self) -> list[Any]:
        return [frame.buffer for frame in self.socket.recv_multipart(copy=False)]


class Listener(End):
    """Waits on the node for the one who shows the ticket.

    Parameters
    ----------
    host:
        The node's address, in numbers, as the other machine knows it. Where the node itself does not have it (behind a
        translation of addresses), all of its addresses are listened on.
    port:
        The one to listen on; 0 picks one.
    published:
        The port that the other machine has to ask for, where it is another. Who publishes a port comes to it at an
        address that nobody told us: it is listened on at all of them.
    """

    def __init__(self, ticket: str, host: str, port: int = 0, published: int = 0) -> None:
        super().__init__("ROUTER", host)
        self._digest = hashlib.sha256(ticket.encode()).digest()
        self._peer: bytes | None = None
        self._wrong = 0
        self.socket.curve_server = True
        self.socket.router_mandatory = 1  # who is gone is told, not passed over
        try:
            everywhere = "[::]" if ":" in host else "0.0.0.0"
            bound = self._bind((everywhere,) if published else (_bracketed(host), everywhere), host, port)
        except BaseException:
            self.close()
            raise
        self.address = f"tcp://{_bracketed(host)}:{published or bound}"
        self.curve_key = self.public.decode("ascii")

    def _bind(self, places: tuple[str, ...], host: str, port: int) -> int:
        for where in places:
            try:
                self.socket.bind(f"tcp://{where}:{port or '*'}")
            except self._zmq.ZMQError as error:
                reason = str(error)
                continue
            endpoint: Any = self.socket.last_endpoint
            return int(endpoint.rstrip(b"\0").rpartition(b":")[2])
        raise StateError(f"This kernel's machine can't listen at {host} for the notebook's variables: {reason}.")

    def accept(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait for who shows the ticket; nobody else is listened to from then on."""
        deadline = time.monotonic() + seconds
        while self._peer is None:
            left = deadline - time.monotonic()
            if left <= 0 or self._wrong >= WRONG_TICKETS_MAX or stopped():
                raise HungUp("Nobody came with the right ticket; nothing was restored.")
            if self.socket.poll(int(min(left, LOOK_SECONDS) * 1000) + 1):
                peer, *frames = self._received()
                if self._shows_the_ticket(frames):
                    self._peer = bytes(peer)
                elif bytes(frames[0]) != _ROOM:  # which comes close behind a hello
                    self._wrong += 1
                    self._answer(bytes(peer), _NO)

    def _shows_the_ticket(self, frames: list[Any]) -> bool:
        if len(frames) != 2 or bytes(frames[0]) != _HELLO:
            return False
        return hmac.compare_digest(hashlib.sha256(bytes(frames[1])).digest(), self._digest)

    def say(self, *frames: Any) -> None:
        assert self._peer is not None
        if not self._answer(self._peer, *frames):
            raise HungUp("The other side hung up; nothing was restored.")

    def _answer(self, peer: bytes, *frames: Any) -> bool:
        try:
            self.socket.send_multipart([peer, *frames], copy=len(frames) < 2)
        except self._zmq.ZMQError as error:
            if error.errno != self._zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def hear(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> list[Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stopped():
            if not self.socket.poll(int(LOOK_SECONDS * 1000)):
                self.say(_THERE)
                continue
            peer, *frames = self._received()
            if peer == self._peer and frames:
                return frames
            if bytes(frames[0]) == _HELLO:
                self._answer(bytes(peer), _NO)
        raise HungUp("The other side fell silent; nothing was restored.")


class Caller(End):
    """Goes to the listener and shows the ticket.

    Parameters
    ----------
    patience_seconds:
        How long until the listener, who may have something else to do before, says the first word.
    """

    def __init__(self, address: str, curve_key: str, ticket: str, patience_seconds: float = ANSWER_SECONDS) -> None:
        super().__init__("DEALER", address.partition("//")[2].rpartition(":")[0])
        self._patience_seconds = patience_seconds
        self.socket.curve_serverkey = curve_key.encode("ascii")
        self.socket.reconnect_ivl = -1  # a second connection would be a stranger's
        zmq = self._zmq
        self._lost = self.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self._poller = zmq.Poller()
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self._lost, zmq.POLLIN)
        self.address = address
        self.socket.connect(address)
        self.say(_HELLO, ticket.encode())

    def say(self, *frames: Any) -> None:
        try:
            self.socket.sndtimeo = int(SILENCE_SECONDS * 1000)
            self.socket.send_multipart(frames, copy=False)
        except self._zmq.Again:
            raise HungUp("The other side hung up; nothing was restored.") from None

    def hear(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> list[Any]:
        deadline = time.monotonic() + (self._patience_seconds or seconds)
        while (left := deadline - time.monotonic()) > 0 and not stopped():
            ready = dict(self._poller.poll(int(min(left, LOOK_SECONDS) * 1000) + 1))
            if self.socket in ready:  # first of all: who is done hangs up behind the last message
                frames = self._received()
                kind = bytes(frames[0])
                if kind == _NO:
                    raise StateError("The other side does not know this ticket; nothing was restored.")
                self._patience_seconds = 0.0
                if kind != _THERE:
                    return frames
            elif ready:
                raise HungUp("The other side hung up; nothing was restored.")
        raise HungUp(f"There was no answer from {self.address}; nothing was restored.")

    def close(self) -> None:
        if not self.socket.closed:
            self.socket.disable_monitor()
            self._lost.close(0)
        super().close()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
