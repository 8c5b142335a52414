"""One kernel's messages: who sends and listens, what waits at the gate, what the server says in the kernel's name."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from jupyter_client.session import Session

from computehub_ext.core.actor import Actor
from computehub_ext.notebook.gate import Finished, Gate, Mode
from computehub_ext.notebook.wire import ShellRequest

log = logging.getLogger(__name__)

REPLY_GRACE_SECONDS = 1.0
"""How long after its reply a cell may take to be reported idle before the gate stops waiting for that."""


class Traffic:
    """The messages of one kernel id, across every kernel that runs behind it.

    Parameters
    ----------
    kernel_id:
        The id that stays.
    session:
        The kernel's session: its key signs what the server says in the kernel's name.
    """

    def __init__(self, kernel_id: str, session: Session) -> None:
        self.kernel_id = kernel_id
        self.session = session
        self.gate: Gate[ShellRequest] = Gate()
        self.connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self.relay: Any = None
        self.starter: Actor | None = None
        """Who started the kernel: direct clients count as this person."""
        self.executor: Actor | None = None
        """Who sent the cell that runs, or ran last: by the server's own record, whatever headers claimed."""
        self.last_cell: dict[str, Any] = {}
        """Header of the cell that runs, or ran last: where to tell the user what happens."""
        self.to_buffer: Callable[[str, dict[str, Any]], None] = lambda channel, message: None
        self.on_busy: Callable[[bool], None] = lambda busy: None
        self.subshells: set[str] = set()
        """Those of the kernel in place; browsers do not hear that the ones of the kernel before are gone."""
        self.on_finished: list[Callable[[Finished[ShellRequest]], None]] = []
        self._idle_waiters: list[asyncio.Future[None]] = []

    # -- requests ------------------------------------------------------------------------------------------------------

    def arrived(self, request: ShellRequest) -> None:
        if request.subshell_id is not None and request.subshell_id not in self.subshells:
            # A kernel ignores messages for a subshell that it has not; in the main shell they are heard.
            del request.header["subshell_id"]
            request.parts[0] = self.session.pack(request.header)
        if self.gate.arrive(request):
            self._forward([request])

    def _forward(self, requests: Iterable[ShellRequest]) -> None:
        for request in requests:
            if request is self.gate.running:
                self.executor = request.sender or self.executor
                self.last_cell = request.header
                self.on_busy(True)
            request.client.forward(request)

    def release(self) -> None:
        """Forward what may go on."""
        self._forward(self.gate.release())

    # -- what the kernel said ------------------------------------------------------------------------------------------

    def saw(self, msg_type: str, parent_id: str, execution_state: str | None) -> None:
        """Take note of an iopub message; called for every one, so cheap."""
        running = self.gate.running
        if running is None or parent_id != running.msg_id:
            return
        if msg_type == "error":
            self.gate.failed(parent_id)
        elif execution_state == "idle":
            self.finish(parent_id)
        elif execution_state == "busy":
            self.gate.begun(parent_id)

    def replied(self, parent_id: str) -> None:
        """A client got its ``execute_reply``: were the idle status lost, the gate would stay closed for ever."""
        running = self.gate.running
        if running is not None and running.msg_id == parent_id:
            asyncio.get_running_loop().call_later(REPLY_GRACE_SECONDS, self.finish, parent_id)

    def controlled(self, frames: list[bytes], header_at: int) -> None:
        """Take note of a reply on the control channel."""
        if b'"create_subshell_reply"' in frames[header_at]:
            content = json.loads(frames[header_at + 3])
            if content.get("subshell_id"):
                self.subshells.add(content["subshell_id"])

    def finish(self, msg_id: str) -> None:
        finished = self.gate.finished(msg_id)
        if finished is None:
            return
        self.abort(finished.aborted)
        for listener in list(self.on_finished):
            listener(finished)
        self.release()
        if self.gate.idle:
            self.on_busy(False)
            self._wake()

    async def until_idle(self) -> None:
        """Wait until no cell runs. With the gate open the next one may start at once."""
        while not self.gate.idle:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle_waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._idle_waiters:
                    self._idle_waiters.remove(waiter)

    def _wake(self) -> None:
        for waiter in self._idle_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def kernel_gone(self) -> None:
        """The kernel died or restarts: what it ran has no end, the cells behind it are aborted, later ones wait."""
        self.shut()
        self.abort(self.gate.reset())
        self.on_busy(False)
        self._wake()

    def tell_restart(self) -> None:
        """Let browsers hear that the kernel which died is restarted, which makes them forget what they waited for."""
        for connection in list(self.connections):
            connection.tell_restart()

    # -- the gate during a switch --------------------------------------------------------------------------------------

    def hold_cells(self) -> None:
        if self.gate.mode is Mode.OPEN:
            self.gate.mode = Mode.WAITING

    def shut(self) -> None:
        self.gate.mode = Mode.SHUT

    def open(self) -> None:
        self.gate.mode = Mode.OPEN
        self.release()

    # -- in the kernel's name ------------------------------------------------------------------------------------------

    def abort(self, cells: Iterable[ShellRequest]) -> None:
        """Answer as ipykernel does for cells that an error in the one before takes along."""
        for cell in cells:
            self._answer(cell, {"status": "aborted"})

    def refuse(self, name: str, reason: str) -> None:
        """Give every waiting cell an error with the reason; none of them is run."""
        error = {"ename": name, "evalue": reason, "traceback": [f"\x1b[31m{name}\x1b[0m: {reason}"]}
        for cell in self.gate.take_cells():
            self._answer(cell, {"status": "error", **error, "execution_count": None}, error)

    def _answer(self, cell: ShellRequest, content: dict[str, Any], error: dict[str, Any] | None = None) -> None:
        self.publish("status", {"execution_state": "busy"}, cell.header)
        if error is not None and not cell.content.get("silent"):
            self.publish("error", error, cell.header)
        metadata = {"status": content["status"]}
        try:
            cell.client.reply(cell, "execute_reply", content, metadata)
        except Exception:
            log.debug("a client went away before its answer", exc_info=True)
        self.publish("status", {"execution_state": "idle"}, cell.header)

    def publish(self, msg_type: str, content: dict[str, Any], parent: dict[str, Any], **metadata: Any) -> None:
        """Send an iopub message to everybody who listens to this kernel."""
        message = self.session.msg(msg_type, content, parent={"header": parent} if parent else None, metadata=metadata)
        for connection in list(self.connections):
            connection.send_to_browser("iopub", message)
        self.to_buffer("iopub", message)
        if self.relay is not None:
            self.relay.publish(message)

    def say(self, text: str) -> None:
        """Tell whoever reads the last cell's output."""
        self.publish("stream", {"name": "stderr", "text": text.rstrip("\n") + "\n"}, self.last_cell)

    def show(self, display_id: str, bundle: dict[str, str], parent: dict[str, Any]) -> None:
        """Draw a display anew, wherever it stands."""
        content = {"data": bundle, "metadata": {}, "transient": {"display_id": display_id}}
        self.publish("update_display_data", content, parent)


def reading(frames: list[bytes], header_at: int) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Header, parent header and, of a status, the execution state."""
    header = json.loads(frames[header_at])
    parent = json.loads(frames[header_at + 1])
    state = None
    if header["msg_type"] == "status":
        state = json.loads(frames[header_at + 3]).get("execution_state")
    return header, parent, state
