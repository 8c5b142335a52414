"""How a container ended: what its supervisor wrote, weighed against what the engine saw."""

from __future__ import annotations

import time

from ..model import ENDINGS, Ending, KernelLimits
from .engine import Container
from .folders import Folder
from .records import Record

_BY_SUPERVISOR = {
    reason.value: reason
    for reason in (
        Ending.EXITED,
        Ending.CRASHED,
        Ending.KILLED,
        Ending.OUT_OF_MEMORY,
        Ending.STOPPED,
        Ending.UNPAID,
        Ending.START_FAILED,
    )
}


def of(container: Container, folder: Folder, said: str) -> Record:
    """Return the record of a container that is over. ``said`` is what it wrote where its log was not open yet."""
    end = folder.end() or {}
    reason = _BY_SUPERVISOR.get(str(end.get("reason")))
    code = end.get("exit_code")
    if reason is None:
        # Its supervisor did not get as far as writing: it could not begin, or went with everything else.
        has_begun = folder.ports() is not None
        reason = Ending.SUPERVISOR_LOST if has_begun else Ending.START_FAILED
        code = 128 - container.exit_code if container.exit_code > 128 else container.exit_code
        if container.is_oom_killed and has_begun:
            reason = Ending.OUT_OF_MEMORY
    elif reason is Ending.KILLED and container.is_oom_killed:
        reason = Ending.OUT_OF_MEMORY
    message = ENDINGS[reason]
    if reason is Ending.OUT_OF_MEMORY and container.memory_bytes:
        message = KernelLimits(memory_mib=container.memory_bytes >> 20).exceeded()
    finished_at = time.time() if container.finished_at is None else container.finished_at.timestamp()
    log = "\n".join(part for part in (folder.log_tail(), said) if part)
    return Record(folder.key, reason, code if isinstance(code, int) else None, message, finished_at, log=log)
