"""Moving a state from one kernel to another, once, to whoever shows the ticket.

The manifest that ``offer`` returns travels through the control plane, which is trusted; the bytes travel kernel to
kernel. Whoever holds the manifest alone gets nothing, and a target that holds it believes no other bytes.

Two kernels of one machine meet at a unix socket in a folder that nobody else enters. It may be the folder of one of
them, whose user is another: then the other one is root. Two machines meet over the network (see ``network.py``), where
the side on the node listens, be it the one that offers or the one that fetches.

The source must stay idle between ``offer`` and the end of the transfer: its memory is sent in place, so that a change
after the hash makes the target refuse. (The server forwards no cell in that time.)
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable

from .capture import capture
from .names import Keep, StateError
from .restore import allocate, commit, load
from .stream import Incoming, Outgoing

OFFER_TIMEOUT_SECONDS = 120.0
TICKET_TIMEOUT_SECONDS = 5.0
IDLE_TIMEOUT_SECONDS = 60.0
WRONG_TICKETS_MAX = 8
_HELLO = struct.Struct(">4sH")
_MAGIC = b"CHK1"
_PEER = struct.Struct("3i")
_TICKET_BYTES_MAX = 4096
# The kernel's limit for a socket's path is 108 bytes with its end; longer ones go through /proc.
_SOCKET_PATH_MAX = 100
_SOCKET_BUFFER_BYTES = 4 << 20

_open_offers: dict[str, Any] = {}
_expected: dict[str, Any] = {}


def offer(
    namespace: dict[str, Any],
    keep: Keep = "all",
    ticket: str = "",
    directory: str | None = None,
    *,
    network: Mapping[str, Any] | None = None,
    target_python: str | None = None,
    timeout_seconds: float = OFFER_TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Capture the namespace and serve it, once, to whom the ticket is for.

    Parameters
    ----------
    keep:
        "all", "none" or a list of names.
    ticket:
        The secret of this one transfer.
    directory:
        A folder that only its owner can enter, who is this user or whom this one, as root, meets there; without one,
        TCP on the loopback interface.
    network:
        To another machine instead: ``{"host", "port", "published"}`` to listen here (see ``network.Listener``), or
        what ``expect`` gave there, to go to it.
    target_python:
        The target's version ("3.12.1"), where known: what can't be carried to it is then among the lost.

    Returns
    -------
    The manifest, ready for JSON: address, curve_key (over a network), size, sha256, names, lost, warnings, modules,
    python, cwd, sys_path, cuda_used, same_python, execution_count, total_bytes.
    """
    if not ticket:
        raise StateError("A state is only offered under a ticket.")
    captured = capture(namespace, keep, target_python=target_python)
    outgoing = Outgoing(captured.header, captured.pickles, captured.blocks)
    manifest = dict(captured.manifest)
    manifest["size"] = outgoing.size
    manifest["sha256"] = outgoing.sha256
    one: Any
    if network is None:
        listening, manifest["address"], owner = _listen(directory)
        one = _Offer(listening, manifest["address"], ticket, outgoing, time.monotonic() + timeout_seconds, owner)
    else:
        one = _FarOffer(network, ticket, outgoing, timeout_seconds)
        manifest["address"], manifest["curve_key"] = one.address, one.curve_key
    _open_offers[one.address] = one
    threading.Thread(target=one.serve, name="computehub-offer", daemon=True).start()
    return manifest


def withdraw(address: str | None = None) -> int:
    """End the offer at this address, or all of them, and free the memory that they hold. How many there were."""
    chosen = [one for key, one in list(_open_offers.items()) if address in (None, key)]
    for one in chosen:
        one.close()
    return len(chosen)


def expect(ticket: str, host: str, port: int = 0, published: int = 0) -> dict[str, str]:
    """Listen here for another machine's offer, which ``fetch`` then takes in.

    Returns
    -------
    {address, curve_key}, for the other side's ``offer``.
    """
    from . import network

    if not ticket:
        raise StateError("A state is only awaited under a ticket.")
    listener = network.Listener(ticket, host, port, published)
    _expected[listener.address] = listener
    return {"address": listener.address, "curve_key": listener.curve_key}


