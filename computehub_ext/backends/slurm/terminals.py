"""A terminal into a kernel's job: one more step of the job, by ``srun --overlap``, which shares all that it has."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from computehub_ext.core.errors import Refused, Unreachable

from ..capabilities import Terminal, TerminalRequest
from ..environment import LABEL
from ..pipes import PipeStream
from ..shells import ARGUMENTS, StreamTerminal
from .script import prepare
from .settings import SlurmSettings

OTHERS_JOBS = "Jobs run as the people themselves here, into whose jobs the account of ComputeHub can't put a terminal."


def open_terminal(
    settings: SlurmSettings, job_id: str, environment: Mapping[str, str], request: TerminalRequest
) -> Terminal:
    """Open one in a job that runs."""
    if settings.submit_command:
        raise Refused(OTHERS_JOBS)
    try:
        stream = PipeStream(command(settings, job_id), environment)
    except OSError as problem:
        raise Unreachable(f"srun can't be run: {problem.strerror}.") from problem
    config = {
        "rows": request.rows,
        "columns": request.columns,
        # The job has what its modules and the cluster gave it, which nobody here knows.
        "environment": None,
        "label": [LABEL, request.placement_id],
    }
    return StreamTerminal(stream, config)


def command(settings: SlurmSettings, job_id: str) -> list[str]:
    python = [*settings.container, next(iter(settings.kernels.values())), *ARGUMENTS]
    step = ["srun", f"--jobid={job_id}", "--overlap", "--nodes=1", "--ntasks=1", "--unbuffered", "--quiet", "--chdir=/"]
    if not settings.modules and not settings.prologue:
        return [*step, *python]
    # As the job itself was started: its Python may need what they set. What is typed is not for them to read.
    shell = ["/bin/bash", *(["-l"] if settings.modules else []), "-c"]
    return [*step, *shell, "\n".join(["{", *prepare(settings), "} </dev/null", f"exec {shlex.join(python)}"])]
