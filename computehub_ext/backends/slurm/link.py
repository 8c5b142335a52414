"""The open connection to every job: their sign of life, and how they are told what to do.

One thread owns the socket. It is a CurveZMQ server, so who connects has to know its public key, and what passes can be
read by nobody else. Every client makes a key pair of its own, which the connection shows to be its; whose it is, is
decided above (``Desk.admit``), by a token that is good for one key.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import queue
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import zmq
from zmq.utils import z85

log = logging.getLogger(__name__)

MESSAGE_BYTES_MAX = 256 * 1024
_TICK_MILLISECONDS = 500
_FILE = "link.json"


class Desk(Protocol):
    """Who decides about what arrives; called in the link's thread, so it answers at once."""

    def on_message(self, key: str, peer: bytes, message: dict[str, Any]) -> None: ...


class Link:
    """Listens from ``open`` to ``close``. All methods may be called from any thread.

    Parameters
    ----------
    folder:
        Where key and port are kept, so that jobs find a successor.
    host, port:
        Where to listen; port 0 takes the one in the folder, or a free one.
    """

    def __init__(self, folder: Path, host: str, port: int) -> None:
        kept = _read(folder / _FILE)
        if kept is None:
            public, secret = zmq.curve_keypair()
            kept = {"public": public.decode(), "secret": secret.decode(), "port": port}
        self._file, self._kept, self._host = folder / _FILE, kept, host
        self.port = port or int(kept["port"])
        self.public_key = str(kept["public"])
        self.problem = ""
        self._desk: Desk | None = None
        self._outgoing: queue.SimpleQueue[tuple[bytes, dict[str, Any]]] = queue.SimpleQueue()
        self._answers: dict[int, tuple[bytes, queue.SimpleQueue[dict[str, Any]]]] = {}
        self._ids = itertools.count(1)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)  # -1 once it is closed
        self._bell = threading.Lock()
        self._closing = False
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="computehub-slurm-link", daemon=True)

    def open(self, desk: Desk) -> None:
        """Begin to listen; returns once the port is bound, or is seen to be somebody else's for now."""
        self._desk = desk
        self._thread.start()
        self._ready.wait(10)

    def close(self) -> None:
        self._closing = True
        self._ring()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def send(self, peer: bytes, message: dict[str, Any]) -> None:
        self._outgoing.put((peer, message))
        self._ring()

    def ask(self, peer: bytes, message: dict[str, Any], seconds_max: float) -> dict[str, Any] | None:
        """Send a message and return the answer, or None if none came in time."""
        number = next(self._ids)
        answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._answers[number] = (peer, answers)
        try:
            self.send(peer, {**message, "id": number})
            return answers.get(timeout=seconds_max)
        except queue.Empty:
            return None
        finally:
            del self._answers[number]

    def _ring(self) -> None:
        with self._bell:  # its number is somebody else's file soon after it was closed
            if self._wake == -1:
                return
            try:
                os.eventfd_write(self._wake, 1)
            except OSError:
                pass  # rung so often that it wakes anyhow

    # The thread

    def _run(self) -> None:
        context = zmq.Context()
        try:
            # Bound before the first client comes: without it any key would do, and none would be named.
            keys = context.socket(zmq.REP)
            keys.bind("inproc://zeromq.zap.01")
            router = self._bind(context)
            if router is None:
                return
            poller = zmq.Poller()
            for source in (keys, router, self._wake):
                poller.register(source, zmq.POLLIN)
            while not self._closing:
                ready = dict(poller.poll(_TICK_MILLISECONDS))
                if self._wake in ready:
                    os.eventfd_read(self._wake)
                if keys in ready:
                    _name_the_key(keys)
                self._take(router)
                self._send_out(router)
            self._send_out(router)
        except Exception as problem:
            log.exception("The connection to the cluster's jobs broke down.")
            self.problem = f"The connection to the cluster's jobs broke down: {type(problem).__name__}."
        finally:
            context.destroy(linger=200)
            with self._bell:
                wake, self._wake = self._wake, -1
                os.close(wake)
            self._ready.set()

    def _bind(self, context: zmq.Context[Any]) -> zmq.Socket[Any] | None:
        while not self._closing:
            router = context.socket(zmq.ROUTER)
            router.curve_server = True
            router.curve_secretkey = str(self._kept["secret"]).encode()
            router.curve_publickey = self.public_key.encode()
            router.zap_domain = b"computehub"
            router.maxmsgsize = MESSAGE_BYTES_MAX
            router.router_mandatory = True
            router.ipv6 = ":" in self._host
            router.heartbeat_ivl, router.heartbeat_timeout = 2000, 6000
            host = f"[{self._host}]" if ":" in self._host else self._host
            try:
                router.bind(f"tcp://{host}:{self.port or '*'}")
            except zmq.ZMQError as problem:
                router.close()
                # One that was killed a moment ago, or another program: jobs know this port and no other.
                self.problem = f"Port {self.port} of {self._host}, which jobs connect to, can't be had: {problem}."
                self._ready.set()
                time.sleep(0.1)
                continue
            self.port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
            _write(self._file, {**self._kept, "port": self.port})
            self.problem = ""
            self._ready.set()
            return router
        return None

    def _take(self, router: zmq.Socket[Any]) -> None:
        assert self._desk is not None
        while True:
            try:
                peer, frame = router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            except ValueError:
                continue  # another number of parts: nothing of ours
            try:
                message = json.loads(frame.bytes)
                key = str(frame.get("User-Id"))
                if message["t"] == "answer":
                    asked, answers = self._answers.get(message["id"], (None, None))
                    if answers is not None and asked == peer.bytes:  # nobody answers for another
                        answers.put(message)
                    continue
                self._desk.on_message(key, peer.bytes, message)
            except (ValueError, KeyError, TypeError, zmq.ZMQError) as problem:
                log.warning("A job's message was not understood: %s", type(problem).__name__)
            except Exception:
                # Whatever it is, a message or a full disk, it must not cut all other jobs off. Launchers say it again.
                log.exception("A job's message could not be taken.")

    def _send_out(self, router: zmq.Socket[Any]) -> None:
        while True:
            try:
                peer, message = self._outgoing.get_nowait()
            except queue.Empty:
                return
            try:
                router.send_multipart([peer, json.dumps(message).encode()], zmq.NOBLOCK)
            except zmq.ZMQError:
                pass  # it has gone, and comes again under another name


def _name_the_key(keys: zmq.Socket[Any]) -> None:
    """Let every key in under its own name (ZeroMQ's RFC 27): what it may do is decided by whose it is."""
    version, request_id, _domain, _address, _identity, mechanism, *credentials = keys.recv_multipart()
    known = mechanism == b"CURVE" and len(credentials) == 1
    name = z85.encode(credentials[0]) if known else b""
    keys.send_multipart([version, request_id, b"200" if known else b"400", b"", name, b""])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    assert isinstance(found, dict)
    return found


def _write(path: Path, contents: dict[str, Any]) -> None:
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        json.dump(contents, file)
    os.replace(new, path)
