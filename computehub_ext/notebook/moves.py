"""What a move is asked for with, what it goes through, and when it must be refused. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from computehub_ext.core.errors import Conflict
from computehub_ext.notebook.state import Keep


class SwitchState(StrEnum):
    REQUESTED = "requested"
    WAITING = "waiting"
    CHECKING = "checking"
    STARTING = "starting"
    CAPTURING = "capturing"
    RESTORING = "restoring"
    VERIFYING = "verifying"
    SWAPPING = "swapping"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (SwitchState.DONE, SwitchState.FAILED, SwitchState.CANCELLED)


class LossNotAccepted(Conflict):
    """Something can't come along, and nobody agreed to leave it; ``details`` name it."""

    code = "loss_not_accepted"


class SwitchUnderWay(Conflict):
    code = "switch_under_way"


class CellGoesOn(Conflict):
    """The cell that ran when the move was asked for did not end in time."""

    code = "cell_goes_on"


@dataclass(frozen=True)
class SwitchRequest:
    """What was asked for, in the words of the API."""

    target: str
    model: str | None = None
    count: int = 1
    duration_seconds: int | None = None
    max_rate_microcredits_per_hour: int | None = None
    keep: Keep = "all"
    strict: bool = False
    accept_loss: bool = False
    """Names that can't come along may stay behind."""
    accept_problems: bool = False
    """The other place may lack what the notebook uses: agreed to apart, since only the names are known before."""
    accept_failures: bool = False
    """What turns out only there not to be rebuilt may stay behind too, whatever it is: nobody could leave a GPU
    otherwise whose notebook imported what the CPU does not have."""
    booking_id: str | None = None
    idle_timeout_seconds: int | None = None
    display_id: str | None = None
    approval_id: str | None = None

    @property
    def leaves_what_fails(self) -> bool:
        return self.accept_failures and not self.strict

    @property
    def lease_wish(self) -> dict[str, Any]:
        """What of it the control plane is asked for."""
        return {
            "model": self.model,
            "count": self.count,
            "duration_seconds": self.duration_seconds,
            "max_rate_microcredits_per_hour": self.max_rate_microcredits_per_hour,
            "booking_id": self.booking_id,
            "idle_timeout_seconds": self.idle_timeout_seconds,
            "approval_id": self.approval_id,
        }


def judge(request: SwitchRequest, lost: list[dict[str, Any]], problems: list[dict[str, Any]]) -> None:
    """Raise ``LossNotAccepted`` unless all that stays behind, and all that the other place lacks, was agreed to."""
    refused = lost if request.strict or not request.accept_loss else []
    if not refused and (not problems or request.accept_problems):
        return
    if refused:
        names = ", ".join(str(item["name"]) for item in lost[:5]) + (" …" if len(lost) > 5 else "")
        said = f"These can't come along: {names}. Nothing was moved."
    else:
        said = " ".join(problem["message"] for problem in problems[:3])
        said += " Nothing was moved; with `--yes` the notebook moves all the same."
    raise LossNotAccepted(said, lost=lost, problems=problems)
