"""An extension of a Jupyter server that lets a test choose at which moment of a move the server is killed, or fails.

The file that ``COMPUTEHUB_TEST_MOMENT`` names holds ``kill MOMENT`` or ``fail MOMENT``; without it nothing happens. A
moment is a step of the move, at whose beginning it is, or one of these, between what is written down and what is done:

leased      the lease is committed, and whoever asked for it does not know yet
intended    the placement is committed, and nothing has been started
placed      the kernel runs, and the books don't say so yet
paid        the first payment is committed, and the supervisor has not been told
leaving     the notebook has changed over and all notes are on the disk, and its lease is about to be released
stopping    the lease is settled, and its kernel still runs
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from computehub_ext.backends.local import LocalBackend
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.errors import Refused
from computehub_ext.leases.operator import LeaseOperator
from computehub_ext.notebook.moves import SwitchState
from computehub_ext.notebook.saved import SavedKernels
from computehub_ext.notebook.switch import Switch

VARIABLE = "COMPUTEHUB_TEST_MOMENT"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    Switch.before_step = _before_step
    _cut(LocalBackend, "start", before="intended", after="placed")
    _cut(LocalBackend, "stop", before="stopping")
    _cut(LeaseOperator, "_renew_at", before="paid")
    _cut_awaited(ControlPlane, "take_lease", after="leased")
    _cut_awaited(ControlPlane, "release_lease", before="leaving")
    _note_before("leaving")


def reached(moment: str) -> None:
    """Do what the test wants to happen here, if anything."""
    match _told():
        case ["kill", each] if each == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["fail", each] if each == moment:
            raise Refused(f"No {moment} today.")


def _told() -> list[str]:
    try:
        return Path(os.environ[VARIABLE]).read_text().split()
    except FileNotFoundError:
        return []


async def _before_step(switch: Switch, state: SwitchState) -> None:
    reached(str(state))


def _cut(owner: type, method: str, *, before: str = "", after: str = "") -> None:
    real: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(real)
    def cut(*arguments: Any, **named: Any) -> Any:
        reached(before)
        answer = real(*arguments, **named)
        reached(after)
        return answer

    setattr(owner, method, cut)


def _cut_awaited(owner: type, method: str, *, before: str = "", after: str = "") -> None:
    real: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(real)
    async def cut(*arguments: Any, **named: Any) -> Any:
        reached(before)
        answer = await real(*arguments, **named)
        reached(after)
        return answer

    setattr(owner, method, cut)


def _note_before(moment: str) -> None:
    """Have the server wait for the disk, which mostly is faster than what comes next."""
    real: Callable[..., Any] = SavedKernels._write_soon

    def write_now(saved: SavedKernels) -> Any:
        written = real(saved)
        if written is not None and _told() == ["kill", moment]:
            written.result()
        return written

    SavedKernels._write_soon = write_now  # type: ignore[method-assign, assignment]
