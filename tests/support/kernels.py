"""Real kernels, driven as a server drives them: cells, silent expressions, and messages of a page's widgets."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from computehub_ext.kernel import bundle

ANSWER_SECONDS = 60.0


class Kernel:
    """One ipykernel with the bundle installed. Use it with ``with``."""

    def __init__(self, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self._manager = KernelManager(kernel_name="python3")
        options: dict[str, Any] = {} if env is None else {"env": env}
        self._manager.start_kernel(cwd=str(cwd) if cwd else None, **options)
        self._client = self._manager.blocking_client()
        self.published: list[dict[str, Any]] = []
        """Everything that the kernel said on IOPub, in order."""

    def __enter__(self) -> Kernel:
        self._client.start_channels()
        self._client.wait_for_ready(timeout=ANSWER_SECONDS)
        self.ask_text(bundle.source().strip())
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    def run(self, code: str) -> str:
        """Run a cell; what it printed and showed, its traceback included."""
        request = self._client.execute(code)
        self._reply(request)
        return "".join(_text(message) for message in self._until_idle(request))

    def ask(self, expression: str) -> Any:
        """The JSON value of an expression, silently, as the server asks."""
        return json.loads(ast.literal_eval(self.ask_text(f"__import__('json').dumps({expression})")))

    def ask_text(self, expression: str) -> str:
        request = self._client.execute("", silent=True, store_history=False, user_expressions={"answer": expression})
        answer = self._reply(request)["content"]["user_expressions"]["answer"]
        self._until_idle(request)
        if answer["status"] != "ok":
            raise AssertionError("\n".join(answer["traceback"]))
        return str(answer["data"]["text/plain"])

    def page_says(self, comm_id: str, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Send what the page's half of a comm would; what the kernel published about it."""
        message = self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": data})
        self._client.shell_channel.send(message)
        return self._until_idle(message["header"]["msg_id"])

    def _reply(self, request: str) -> dict[str, Any]:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            reply: dict[str, Any] = self._client.get_shell_msg(timeout=ANSWER_SECONDS)
            if reply["parent_header"].get("msg_id") == request:
                return reply
        raise AssertionError("no reply")

    def _until_idle(self, request: str) -> list[dict[str, Any]]:
        seen = []
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=ANSWER_SECONDS)
            self.published.append(message)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return seen
            seen.append(message)
        raise AssertionError("never idle")


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    if message["msg_type"] == "stream":
        return str(content["text"])
    if message["msg_type"] == "error":
        return "\n".join(content["traceback"])
    if message["msg_type"] in ("execute_result", "display_data"):
        return str(content["data"].get("text/plain", ""))
    return ""


def move(source: Kernel, target: Kernel, folder: Path, keep: Any = "all") -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the result of one journey."""
    folder.chmod(0o700)
    package = "__import__('_computehub')"
    manifest = source.ask(f"{package}.offer(globals(), {keep!r}, 'ticket', {str(folder)!r})")
    result = target.ask(f"{package}.fetch(globals(), {manifest!r}, 'ticket')")
    return manifest, result
