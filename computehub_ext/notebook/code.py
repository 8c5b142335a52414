"""Silent code in a kernel: the server's own line to its shell channel, without a client's handshake."""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Mapping
from typing import Any

import zmq
from jupyter_client.session import Session
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.errors import BackendError
from computehub_ext.notebook import wire

ANSWER_SECONDS = 60.0


class CodeFailed(BackendError):
    """Our own code raised in the kernel; ``details`` name the exception."""

    code = "kernel_code_failed"


class KernelSilent(BackendError):
    """The kernel gave no answer in time, or died over it."""

    code = "kernel_silent"


class Line:
    """A connection to one kernel's shell channel for the server's own requests.

    Nothing of what goes over it shows in a notebook: the code is silent, counts no execution and stores no history.
    """

    def __init__(self, context: zmq.Context[Any], info: Mapping[str, Any], session: Session) -> None:
        self._session = Session(key=session.key, signature_scheme=session.signature_scheme)
        self._stream = ZMQStream(wire.connect(context, info, "shell", self._session.bsession))
        self._stream.on_recv(self._received)
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}

    def close(self) -> None:
        if not self._stream.closed():
            self._stream.on_recv(None)
            self._stream.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(KernelSilent("The kernel went away before it answered."))
        self._asked.clear()

    def send(self, parts: list[bytes]) -> None:
        """Send a client's request, whose answer nobody waits for any more."""
        self._session.send_raw(self._stream, parts)  # type: ignore[arg-type]  # takes streams as well

    async def evaluate(self, *expressions: str, timeout_seconds: float = ANSWER_SECONDS) -> list[str]:
        """Evaluate expressions in order and return their values as IPython writes them.

        Expressions, not statements: IPython takes them as they are, where it would first look for magics in every line
        of a cell, which for our package takes longer than all the rest. They also leave no name behind.
        """
        content = await self._request(
            "execute_request",
            {
                "code": "",
                "silent": True,
                "store_history": False,
                "user_expressions": {f"e{number:03d}": text for number, text in enumerate(expressions)},
                "allow_stdin": False,
                "stop_on_error": False,
            },
            timeout_seconds,
        )
        if content.get("status") != "ok":
            raise _failure(content)
        answers = [content["user_expressions"][name] for name in sorted(content.get("user_expressions", {}))]
        for answer in answers:
            if answer.get("status") != "ok":
                raise _failure(answer)
        return [answer["data"]["text/plain"] for answer in answers]

    async def ask(self, expression: str, timeout_seconds: float = ANSWER_SECONDS) -> Any:
        """Evaluate an expression whose value is a JSON text, and return what the text says."""
        (written,) = await self.evaluate(expression, timeout_seconds=timeout_seconds)
        return json.loads(ast.literal_eval(written))

    async def kernel_info(self, timeout_seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        return await self._request("kernel_info_request", {}, timeout_seconds)

    async def _request(self, msg_type: str, content: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        message = self._session.msg(msg_type, content)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[message["header"]["msg_id"]] = answer
        self._session.send(self._stream, message)
        try:
            return await asyncio.wait_for(answer, timeout_seconds)
        except TimeoutError:
            raise KernelSilent(f"The kernel gave no answer for {timeout_seconds:.0f} seconds.") from None
        finally:
            self._asked.pop(message["header"]["msg_id"], None)

    def _received(self, frames: list[bytes]) -> None:
        _, parts = self._session.feed_identities(frames)
        try:
            message = self._session.deserialize(parts)
        except (ValueError, TypeError):
            return  # unsigned: not from our kernel
        answer = self._asked.get(message["parent_header"].get("msg_id", ""))
        if answer is not None and not answer.done():
            answer.set_result(message["content"])


def _failure(content: Mapping[str, Any]) -> CodeFailed:
    name, value = str(content.get("ename", "Error")), str(content.get("evalue", ""))
    if content.get("status") == "aborted":
        return CodeFailed("The kernel put the request aside after another one failed.", ename="Aborted", evalue="")
    return CodeFailed(f"{name}: {value}" if value else name, ename=name, evalue=value)
