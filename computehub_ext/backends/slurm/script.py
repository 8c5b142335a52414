"""The job script and the arguments of ``sbatch``. Both can be read by others on many clusters: no secret is in them."""

from __future__ import annotations

import math
import shlex
from datetime import datetime
from functools import cache
from pathlib import Path

from .settings import SlurmSettings

_KERNEL_WING = Path(__file__).resolve().parents[2] / "kernel"  # programs that we send, not modules that we import
_END = "COMPUTEHUB_LAUNCHER_ENDS"
NO_CODE = 100
REASONS = ("exited", "crashed", "killed", "out_of_memory", "stopped", "unpaid", "supervisor_lost", "start_failed")
"""What a launcher's exit code says, by the launcher's own table."""

SET_BY_JOB = "COMPUTEHUB_SET_BY_JOB"
"""Has the names of what the modules and the prologue set or changed, for ``runner.py``."""
# What was there before them stays out, such as what a person's own start-up files set. In bash, without a process.
# Those files may have set IFS, which is theirs again for the lines in between. A note with nothing in it went wrong, so
# nothing is handed on by it.
_IFS = "IFS=$' \\t\\n'"
_NOTE = (
    f"declare -A computehub_had; computehub_ifs=${{IFS-$' \\t\\n'}}; {_IFS}; "
    "for name in $(compgen -e); do computehub_had[$name]=${!name}; done; IFS=$computehub_ifs"
)
_COMPARE = f"""export {SET_BY_JOB}=; {_IFS}; [[ ${{#computehub_had[@]}} == 0 ]] || for name in $(compgen -e); do
[[ ${{computehub_had[$name]+x}} && ${{computehub_had[$name]}} == "${{!name}}" ]] || {SET_BY_JOB}+=" $name"; done"""

TOKEN_IN_HOME = '"$HOME"/.computehub/slurm/'
"""Where ``submit.py`` puts a token; the job's own HOME, so that nobody here has to know it."""


@cache
def program(name: str) -> str:
    """Return one of the programs that run at the other end."""
    return (_KERNEL_WING / f"{name}.py").read_text(encoding="utf-8")


def script(
    settings: SlurmSettings, *, link: str, server_key: str, placement_id: str, python: str, wait_until: float = 0.0
) -> str:
    """Return the job script; with ``wait_until`` of a job that was asked for ahead and may wait for its kernel."""
    lines = ["#!/bin/bash -l" if settings.modules else "#!/bin/bash"]
    if preparation := prepare(settings):
        lines += [_NOTE, *preparation, _COMPARE]
    token = TOKEN_IN_HOME if settings.submit_command else shlex.quote(settings.spool.rstrip("/")) + "/"
    command = [*settings.container, python, "-I", "-", "--link", link, "--server-key", server_key]
    if wait_until:
        command += ["--wait-until", f"{wait_until:.0f}"]
    command += ["--placement", placement_id, "--token-file"]
    lines += [f"exec {shlex.join(command)} {token}{placement_id}.token <<'{_END}'", program("launcher") + _END, ""]
    return "\n".join(lines)


def prepare(settings: SlurmSettings) -> list[str]:
    """Return the lines that have to run before a Python of the place: by a login shell where there are modules."""
    if not settings.modules:
        return list(settings.prologue)
    lines = [f"type module >/dev/null 2>&1 || {_give_up('Login shells on', 'know no command module.')}"]
    lines += [f"module use {shlex.quote(path)}" for path in settings.module_paths]
    failure = _give_up("On", f"these modules can't be loaded: {', '.join(settings.modules)}.")
    lines.append(f"module load {shlex.join(settings.modules)} || {failure}")
    return [*lines, *settings.prologue]


def _give_up(before: str, after: str) -> str:
    node = '"${SLURMD_NODENAME:-$HOSTNAME}"'
    return f"{{ echo {shlex.quote(before)} {node} {shlex.quote(after)} >&2; exit 1; }}"


def limit_minutes(settings: SlurmSettings, until: datetime, now: datetime) -> int:
    """Return the time limit of a job that starts at once and is wanted until then."""
    wanted = math.ceil((until - now).total_seconds() / 60) + settings.time_margin_minutes
    return max(settings.time_limit_minutes, wanted)


def arguments(
    settings: SlurmSettings, *, model: str, device_count: int, minutes: int, name: str, comment: str
) -> list[str]:
    """Return ``sbatch``'s arguments, but for the file that the job's output goes to."""
    found = [
        "--parsable",
        "--no-requeue",  # a kernel that starts again elsewhere has lost everything, and nobody waits for it
        f"--time={minutes}",
        f"--job-name={name}",
        f"--comment={comment}",
        "--nodes=1",
        "--ntasks=1",
        "--chdir=/",  # the notebook's folder is looked for by the launcher, which can say that it is not there
        "--input=/dev/null",
        "--open-mode=append",
    ]
    for option in ("partition", "account", "qos", "constraint", "reservation"):
        if value := getattr(settings, option):
            found.append(f"--{option}={value}")
    if gres := settings.gres_for(model, device_count):
        found.append(f"--gres={gres}")
    if settings.cpus:
        found.append(f"--cpus-per-task={settings.cpus}")
    if settings.memory_mib:
        found.append(f"--mem={settings.memory_mib}M")
    return [*found, *settings.sbatch_arguments]
