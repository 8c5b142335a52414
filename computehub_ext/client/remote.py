"""The same facade over HTTP on a private Unix socket, for a second server on the same data.

One server runs the control plane; others on the same database are its clients. The socket lies in a folder that only
the operating system's user may enter, so whoever can connect could as well open the database: callers are trusted to
say who their authenticated user is, as the first server trusts itself.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_unix_socket
from tornado.web import Application, RequestHandler

from computehub_ext.core import errors
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import ComputeHubError, Unavailable
from computehub_ext.core.replayed import Replayed

CALL_TIMEOUT_SECONDS = 120.0
HEAR_AGAIN_SECONDS = 1.0
HINTS_WAITING_MAX = 1000
_BODY_BYTES_MAX = 1 << 20

_log = logging.getLogger(__name__)


def _families(base: type[ComputeHubError] = ComputeHubError) -> Iterator[type[ComputeHubError]]:
    yield base
    for family in base.__subclasses__():
        yield from _families(family)


def _pack(value: Any) -> Any:
    if isinstance(value, Actor):
        fields = {"username": value.username, "display_name": value.display_name, "via": value.via.value}
        return {"$actor": {**fields, "kernel_id": value.kernel_id, "is_admin": value.is_admin}}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"$actor"}:
        return Actor(**{**value["$actor"], "via": Via(value["$actor"]["via"])})
    if isinstance(value, dict) and value.keys() == {"$bytes"}:
        return base64.b64decode(value["$bytes"])
    return value


@dataclass(frozen=True)
class Hint:
    """An event of the control plane's outbox, as another server hears it."""

    kind: str
    payload: dict[str, Any]
    occurred_at: datetime

    def written(self) -> str:
        told = {"kind": self.kind, "payload": self.payload, "occurred_at": self.occurred_at.isoformat()}
        return json.dumps(told) + "\n"

    @classmethod
    def read(cls, line: str) -> Hint:
        told = json.loads(line)
        return cls(told["kind"], told["payload"], datetime.fromisoformat(told["occurred_at"]))


class RemotePlane:
    """The facade of a control plane that another server runs.

    Parameters
    ----------
    socket_path:
        Where that server listens.
    """

    def __init__(self, socket_path: Path) -> None:
        transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://control-plane", timeout=CALL_TIMEOUT_SECONDS, trust_env=False
        )
        self._hearing: list[asyncio.Task[None]] = []

    def start_ticking(self) -> None:
        """The server that runs the control plane keeps time."""

    def listen(self, listener: Callable[[Hint], None]) -> None:
        """Tell ``listener`` what that server's control plane commits from now on. Call on the event loop."""
        self._hearing.append(asyncio.ensure_future(self._hear(listener)))

    async def _hear(self, listener: Callable[[Hint], None]) -> None:
        while True:
            with suppress(httpx.HTTPError):  # that server is gone, or the line broke: hints may be missed
                async with self._http.stream("GET", "/events", timeout=httpx.Timeout(10.0, read=None)) as answer:
                    async for line in answer.aiter_lines() if answer.status_code == 200 else _nothing():
                        try:
                            listener(Hint.read(line))
                        except Exception:
                            _log.exception("A listener failed on a hint of the control plane")
            await asyncio.sleep(HEAR_AGAIN_SECONDS)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            body = {"args": [_pack(a) for a in args], "kwargs": {k: _pack(v) for k, v in kwargs.items()}}
            try:
                response = await self._http.post(f"/{name}", json=body)
            except httpx.HTTPError as error:
                raise Unavailable("The server that runs ComputeHub's control plane does not answer.") from error
            answer = response.json()
            if response.status_code != 200:
                raise _error(answer)
            return Replayed(answer["result"]) if answer["replayed"] else answer["result"]

        return call

    async def close(self, *, end_leases: bool, kernel_ids: Collection[str] | None = None) -> None:
        """Let go of the connection. Leases belong to the server that runs them; ``end_leases`` is its own affair."""
        for hearing in self._hearing:
            hearing.cancel()
        await asyncio.gather(*self._hearing, return_exceptions=True)
        await self._http.aclose()


async def _nothing() -> AsyncIterator[str]:
    return
    yield


def _error(answer: dict[str, Any]) -> ComputeHubError:
    for family in _families():
        if family.code == answer["code"]:
            error = family(answer["message"])
            error.details = answer["details"]
            return error
    return Unavailable(answer["message"])


class _CallHandler(RequestHandler):
    def initialize(self, plane: Any) -> None:
        self._plane = plane

    async def post(self, name: str) -> None:
        call = getattr(type(self._plane), name, None)
        if name.startswith("_") or name == "close" or not inspect.iscoroutinefunction(call):
            self.set_status(404)
            self.finish(errors.NotFound(f"The control plane has no call {name}.").as_json())
            return
        body = json.loads(self.request.body)
        kwargs = {key: _unpack(value) for key, value in body["kwargs"].items()}
        try:
            result = await call(self._plane, *[_unpack(value) for value in body["args"]], **kwargs)
        except ComputeHubError as error:
            self.set_status(error.status)
            self.finish(error.as_json())
            return
        self.finish(json.dumps({"result": result, "replayed": isinstance(result, Replayed)}))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.finish({"message": "The control plane failed; its server's log has the cause.", "code": "", "details": {}})


class _Hints:
    """Hands out what the control plane commits to the servers that listen."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.listening: set[asyncio.Queue[str | None]] = set()

    def hear(self, event: Any) -> None:
        """Called in any thread."""
        line = Hint(event.kind, event.payload, event.occurred_at).written()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell, line)

    def _tell(self, line: str) -> None:
        for queue in self.listening:
            if not queue.full():  # a server that hangs misses hints rather than fill our memory
                queue.put_nowait(line)


class _EventsHandler(RequestHandler):
    """The hints as lines of JSON, for as long as the other server listens."""

    def initialize(self, hints: _Hints) -> None:
        self._hints = hints
        self._queue: asyncio.Queue[str | None] = asyncio.Queue(HINTS_WAITING_MAX)

    async def get(self) -> None:
        self._hints.listening.add(self._queue)
        try:
            await self.flush()
            while (line := await self._queue.get()) is not None:
                self.write(line)
                await self.flush()
        except StreamClosedError:
            pass
        finally:
            self._hints.listening.discard(self._queue)

    def on_connection_close(self) -> None:
        self._hints.listening.discard(self._queue)
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)


def serve(plane: Any, socket_path: Path) -> HTTPServer:
    """Answer other servers of the same user; call on the event loop."""
    hints = _Hints()
    if hasattr(type(plane), "listen"):
        plane.listen(hints.hear)
    socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(socket_path.parent, 0o700)
    server = HTTPServer(
        Application(
            [(r"/events", _EventsHandler, {"hints": hints}), (r"/(\w+)", _CallHandler, {"plane": plane})],
            log_function=lambda handler: None,
        ),
        max_body_size=_BODY_BYTES_MAX,
    )
    server.add_socket(bind_unix_socket(str(socket_path), mode=0o600))
    return server
