"""A control plane that is killed in the middle of a start: ``python -m tests.support.dying STEP WHAT FILE``.

``WHAT`` is ``start`` or ``stop``. ``STEP`` is ``before:NAME`` or ``after:NAME``; ``STEPS`` has the names.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from computehub_ext.backends.docker import DockerBackend, adoption, engine, mounting, records, shared
from computehub_ext.testing.kernels import wait_for
from tests.support.standing import pool

STEPS: dict[str, tuple[Any, str]] = {
    "fill": (shared.SharedFolder, "give"),
    "create": (engine.Engine, "create"),
    "put": (engine.Engine, "put"),
    "start": (engine.Engine, "start"),
    "record": (records.Records, "write"),
    "rename": (engine.Engine, "rename"),
    "adopt": (adoption, "adopt"),
    "mount": (mounting.Window, "mount"),
    "remove": (engine.Engine, "remove"),
    "clear": (shared.SharedFolder, "remove"),
}


def die_at(step: str) -> None:
    when, _, name = step.partition(":")
    owner, method = STEPS[name]
    real: Callable[..., Any] = getattr(owner, method)

    def dying(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, dying)


def main() -> None:
    step, what, file = sys.argv[1:]
    state_dir, settings, request = pickle.loads(Path(file).read_bytes())
    backend = DockerBackend(state_dir, settings)
    backend.prepare([pool()])
    if settings.warm_count:
        wait_for(lambda: backend.warm_count == settings.warm_count, message="no standby was ready")
    if what == "stop":
        backend.start(request)
    die_at(step)
    if what == "stop":
        backend.stop(request.placement_id, 0)
    else:
        backend.start(request)
    raise AssertionError(f"{step} was never reached")


if __name__ == "__main__":
    main()
