"""A control plane with a terminal open, for a test to kill: ``python -m tests.support.left_terminal KIND FILE``."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.slurm import terminals
from computehub_ext.testing.terminal_contract import Screen

BEGUN = "begun1"


def main() -> None:
    kind, file = sys.argv[1:]
    place, settings, request = pickle.loads(Path(file).read_bytes())
    if kind == "docker":
        terminal = DockerBackend(place, settings).open_terminal(request)
    else:
        job_id, environment = place
        terminal = terminals.open_terminal(settings, job_id, environment, request)
    screen = Screen(terminal)
    screen.type("(setsid sleep 98771 &) ; echo begun$((1)); sleep 98771")
    screen.until(BEGUN)
    print(BEGUN, flush=True)
    while True:
        terminal.read(1.0)


if __name__ == "__main__":
    main()
