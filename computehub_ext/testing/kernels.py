"""Talk to a kernel as a notebook would, and wait for things without sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from jupyter_client import BlockingKernelClient

T = TypeVar("T")
WAIT_SECONDS_MAX = 30.0


def wait_for(what: Callable[[], T], seconds_max: float = WAIT_SECONDS_MAX, message: str = "it did not happen") -> T:
    """Return the first true answer of ``what``; an ``AssertionError`` at the deadline."""
    deadline = time.monotonic() + seconds_max
    while not (answer := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{message} within {seconds_max} s; last seen: {answer!r}")
        time.sleep(0.01)
    return answer


class KernelTalk:
    """A client of one kernel, used with ``with``.

    ``run`` returns what a cell printed; a cell that raises, raises ``CellError``.
    """

    def __init__(self, connection_info: dict[str, Any]) -> None:
        self.client = BlockingKernelClient()
        self.client.load_connection_info(dict(connection_info))  # type: ignore[arg-type]

    def __enter__(self) -> KernelTalk:
        self.client.start_channels()
        self.client.wait_for_ready(timeout=WAIT_SECONDS_MAX)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        if self.client.context is not None:
            self.client.context.destroy(linger=0)

    def run(self, code: str, *, answer: str | None = None, seconds_max: float = WAIT_SECONDS_MAX) -> str:
        printed: list[str] = []

        def output(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        def typed(message: dict[str, Any]) -> None:
            self.client.input(answer or "")

        reply = self.client.execute_interactive(
            code,
            allow_stdin=answer is not None,
            stdin_hook=typed,
            output_hook=output,
            timeout=seconds_max,
            stop_on_error=False,
        )
        if reply["content"]["status"] != "ok":
            raise CellError(reply["content"].get("ename", ""), reply["content"].get("evalue", ""))
        return "".join(printed)

    def begin(self, code: str) -> str:
        """Send a cell and return when the kernel has begun to run it."""
        # Were the cells behind an error to be aborted, as is a kernel's habit, it might count the next one among them:
        # it tells of the error before it begins to abort.
        message_id = self.client.execute(code, stop_on_error=False)
        self.wait_for_iopub(message_id, "execute_input")
        return message_id

    def wait_for_iopub(self, message_id: str, kind: str, text: str = "") -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (left := deadline - time.monotonic()) > 0:
            message = self.client.get_iopub_msg(timeout=left)
            mine = message["parent_header"].get("msg_id") == message_id and message["msg_type"] == kind
            if mine and text in str(message["content"]):
                return message
        raise AssertionError(f"no {kind} came")

    def reply_to(self, message_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (left := deadline - time.monotonic()) > 0:
            message = self.client.get_shell_msg(timeout=left)
            if message["parent_header"].get("msg_id") == message_id:
                return message["content"]
        raise AssertionError("no reply came")


class CellError(Exception):
    """What a cell raised: ``CellError("NameError", "name 'x' is not defined")``."""