def fetch(
    namespace: dict[str, Any], manifest: dict[str, Any], ticket: str, *, accept_failures: bool = False
) -> dict[str, Any]:
    """Receive the offered state, verify size and hash, then restore it, all or nothing.

    With ``accept_failures`` what can be rebuilt is restored although something else could not.

    Returns
    -------
    {restored: [names], failed: [{name, reason}], notes: [str], bytes, seconds}; with anything in ``failed`` that was
    not accepted, the namespace is as it was.
    """
    started = time.monotonic()
    with _receiving(manifest, ticket) as receive_into:
        incoming = Incoming(receive_into, int(manifest["size"]), str(manifest["sha256"]))
        incoming.read(allocate)
    incoming.verify()
    loaded = load(namespace, incoming.header, incoming.pickles, incoming.blocks)
    _note_another_python(loaded, str(manifest.get("python") or ""))
    restored = commit(namespace, loaded, manifest.get("execution_count"), accept_failures=accept_failures)
    return {
        "restored": restored,
        "failed": loaded.failed,
        "notes": loaded.notes,
        "bytes": int(manifest["size"]),
        "seconds": round(time.monotonic() - started, 3),
    }


@contextmanager
def _receiving(manifest: Mapping[str, Any], ticket: str) -> Iterator[Callable[[memoryview], int]]:
    """The offered bytes, however they come."""
    address = str(manifest["address"])
    if not address.startswith("tcp://"):
        with _connect(address) as connection:
            _widen(connection, socket.SO_RCVBUF)
            secret = ticket.encode()
            connection.sendall(_HELLO.pack(_MAGIC, len(secret)) + secret)
            yield connection.recv_into
        return
    from . import network

    end: Any = _expected.pop(address, None)
    try:
        if end is None:
            end = network.Caller(address, str(manifest["curve_key"]), ticket)
        else:
            end.accept(network.ANSWER_SECONDS)
        yield end.receive_into
        end.done()
    finally:
        if end is not None:
            end.close()


def _note_another_python(loaded: Any, theirs: str) -> None:
    ours = ".".join(str(part) for part in sys.version_info[:3])
    if theirs and not loaded.failed and theirs.split(".")[:2] != ours.split(".")[:2]:
        loaded.place.note(f"Python is {ours} here and was {theirs}: functions were compiled again from their cells.")


class _FarOffer:
    """An offer to another machine: one end of the way, and the memory that it may send once."""

    def __init__(self, network: Mapping[str, Any], ticket: str, outgoing: Outgoing, timeout_seconds: float) -> None:
        from . import network as way

        self.outgoing, self.timeout_seconds = outgoing, timeout_seconds
        self.listener: Any = None
        self._ticket = ticket
        if "curve_key" in network:
            self.address, self.curve_key = str(network["address"]), str(network["curve_key"])
        else:
            ports = int(network.get("port") or 0), int(network.get("published") or 0)
            self.listener = way.Listener(ticket, str(network["host"]), *ports)
            self.address, self.curve_key = self.listener.address, self.listener.curve_key

    def serve(self) -> None:
        from . import network as way

        end = self.listener
        try:
            if end is None:
                end = way.Caller(self.address, self.curve_key, self._ticket, self.timeout_seconds)
            else:
                end.accept(self.timeout_seconds, self._is_withdrawn)
            end.send(self.outgoing, self._is_withdrawn)
        except Exception:
            pass  # The time is up, the offer was withdrawn, or the target went away; it tells its own story.
        finally:
            # A socket of ZeroMQ's is closed by the thread that uses it.
            if end is not None:
                end.close()
            self.close()

    def _is_withdrawn(self) -> bool:
        return not self.outgoing.pieces

    def close(self) -> None:
        _open_offers.pop(self.address, None)
        self.outgoing.close()


