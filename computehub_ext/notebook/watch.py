"""What happens to leased kernels without anybody's asking: idle time, the end of the booked time, word of both."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.core.ids import new_id
from computehub_ext.notebook import cpu_side
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import SwitchRequest
from computehub_ext.notebook.switch import Switch

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
BUSY_REPORT_SECONDS = 60.0
INTERRUPT_AFTER_SECONDS = 10.0
"""How long a running cell may hold up a move that the clock demands before it is interrupted."""

PREVIEW_SECONDS = 20.0
NAMED_MAX = 10

_MOVES_BACK = {"idle_release": "idle", "closing": "time_up"}


class Watch:
    """Carries out the control plane's orders and reports when kernels are busy.

    Parameters
    ----------
    manager:
        The server's :class:`~computehub_ext.notebook.kernels.ComputeHubKernelManager`.
    switches:
        Where moves are begun and drawn.
    """

    def __init__(self, manager: Any, switches: Any, poll_seconds: float = POLL_SECONDS) -> None:
        self._manager, self._switches, self._poll_seconds = manager, switches, poll_seconds
        self._task: asyncio.Task[None] | None = None
        self._reports: dict[str, asyncio.Task[None]] = {}
        self._busy: dict[str, bool] = {}

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._forever())

    async def stop(self) -> None:
        for task in (self._task, *self._reports.values()):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        self._task, self._reports = None, {}

    @property
    def _leased(self) -> dict[str, SwitchableKernelManager]:
        kernels = self._manager._kernels
        return {kernel_id: k for kernel_id, k in kernels.items() if getattr(k, "lease_id", None) is not None}

    async def _forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            if not self._leased:
                continue
            try:
                await self.look()
            except ComputeHubError as error:
                log.warning("the control plane's orders can't be read: %s", error)
            except Exception:
                log.exception("a look at the leased kernels failed")

    async def look(self) -> None:
        """Read the orders once, and carry them out."""
        for order in await self._manager.plane.orders(list(self._leased)):
            kernel = self._leased.get(order["kernel_id"])
            if kernel is not None:
                self.obey(kernel, order)

    def obey(self, kernel: SwitchableKernelManager, order: dict[str, Any]) -> None:
        reason = _MOVES_BACK.get(order["kind"])
        if reason is None:
            self._manager.in_background(self._warn(kernel, order["message"]))
        elif kernel.switch is None:
            self._manager.in_background(self._move_back(kernel, reason, order["message"]))

    async def _warn(self, kernel: SwitchableKernelManager, message: str) -> None:
        """Say what is to come, and name what would not come along while there is time to save it."""
        lost, lacking = await self._at_risk(kernel)
        if lacking:
            message = f"{message} On the CPU: {' '.join(item['message'] for item in lacking[:NAMED_MAX])}"
        if lost:
            names = "; ".join(f"{item['name']} ({item['reason']})" for item in lost[:NAMED_MAX])
            more = f"; and {len(lost) - NAMED_MAX} more" if len(lost) > NAMED_MAX else ""
            message = f"{message} These can't come along and would be lost: {names}{more}."
        kernel.traffic.say(message)

    async def _at_risk(self, kernel: SwitchableKernelManager) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """What the kernel holds that can't move, and what the CPU lacks of what it uses; nothing while a cell runs,
        since the kernel can't answer then."""
        if kernel.line is None or kernel.switch is not None or not kernel.traffic.gate.idle:
            return [], []
        try:
            preview = await asyncio.wait_for(self._manager.carrier.preview(kernel.line, "all"), PREVIEW_SECONDS)
        except (ComputeHubError, TimeoutError):
            return [], []
        return list(preview.get("lost", ())), await cpu_side.problems(kernel.kernel_spec, preview)

    async def _move_back(self, kernel: SwitchableKernelManager, reason: str, message: str) -> None:
        """Bring the notebook back with what can come along: the clock does not wait for an answer."""
        if kernel.switch is not None:
            return
        kernel.traffic.say(message)
        actor = Actor(kernel.payer or "", kernel.payer or "", Via.TOKEN)
        switch = Switch(
            kernel,
            actor,
            SwitchRequest("cpu", accept_loss=True, accept_problems=True, accept_failures=True),
            key=new_id("order"),
            release_reason=reason,
            release_message=message,
            on_change=self._switches.changed,
        )
        self._switches.add(switch)
        try:
            await switch.begin()
            if reason == "time_up":
                await self._make_room(kernel, switch)
            await switch.finished()
        except ComputeHubError as error:
            log.warning("kernel %s could not be moved back: %s", kernel.kernel_id, error)
            return
        if switch.error is not None:
            kernel.traffic.say(f"The notebook could not be moved back to the CPU: {switch.error['message']}")
        elif switch.result is not None and switch.result["lost"]:
            lost = "; ".join(f"{item['name']} ({item['reason']})" for item in switch.result["lost"])
            kernel.traffic.say(f"Left behind on the GPU and lost: {lost}")

    async def _make_room(self, kernel: SwitchableKernelManager, switch: Switch) -> None:
        """The closing reserve is short: interrupt a cell that does not end by itself."""
        idle = asyncio.ensure_future(kernel.traffic.until_idle())
        done, _ = await asyncio.wait({idle}, timeout=INTERRUPT_AFTER_SECONDS)
        idle.cancel()
        if not done and not switch.ended and kernel.place is not None:
            kernel.traffic.say("The running cell is interrupted, because the booked time is over.")
            with suppress(ComputeHubError):
                await kernel.place.send_signal(2)

    # -- activity ------------------------------------------------------------------------------------------------------

    def busy(self, kernel_id: str, busy: bool) -> None:
        """Report that a cell began or ended; reports of one kernel keep their order, and only the last one counts."""
        self._busy[kernel_id] = busy
        running = self._reports.get(kernel_id)
        if running is None or running.done():
            self._reports[kernel_id] = asyncio.ensure_future(self._report(kernel_id))

    async def _report(self, kernel_id: str) -> None:
        while kernel_id in self._busy:
            busy = self._busy.pop(kernel_id)
            try:
                await self._manager.plane.report_activity(kernel_id=kernel_id, busy=busy)
            except ComputeHubError as error:
                log.warning("the activity of kernel %s could not be reported: %s", kernel_id, error)
