"""What an engine complains of, as failures of ours."""

from __future__ import annotations

from typing import Any

from computehub_ext.core.errors import NoCapacity, Refused, SkipPlace

_NO_ROOM = ("no space left", "cannot allocate memory", "resource temporarily unavailable", "not enough memory")
_NO_PYTHON = "The image does not have the Python that this place's settings name."
_REFUSED = (
    ("could not select device driver", "The engine can't give GPUs to containers: it lacks the NVIDIA toolkit."),
    ("unknown runtime", "The engine does not have the runtime that this place's settings name."),
    ("executable file not found", _NO_PYTHON),
    ("unable to start container process: exec:", _NO_PYTHON),
    ("bind source path does not exist", "A folder that this place mounts is not on the engine's machine."),
    ("invalid mount config", "A folder that this place mounts can't be mounted."),
    ("cannot assign requested address", "The engine's machine lacks the address that publish_address or _host names."),
    ("range of cpus", "This place's settings give a kernel more cores than the engine's machine has."),
)


class NameTaken(Exception):
    """Another container has this name: somebody was first."""


class Gone(Exception):
    """There is no such container."""


class NotThere(Exception):
    """There is no such file in it, or no such container."""


def as_ours(problem: Any) -> Exception:
    """Return a failure that the engine told of as one of ours."""
    said = str(problem.explanation or problem)
    lower = said.lower()
    if problem.status_code == 404 and "no such container" in lower:
        return Gone(said)
    if problem.status_code == 409:
        return NameTaken(said)
    if any(part in lower for part in _NO_ROOM):
        return NoCapacity(f"The engine has no room for another kernel: {said}")
    for part, sentence in _REFUSED:
        if part in lower:
            return Refused(f"{sentence} It said: {said}")
    if problem.status_code in (400, 404):
        return Refused(f"The engine refused: {said}")
    return SkipPlace(f"The engine failed: {said}")