class _Offer:
    """One listening socket, and the memory that it may hand out once."""

    def __init__(
        self, listening: Any, address: str, ticket: str, outgoing: Outgoing, deadline: float, owner: int | None = None
    ) -> None:
        self.listening = listening
        self.address = address
        self.digest = hashlib.sha256(ticket.encode()).digest()
        self.outgoing = outgoing
        self.deadline = deadline
        self.owner = owner
        self._closing = threading.Lock()

    def serve(self) -> None:
        try:
            for _ in range(WRONG_TICKETS_MAX):
                left = self.deadline - time.monotonic()
                if left <= 0:
                    return
                self.listening.settimeout(left)
                connection, _peer = self.listening.accept()
                with connection:
                    if self._may_ask(connection) and self._shows_the_ticket(connection):
                        # From here on nobody else gets in, however this ends.
                        self._stop_listening()
                        connection.settimeout(IDLE_TIMEOUT_SECONDS)
                        _widen(connection, socket.SO_SNDBUF)
                        self.outgoing.send(connection)
                        return
        except OSError:
            pass  # The time is up, the offer was withdrawn, or the target went away; it tells its own story.
        finally:
            self.close()

    def _may_ask(self, connection: Any) -> bool:
        """In another user's folder only that user and root are heard, whatever its owner does with the folder."""
        if self.owner is None:
            return True
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return _PEER.unpack(peer)[1] in (self.owner, 0)

    def _shows_the_ticket(self, connection: Any) -> bool:
        connection.settimeout(TICKET_TIMEOUT_SECONDS)
        try:
            magic, length = _HELLO.unpack(_exactly(connection, _HELLO.size))
            if magic != _MAGIC or length > _TICKET_BYTES_MAX:
                return False
            shown = hashlib.sha256(_exactly(connection, length)).digest()
        except (OSError, StateError):
            return False
        return hmac.compare_digest(shown, self.digest)

    def _stop_listening(self) -> None:
        self.listening.close()
        if os.sep in self.address:
            try:
                os.unlink(self.address)
            except OSError:
                pass

    def close(self) -> None:
        with self._closing:
            _open_offers.pop(self.address, None)
            try:
                # A thread that waits in accept() is woken by this, not by close().
                self.listening.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._stop_listening()
            self.outgoing.close()


def _widen(connection: Any, side: int) -> None:
    """Ask for a large buffer: the two processes then take turns hundreds of times, not thousands."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, side, _SOCKET_BUFFER_BYTES)
    except OSError:
        pass  # the usual size, then


def _exactly(connection: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise StateError("The other side hung up.")
        data += more
    return data


def _listen(directory: str | None) -> tuple[Any, str, int | None]:
    """A listening socket, its address, and whose folder it is in where that is not this user."""
    if directory is None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        return listening, f"127.0.0.1:{listening.getsockname()[1]}", None
    entry = os.stat(directory)
    if stat.S_IMODE(entry.st_mode) & 0o077 or os.getuid() not in (entry.st_uid, 0):
        raise StateError(f"The folder {directory} can be entered by others; a state is not offered there.")
    owner = None if entry.st_uid == os.getuid() else entry.st_uid
    path = os.path.join(os.path.abspath(directory), f"state-{secrets.token_hex(8)}.sock")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(path) as name:
            listening.bind(name)
        if owner is None:
            os.chmod(path, 0o600)
        else:
            _open_to_all(path)
        listening.listen(1)
    except BaseException:
        listening.close()
        raise
    return listening, path, owner


def _open_to_all(path: str) -> None:
    """Let everybody connect who gets as far as into the folder, which is its owner alone.

    By a descriptor that was looked at: the folder's owner can put any file of the machine's under a name there.
    """
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        entry = os.fstat(found)
        if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != os.getuid():
            raise StateError("The socket for the state was changed for something else; nothing is offered.")
        os.chmod(f"/proc/self/fd/{found}", 0o666)
    finally:
        os.close(found)


def _connect(address: str) -> Any:
    if os.sep in address:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            raise StateError(f"There is no offer at {address}; nothing was restored.")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(IDLE_TIMEOUT_SECONDS)
        try:
            with _short(address) as name:
                connection.connect(name)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=IDLE_TIMEOUT_SECONDS)


class _short:
    """A name for a socket's path that fits into the kernel's limit."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self.path)) <= _SOCKET_PATH_MAX:
            return self.path
        self.folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self.folder}/{os.path.basename(self.path)}"

    def __exit__(self, *_: Any) -> None:
        if self.folder is not None:
            os.close(self.folder)
