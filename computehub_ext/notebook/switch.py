"""The move of a notebook from one kernel to another, as one job whose steps can be watched, cancelled and made to fail.

    requested → waiting → checking → starting → capturing → restoring → verifying → swapping → done | failed | cancelled

The kernel id stays. Until the swap nothing that the notebook can see has changed, so that giving up at any step leaves
it on its old kernel, with nothing charged; the cells that waited are then answered with the reason, not run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import BackendError, ComputeHubError, Conflict, IllegalMove
from computehub_ext.core.ids import new_id
from computehub_ext.notebook import room, staging, way_back
from computehub_ext.notebook.code import Line
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import (
    ENDED,
    CellGoesOn,
    LossNotAccepted,
    SwitchRequest,
    SwitchState,
    SwitchUnderWay,
    judge,
)
from computehub_ext.notebook.places import LeasedPlace, Place
from computehub_ext.notebook.state import Carrier, Side, counting_on, same_python, weighed
from computehub_ext.notebook.successor import Successor

log = logging.getLogger(__name__)

WAIT_SECONDS_MAX = 240.0
"""How long a device is kept, and not billed, for a notebook whose running cell does not end."""
NOTES_MAX = 50
"""A kernel writes them, and may hold a thousand tensors that each have something to say."""


@dataclass(eq=False)
class Switch:
    """One move. ``run`` is the job; ``stop`` gives it up.

    Parameters
    ----------
    key:
        The caller's idempotency key, handed on to the control plane.
    release_reason:
        Why the lease ends, for a move back: ``returned``, ``idle`` or ``time_up``.
    on_change:
        Called at each step with the switch.
    """

    kernel: SwitchableKernelManager
    actor: Actor
    request: SwitchRequest
    key: str
    notebook_path: str | None = None
    release_reason: str = "returned"
    release_message: str | None = None
    on_change: Callable[[Switch], None] = lambda switch: None
    id: str = field(default_factory=lambda: new_id("switch"))
    state: SwitchState = SwitchState.REQUESTED
    step_message: str = "Asked for"
    error: dict[str, Any] | None = None
    lease: dict[str, Any] | None = None
    preview: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    before_step: ClassVar[Callable[[Switch, SwitchState], Awaitable[None]] | None] = None
    """Runs before each step; tests make steps fail with it."""

    def __post_init__(self) -> None:
        self.parent: dict[str, Any] = self.kernel.traffic.last_cell
        self._new: asyncio.Task[Successor] | None = None
        self._manifest: dict[str, Any] | None = None
        self._ticket = ""
        self._restored: dict[str, Any] | None = None
        self._problems: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None
        self._giving_up: tuple[str, bool] | None = None
        self._started_at = datetime.now(UTC)

    # -- what others see -----------------------------------------------------------------------------------------------

    @property
    def to_gpu(self) -> bool:
        return self.request.target == "gpu"

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def display_id(self) -> str:
        return self.request.display_id or f"computehub-{self.id}"

    def as_json(self) -> dict[str, Any]:
        order = list(SwitchState)
        progress = 1.0 if self.state is SwitchState.DONE else order.index(self.state) / 8 if not self.ended else 0.0
        return {
            "id": self.id,
            "kernel_id": self.kernel.kernel_id,
            "notebook_path": self.notebook_path,
            "target": self.request.target,
            "state": str(self.state),
            "step_message": self.step_message,
            "progress": progress,
            "error": self.error,
            "lease_id": self.lease["id"] if self.lease else None,
            "preview": self.preview,
            "result": self.result,
            "requested_by": self.actor.username,
            "created_at": _moment(self.created_at),
            "updated_at": _moment(self.updated_at),
        }

    # -- life ----------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Take the lease, so that whoever asks hears of a refusal at once, and go to work."""
        if self.kernel.switch is not None:
            raise SwitchUnderWay("This notebook is moving already.", switch_id=self.kernel.switch.id)
        self.kernel.switch = self
        try:
            await self._before(SwitchState.REQUESTED)
            if self.to_gpu:
                self.lease = await self._take_lease()
            else:
                self.lease = await self.kernel.plane.lease_by_id(lease_id=self.kernel.lease_id)
        except BaseException:
            self.kernel.switch = None
            raise
        if self._giving_up is not None:
            self.kernel.switch = None
            await self._close_lease(self._giving_up[0], "cancelled")
            raise Conflict(self._giving_up[0])
        self.kernel.traffic.hold_cells()
        self._task = self.kernel.kernels.in_background(self._run())

    async def _take_lease(self) -> dict[str, Any]:
        await self.kernel.has_settled()
        lease: dict[str, Any] = await self.kernel.plane.take_lease(
            self.actor,
            key=self.key,
            kernel_id=self.kernel.kernel_id,
            notebook_path=self.notebook_path,
            **self.request.lease_wish,
        )
        return lease

    async def finished(self) -> None:
        """Wait for the end, whatever it is."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def stop(self, reason: str, *, cancelled: bool = False) -> None:
        """Give up; once it swaps it is too late, and then this waits for the end.

        Parameters
        ----------
        cancelled:
            Whether somebody wanted it so; otherwise it failed.
        """
        if self.ended:
            return
        if self.state is not SwitchState.SWAPPING:
            self._giving_up = (reason, cancelled)  # one that only begins looks at this when it has its lease
            if self._task is not None:
                self._task.cancel()
        await self.finished()

    def cancel_now(self) -> None:
        """Cancel for the API, which wants to hear when it is too late."""
        if self.state is SwitchState.SWAPPING or self.ended or self._task is None:
            raise IllegalMove(f"The switch is {self.state} and can't be cancelled any more.", state=str(self.state))
        self._giving_up = ("Cancelled.", True)
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await self._steps()
        except asyncio.CancelledError:
            reason, cancelled = self._giving_up or ("The server was stopped.", False)
            await self._fail(SwitchState.CANCELLED if cancelled else SwitchState.FAILED, reason, "cancelled", {})
        except ComputeHubError as error:
            await self._fail(SwitchState.FAILED, error.message, error.code, error.details)
        except Exception:
            log.exception("switch %s failed unexpectedly", self.id)
            await self._fail(
                SwitchState.FAILED, "The move failed in the server; its log has the cause.", "internal", {}
            )

    async def _steps(self) -> None:
        if self.to_gpu:
            self.kernel.payer = self.actor.username
        # Begun at once, beside the waiting.
        lease_id = self.lease["id"] if self.to_gpu and self.lease is not None else None
        self._new = asyncio.ensure_future(Successor.start(self.kernel, lease_id))
        self._new.add_done_callback(_seen)
        for state, message, step in self._plan():
            self._show(state, message)
            await self._before(state)
            await step()
        self._show(SwitchState.DONE, "On the GPU" if self.to_gpu else "Back on the CPU")
        self.kernel.switch = None
        self.kernel.traffic.open()

    def _plan(self) -> list[tuple[SwitchState, str, Callable[[], Awaitable[None]]]]:
        waiting = (SwitchState.WAITING, "Waiting for the running cell to end", self._wait)
        starting = (SwitchState.STARTING, "Starting the kernel", self._await_new)
        verify = (SwitchState.VERIFYING, "Verifying the new kernel", self._verify)
        swap = (SwitchState.SWAPPING, "Changing over", self._swap)
        if self.request.keep == "none":
            return [waiting, starting, verify, swap]
        return [
            waiting,
            (SwitchState.CHECKING, "Checking what the notebook uses", self._check),
            starting,
            (SwitchState.CAPTURING, "Collecting the variables", self._capture),
            (SwitchState.RESTORING, "Restoring the variables", self._restore),
            verify,
            swap,
        ]

    async def _before(self, state: SwitchState) -> None:
        if Switch.before_step is not None:
            await Switch.before_step(self, state)

    def _show(self, state: SwitchState, message: str) -> None:
        self.state, self.step_message, self.updated_at = state, message, datetime.now(UTC)
        self.on_change(self)

    # -- steps ---------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS_MAX if self.to_gpu else None):
                await self.kernel.traffic.until_idle()
        except TimeoutError:
            raise CellGoesOn(
                f"The running cell did not end within {WAIT_SECONDS_MAX / 60:.0f} minutes, so the GPU was given back; "
                "nothing was charged. Ask again when it is done."
            ) from None
        await self.kernel.greeted()
        self.kernel.traffic.shut()

    async def _await_new(self) -> None:
        assert self._new is not None
        if self.request.keep == "none":
            counted = asyncio.ensure_future(self._carrier.counted(self._line))
            counted.add_done_callback(_seen)
            new = await asyncio.shield(self._new)
            await new.line.evaluate(counting_on(await counted))
        else:
            await asyncio.shield(self._new)

    async def _check(self) -> None:
        """Find out what can't come along before anything is billed, and go on only if that was agreed to."""
        assert self._new is not None
        preview = await self._carrier.preview(self._line, self.request.keep)
        new = await asyncio.shield(self._new)
        if not same_python(str(preview.get("python", "")), new.python):
            preview = await self._carrier.preview(self._line, self.request.keep, new.python)
        self._problems = await self._carrier.check(new.line, preview)
        if self.to_gpu:
            size = int(preview.get("total_bytes", 0))
            self._problems += await room.problems(self.kernel.plane, self.actor, self.lease, size)
        self.preview = weighed(preview, self.lease, self._problems)
        judge(self.request, self.preview["lost"], self._problems)

    async def _capture(self) -> None:
        assert self._new is not None
        assert self.lease is not None
        new = await asyncio.shield(self._new)
        granted = await self.kernel.plane.transfer_ticket(
            lease_id=self.lease["id"], source_kernel_id=self.kernel.kernel_id
        )
        self._ticket = granted["ticket"]
        assert self.kernel.place is not None
        sides = Side(self.kernel.place, self._line), Side(new.place, new.line)
        self._manifest = await self._carrier.offer(*sides, self.request.keep, self._ticket, new.python)
        judge(self.request, self._manifest.get("lost", []), [])

    async def _restore(self) -> None:
        assert self._new is not None
        assert self._manifest is not None
        new = await asyncio.shield(self._new)
        leaves = self.request.leaves_what_fails
        fetched = self._carrier.fetch(new.line, self._manifest, self._ticket, accept_failures=leaves)
        self._restored = await new.while_alive(fetched, "The new kernel ended while the variables were restored.")
        failed = self._restored.get("failed", [])
        if failed and not leaves:
            said = "; ".join(f"{item['name']}: {item['reason']}" for item in failed[:3])
            raise LossNotAccepted(
                f"Some variables could not be restored, so nothing was moved ({said}).",
                lost=failed,
                problems=[],
                only_there=True,
            )
        count = self._manifest.get("execution_count")
        if count is not None:
            await new.line.evaluate(counting_on(count))

    async def _verify(self) -> None:
        """Hold the new kernel against what was promised, and begin to pay for it."""
        assert self._new is not None
        new = await asyncio.shield(self._new)
        if self._manifest is not None and self._restored is not None:
            failed = {item["name"] for item in self._restored.get("failed", ())}
            missing = set(self._manifest["names"]) - set(self._restored["restored"]) - failed
            if missing:
                raise BackendError(f"The new kernel lacks {', '.join(sorted(missing)[:5])}.", missing=sorted(missing))
        if not self.to_gpu and await new.place.poll() is not None:
            raise BackendError(new.place.died or "The new kernel ended before the notebook could move.")
        assert new.staged is not None
        await staging.complete(self.kernel, new.staged)
        if self.to_gpu:
            assert self.lease is not None
            self.lease = await self.kernel.plane.lease_running(lease_id=self.lease["id"])

    async def _swap(self) -> None:
        assert self._new is not None
        new = await asyncio.shield(self._new)
        assert new.staged is not None
        await staging.complete(self.kernel, new.staged)  # for a browser that came at the last moment
        # What the clock moves back, nobody asked for.
        self.kernel.moved_by = self.actor if self.release_reason == "returned" else None
        before = self.kernel.commit(new.staged, keep_old=self.to_gpu)
        new.staged = None
        restored = self._restored or {}
        lost = [*(self._manifest or {}).get("lost", []), *restored.get("failed", [])]
        seconds = (datetime.now(UTC) - self._started_at).total_seconds()
        self.result = {
            "restored": restored.get("restored", []),
            "lost": lost,
            "notes": [str(note) for note in restored.get("notes", ())][:NOTES_MAX],
            "bytes": int(restored.get("bytes", 0)),
            "seconds": round(seconds, 3),
        }
        kernels = self.kernel.kernels
        if self.to_gpu:
            self.kernel.way_back = before
            self.kernel.way_back_keeper = kernels.in_background(way_back.keep(self.kernel, before))
        else:
            kernels.in_background(self.kernel.drop_way_back())
            self.kernel.leaving = kernels.in_background(self._leave(before))

    async def _leave(self, before: Place) -> None:
        """Give the lease back; what it cost is known then."""
        assert isinstance(before, LeasedPlace)
        before.close_door()
        lease = await self.kernel.kernels.released(before.lease_id, self.release_reason, self.release_message)
        if lease is not None:
            self.kernel.kernels.survival.forget(self.kernel.kernel_id, before.lease_id)
            self.lease = lease
            self.on_change(self)

    @property
    def _carrier(self) -> Carrier:
        carrier: Carrier = self.kernel.kernels.carrier
        return carrier

    @property
    def _line(self) -> Line:
        assert self.kernel.line is not None
        return self.kernel.line

    # -- giving up -----------------------------------------------------------------------------------------------------

    async def _fail(self, state: SwitchState, reason: str, code: str, details: dict[str, Any]) -> None:
        """Leave everything as it was, and say why."""
        self.error = {"message": reason, "code": code, "details": details}
        traffic = self.kernel.traffic
        self._show(state, reason)
        traffic.refuse("NotMoved", f"{reason} This cell was not run.")
        self.kernel.switch, self.kernel.leaving = None, asyncio.current_task()
        traffic.open()
        await self._clean_up(state, reason)
        self.on_change(self)

    async def _clean_up(self, state: SwitchState, reason: str) -> None:
        if self._manifest is not None and self.kernel.line is not None:
            with suppress(ComputeHubError):
                await self._carrier.withdraw(self._line, self._manifest)
        if self._new is not None:
            self._new.cancel()
            await asyncio.wait({self._new})
            if not self._new.cancelled() and self._new.exception() is None:
                await self._new.result().discard()
        self.kernel.kernels.survival.save(self.kernel)  # where it is, not where it was to go
        if self.to_gpu:
            await self._close_lease(reason, "cancelled" if state is SwitchState.CANCELLED else "start_failed")

    async def _close_lease(self, message: str, reason: str) -> None:
        if self.lease is None or not self.to_gpu:
            return
        try:
            self.lease = await self.kernel.plane.lease_failed(lease_id=self.lease["id"], reason=reason, message=message)
        except ComputeHubError as error:
            # Unrenewed it ends by itself, and the control plane settles it with nothing charged.
            log.warning("lease %s of failed switch %s could not be closed: %s", self.lease["id"], self.id, error)


def _seen(task: asyncio.Future[Any]) -> None:
    """Look at a failure that somebody else reports, so that asyncio does not call it forgotten."""
    if not task.cancelled():
        task.exception()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
