"""Moving a state from one kernel to another, once, to whoever shows the ticket.

The manifest that ``offer`` returns travels through the control plane, which is trusted; the bytes travel kernel to
kernel. Whoever holds the manifest alone gets nothing, and a target that holds it believes no other bytes.

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
import threading
import time
from typing import Any

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
_TICKET_BYTES_MAX = 4096
# The kernel's limit for a socket's path is 108 bytes with its end; longer ones go through /proc.
_SOCKET_PATH_MAX = 100
_SOCKET_BUFFER_BYTES = 4 << 20

_open_offers: dict[str, _Offer] = {}


def offer(
    namespace: dict[str, Any],
    keep: Keep = "all",
    ticket: str = "",
    directory: str | None = None,
    *,
    target_python: str | None = None,
    timeout_seconds: float = OFFER_TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Capture the namespace and serve it to one connection that shows the ticket.

    Parameters
    ----------
    keep:
        "all", "none" or a list of names.
    ticket:
        The secret of this one transfer.
    directory:
        A folder that only this user can enter, for a unix socket; without one, TCP on the loopback interface.
    target_python:
        The target's version ("3.12.1"), where known: what can't be carried to it is then among the lost.

    Returns
    -------
    The manifest, ready for JSON: address, size, sha256, names, lost, warnings, modules, python, cwd, sys_path,
    cuda_used, same_python, execution_count, total_bytes.
    """
    if not ticket:
        raise StateError("A state is only offered under a ticket.")
    captured = capture(namespace, keep, target_python=target_python)
    outgoing = Outgoing(captured.header, captured.pickles, captured.blocks)
    manifest = dict(captured.manifest)
    manifest["size"] = outgoing.size
    manifest["sha256"] = outgoing.sha256
    listening, address = _listen(directory)
    manifest["address"] = address
    one = _Offer(listening, address, ticket, outgoing, time.monotonic() + timeout_seconds)
    _open_offers[address] = one
    threading.Thread(target=one.serve, name="computehub-offer", daemon=True).start()
    return manifest


def withdraw(address: str | None = None) -> int:
    """End the offer at this address, or all of them, and free the memory that they hold. How many there were."""
    chosen = [one for key, one in list(_open_offers.items()) if address in (None, key)]
    for one in chosen:
        one.close()
    return len(chosen)


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
    with _connect(manifest["address"]) as connection:
        _widen(connection, socket.SO_RCVBUF)
        secret = ticket.encode()
        connection.sendall(_HELLO.pack(_MAGIC, len(secret)) + secret)
        incoming = Incoming(connection.recv_into, int(manifest["size"]), str(manifest["sha256"]))
        incoming.read(allocate)
    incoming.verify()
    loaded = load(namespace, incoming.header, incoming.pickles, incoming.blocks)
    restored = commit(namespace, loaded, manifest.get("execution_count"), accept_failures=accept_failures)
    return {
        "restored": restored,
        "failed": loaded.failed,
        "notes": loaded.notes,
        "bytes": int(manifest["size"]),
        "seconds": round(time.monotonic() - started, 3),
    }


class _Offer:
    """One listening socket, and the memory that it may hand out once."""

    def __init__(self, listening: Any, address: str, ticket: str, outgoing: Outgoing, deadline: float) -> None:
        self.listening = listening
        self.address = address
        self.digest = hashlib.sha256(ticket.encode()).digest()
        self.outgoing = outgoing
        self.deadline = deadline
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
                    if self._shows_the_ticket(connection):
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


def _listen(directory: str | None) -> tuple[Any, str]:
    if directory is None:
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        return listening, f"127.0.0.1:{listening.getsockname()[1]}"
    entry = os.stat(directory)
    if stat.S_IMODE(entry.st_mode) & 0o077 or entry.st_uid != os.getuid():
        raise StateError(f"The folder {directory} can be entered by others; a state is not offered there.")
    path = os.path.join(os.path.abspath(directory), f"state-{secrets.token_hex(8)}.sock")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(path) as name:
        listening.bind(name)
    os.chmod(path, 0o600)
    listening.listen(1)
    return listening, path


def _connect(address: str) -> Any:
    if os.sep in address:
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
