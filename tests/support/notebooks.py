"""A browser without a browser: REST and one websocket, as JupyterLab speaks them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

V1 = "v1.kernel.websocket.jupyter.org"
WAIT_SECONDS = 30.0
API = "api/computehub/v1/"


@dataclass
class Cell:
    """What came back for one request."""

    msg_id: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    idle: bool = False

    @property
    def text(self) -> str:
        """Everything that the cell printed or showed."""
        shown = []
        for message in self.messages:
            content = message["content"]
            if message["msg_type"] == "stream":
                shown.append(content["text"])
            elif message["msg_type"] in ("execute_result", "display_data"):
                shown.append(content["data"].get("text/plain", ""))
        return "".join(shown)

    @property
    def errors(self) -> list[tuple[str, str]]:
        return [(m["content"]["ename"], m["content"]["evalue"]) for m in self.messages if m["msg_type"] == "error"]

    @property
    def status(self) -> str | None:
        return self.reply["content"]["status"] if self.reply else None


class Browser:
    """One websocket to one kernel."""

    def __init__(self, url: str, token: str, kernel_id: str, session: str | None = None, legacy: bool = False) -> None:
        self.url, self.token, self.kernel_id = url, token, kernel_id
        self.session, self.legacy = session or uuid.uuid4().hex, legacy
        self.cells: dict[str, Cell] = {}
        self.messages: list[dict[str, Any]] = []
        self.username = "claimed by the browser"
        self._changed = asyncio.Event()
        self._socket: Any = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> Browser:
        address = self.url.replace("http", "ws", 1) + f"api/kernels/{self.kernel_id}/channels?session_id={self.session}"
        request = HTTPRequest(address, headers={"Authorization": f"token {self.token}"})
        self._socket = await websocket_connect(request, subprotocols=None if self.legacy else [V1])
        self._reader = asyncio.ensure_future(self._read())
        return self

    async def close(self) -> None:
        self._socket.close()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=WAIT_SECONDS)

    async def _read(self) -> None:
        while (raw := await self._socket.read_message()) is not None:
            if isinstance(raw, bytes) and not self.legacy:
                channel, parts = deserialize_msg_from_ws_v1(raw)
                names = ("header", "parent_header", "metadata", "content")
                message = dict(zip(names, map(json.loads, parts[:4]), strict=True))
            else:
                message = json.loads(raw)
                channel = message["channel"]
            message["channel"], message["msg_type"] = channel, message["header"]["msg_type"]
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if cell is not None:
            cell.messages.append(message)
            if message["msg_type"] == "execute_reply":
                cell.reply = message
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                cell.idle = True
        self._changed.set()

    def send(self, msg_type: str, content: dict[str, Any], channel: str = "shell", **header: Any) -> str:
        msg_id = uuid.uuid4().hex
        message = {
            "header": {
                "msg_id": msg_id,
                "msg_type": msg_type,
                "session": self.session,
                "username": self.username,
                "date": "2026-03-02T09:00:00Z",
                "version": "5.4",
                **header,
            },
            "parent_header": {},
            "metadata": {},
            "content": content,
        }
        if self.legacy:
            self._socket.write_message(json.dumps({**message, "channel": channel, "buffers": []}))
        else:
            packed = serialize_msg_to_ws_v1(message, channel, lambda part: json.dumps(part).encode())
            self._socket.write_message(packed, binary=True)
        return msg_id

    def run(self, code: str, **content: Any) -> Cell:
        """Send a cell without waiting."""
        wanted = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": True,
                  "stop_on_error": True, **content}  # fmt: skip
        cell = Cell("")
        cell.msg_id = self.send("execute_request", wanted)
        self.cells[cell.msg_id] = cell
        return cell

    async def until(self, condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
        """Wait until ``condition`` holds, looking after each message."""
        async with asyncio.timeout(seconds):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
        return found

    async def done(self, *cells: Cell) -> None:
        await self.until(lambda: all(cell.reply is not None and cell.idle for cell in cells))

    async def ran(self, code: str, **content: Any) -> Cell:
        cell = self.run(code, **content)
        await self.done(cell)
        return cell


class Rest:
    """The server's API, asked asynchronously."""

    def __init__(self, url: str, token: str) -> None:
        self.client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"token {token}"}, timeout=WAIT_SECONDS, trust_env=False
        )

    async def start_kernel(self, **body: Any) -> str:
        answer = await self.client.post("api/kernels", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def switch(self, target: str, kernel_id: str, **body: Any) -> httpx.Response:
        headers = {"Idempotency-Key": body.pop("key", uuid.uuid4().hex)}
        return await self.client.post(
            API + "switches", json={"target": target, "kernel_id": kernel_id, **body}, headers=headers
        )

    async def switched(self, target: str, kernel_id: str, **body: Any) -> dict[str, Any]:
        """Ask for a switch and wait for its end."""
        answer = await self.switch(target, kernel_id, **body)
        assert answer.status_code == 202, answer.text
        return await self.ended(answer.json()["id"])

    async def ended(self, switch_id: str) -> dict[str, Any]:
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        while True:
            switch: dict[str, Any] = (await self.client.get(f"{API}switches/{switch_id}")).json()
            if switch["state"] in ("done", "failed", "cancelled"):
                return switch
            assert asyncio.get_running_loop().time() < deadline, switch
            await asyncio.sleep(0.02)

    async def kernel(self, kernel_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"{API}kernels/{kernel_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())
