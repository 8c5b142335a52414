"""What a move would take along, lose and cost, found out without moving, holding or keeping anything."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.notebook import cpu_side, room
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import SwitchRequest, SwitchUnderWay, judge
from computehub_ext.notebook.seen import is_busy
from computehub_ext.notebook.state import weighed
from computehub_ext.notebook.switches import Switches

ANSWER_SECONDS = 10.0

_CELL_RUNS = "A cell runs: the move begins when it has ended, and what the notebook holds is known then."
_SILENT = "The notebook could not say in time what it holds; the move looks again before it begins."


async def preview(
    switches: Switches,
    actor: Actor,
    kernel: SwitchableKernelManager,
    notebook_path: str | None,
    request: SwitchRequest,
) -> dict[str, Any]:
    """The answer of ``POST switches/preview``. A refusal that the move would meet is part of it, not raised."""
    answer: dict[str, Any] = {"preview": None, "quote": None, "problem": None, "busy": is_busy(kernel), "waits": None}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await switches.refuse_senseless(actor, kernel, request)
            if kernel.switch is not None:
                raise SwitchUnderWay("This notebook is moving already.", switch_id=kernel.switch.id)
            lease = await _priced(actor, kernel, notebook_path, request, answer) if request.target == "gpu" else None
            await _fill(actor, kernel, request, lease, answer)
    except TimeoutError:
        answer["waits"] = _SILENT
    except ComputeHubError as error:
        answer["problem"] = answer["problem"] or error.as_json()
    return answer


async def _priced(
    actor: Actor,
    kernel: SwitchableKernelManager,
    notebook_path: str | None,
    request: SwitchRequest,
    answer: dict[str, Any],
) -> dict[str, Any] | None:
    """Quote the move, and return the lease that it would take; what it would be refused with goes into the answer."""
    lease: dict[str, Any] | None = None
    seconds = request.duration_seconds
    await kernel.has_settled()
    try:
        lease = await kernel.plane.try_lease(
            actor, kernel_id=kernel.kernel_id, notebook_path=notebook_path, **request.lease_wish
        )
    except ComputeHubError as error:
        answer["problem"] = error.as_json()
    if request.booking_id is not None or (lease is not None and not lease["on_the_spot"]):
        return lease
    if lease is not None:  # without a length it takes what the money lasts for
        seconds = round((_read(lease["ends_at"]) - _read(lease["created_at"])).total_seconds())
    try:
        answer["quote"] = await kernel.plane.quote(
            actor,
            model=request.model,
            count=request.count,
            duration_seconds=seconds,
            max_rate_microcredits_per_hour=request.max_rate_microcredits_per_hour,
        )
    except ComputeHubError as error:
        answer["problem"] = answer["problem"] or error.as_json()
    return lease


async def _fill(
    actor: Actor,
    kernel: SwitchableKernelManager,
    request: SwitchRequest,
    lease: dict[str, Any] | None,
    answer: dict[str, Any],
) -> None:
    found: dict[str, Any] = {}
    if request.keep != "none":
        if is_busy(kernel) or kernel.line is None:
            answer["busy"], answer["waits"] = True, _CELL_RUNS
            return
        await kernel.greeted()
        found = await kernel.kernels.carrier.preview(kernel.line, request.keep)
    elif answer["busy"]:
        answer["waits"] = _CELL_RUNS
    price = lease or answer["quote"]
    if request.target == "cpu":
        problems = await cpu_side.problems(kernel.kernel_spec, found)
    else:
        problems = await room.problems(kernel.plane, actor, price, int(found.get("total_bytes", 0)))
    answer["preview"] = weighed(found, price, problems)
    judge(request, answer["preview"]["lost"], [])


def _read(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
