"""A kernel's place as people see it: the same for all who may use the notebook, but for what each of them may do."""

from __future__ import annotations

from typing import Any

from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import Forbidden, NotFound
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.switch import Switch

_NOWHERE = {"since_at": None, "gives_back_at": None}


async def place_of(plane: Any, actor: Actor, kernel: Any, notebook_path: str | None) -> dict[str, Any]:
    """The kernel's place, shaped as openapi.yaml's ``KernelPlace``."""
    lease_id: str | None = getattr(kernel, "lease_id", None)
    seen = await _seen(plane, actor, lease_id)
    last = await _seen(plane, actor, getattr(kernel, "last_lease_id", None)) if lease_id is None else None
    switch: Switch | None = getattr(kernel, "switch", None)
    busy = is_busy(kernel)
    moved_by: Actor | None = getattr(kernel, "moved_by", None)
    return {
        "kernel_id": kernel.kernel_id,
        "place": "cpu" if lease_id is None else "gpu",
        "notebook_path": notebook_path,
        "lease": seen["lease"] if seen else None,
        "last_lease": last["lease"] if last and last["is_mine"] else None,
        "switch": switch.as_json() if switch is not None else None,
        "payer": seen["payer"] if seen else None,
        "moved_by": named(moved_by) if moved_by is not None else None,
        "is_mine": bool(seen and seen["is_mine"]),
        "may": _rights(kernel, seen),
        "idle": _NOWHERE if busy or seen is None else seen["idle"],
        "waiting_cells": kernel.traffic.gate.waiting_cells if getattr(kernel, "traffic", None) is not None else 0,
        "busy": busy,
    }


def named(actor: Actor) -> dict[str, str]:
    return {"username": actor.username, "display_name": actor.display_name or actor.username}


def is_busy(kernel: Any) -> bool:
    """Whether a cell runs."""
    traffic = getattr(kernel, "traffic", None)
    if traffic is None:
        return bool(kernel.execution_state == "busy")
    return not traffic.gate.idle


async def _seen(plane: Any, actor: Actor, lease_id: str | None) -> dict[str, Any] | None:
    if lease_id is None:
        return None
    try:
        seen: dict[str, Any] = await plane.lease_seen(actor, lease_id=lease_id)
    except (NotFound, Forbidden):
        return None
    return seen


def _rights(kernel: Any, seen: dict[str, Any] | None) -> dict[str, Any]:
    """What the routes would do for this one; ``why`` speaks of what is withheld, not of what makes no sense here."""
    may = seen["may"] if seen else {"return": False, "extend": False, "shorten": False, "end": False}
    on_gpu = getattr(kernel, "lease_id", None) is not None
    stays = _why_it_stays(kernel)
    why = stays
    if why is None and seen is not None and not may["extend"] and seen["lease"]["state"] == "running":
        payer = seen["payer"]["display_name"] or seen["payer"]["username"]
        if may["end"]:
            why = f"{payer} pays for this GPU, so only they can extend it."
        else:
            why = f"{payer} pays for this GPU, so only they can move the notebook back, extend, shorten or end it."
    return {
        "move": stays is None and (may["return"] if on_gpu else True),
        "extend": may["extend"],
        "shorten": may["shorten"],
        "end": may["end"],
        "why": why,
    }


def _why_it_stays(kernel: Any) -> str | None:
    """Why nobody can move it now, whoever pays."""
    if not isinstance(kernel, SwitchableKernelManager):
        return "This kernel is of a kind that can't be moved."
    reason = kernel.why_not_switchable
    if reason is not None or kernel.place is None:
        return reason or "This kernel is not running."
    return "This notebook is moving already." if kernel.switch is not None else None
