#!/usr/bin/env python3
"""Submit, cancel or read the output of a job as the user who runs this: what ``submit_command`` runs under ``sudo -u``.

Needs the standard library alone, so an administrator installs this one file, owned by root, and lets the control
plane's account run it as the people who may have kernels:

    computehub ALL=(%jupyter) NOPASSWD: /opt/computehub/slurm-submit

One JSON object comes on stdin, which no process list shows, and one goes to stdout:

    {"action": "submit", "placement", "token", "arguments", "script"}  ->  {"code", "out", "err"} of sbatch
    {"action": "cancel", "jobs": ["12"]}                               ->  the same of scancel
    {"action": "output", "placement"}                                  ->  {"code": 0, "out": ...}
    {"action": "forget", "placement"}                                  ->  {"code": 0}

Each may have a ``slurm_conf``, the path of the cluster's configuration where it is not in its usual place: sudo drops
``SLURM_CONF`` from the environment. It is taken only where root alone can change that file, since Slurm's commands load
the plug-ins that it names. Where sudoers keeps ``SLURM_CONF`` (``env_keep``), that one is taken.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys

FOLDER = os.path.join(".computehub", "slurm")
OUTPUT_BYTES_MAX = 4000
COMMAND_SECONDS_MAX = 30
_PLACEMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_JOB = re.compile(r"[0-9]+")
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "SLURM_CONF")
"""A job inherits the environment of its sbatch: these and no more."""


def run(command: list[str], text: str = "") -> dict[str, object]:
    """Run one of Slurm's commands with a short environment."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        done = subprocess.run(
            command,
            input=text,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"code": -1, "out": "", "err": f"{command[0]} did not answer within {COMMAND_SECONDS_MAX} seconds"}
    except OSError as problem:
        return {"code": -1, "out": "", "err": f"{command[0]} can't be run: {problem}"}
    return {"code": done.returncode, "out": done.stdout, "err": done.stderr}


def lay_down(folder: str, placement: str, token: str) -> None:
    """Write the token for the job, all at once and for its user alone."""
    path = os.path.join(folder, placement)
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(token)
    os.replace(path + ".new", path + ".token")


def sbatch(folder: str, placement: str, arguments: list[str]) -> list[str]:
    """Return the command that submits a job whose script comes on stdin."""
    return ["sbatch", f"--output={os.path.join(folder, placement)}.out", *arguments]


def output(folder: str, placement: str) -> str:
    """Return the last of what a job wrote itself: what its prologue or its Python complained about."""
    try:
        with open(os.path.join(folder, placement + ".out"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - OUTPUT_BYTES_MAX))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def forget(folder: str, placement: str) -> None:
    for ending in (".token", ".new", ".out", ".job"):
        try:
            os.unlink(os.path.join(folder, placement + ending))
        except OSError:
            pass


def private(folder: str) -> str:
    """Make the folder, which only its owner may enter."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    return folder


def is_roots_alone(path: str) -> bool:
    """Tell whether nobody but root can change a file, or put another one in its place."""
    path = os.path.realpath(path)
    while True:
        found = os.stat(path)
        is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX  # as /tmp: what lies there stays
        if found.st_uid != 0 or (found.st_mode & 0o022 and not is_sticky):
            return False
        if path == os.path.dirname(path):
            return True
        path = os.path.dirname(path)


def choose_cluster(slurm_conf: str) -> None:
    """Have Slurm's commands read the configuration that was named, unless sudoers let one through."""
    if not slurm_conf or os.environ.get("SLURM_CONF"):
        return
    try:
        if not is_roots_alone(slurm_conf):
            raise SystemExit(f"{slurm_conf} is not taken: others than root can change it")
    except OSError as problem:
        raise SystemExit(f"{slurm_conf} can't be looked at: {problem.strerror}") from problem
    os.environ["SLURM_CONF"] = os.path.realpath(slurm_conf)


def main() -> None:
    asked = json.load(sys.stdin)
    placement = str(asked.get("placement", ""))
    if asked["action"] != "cancel" and not _PLACEMENT.fullmatch(placement):
        raise SystemExit("no such placement id")
    choose_cluster(str(asked.get("slurm_conf", "")))
    folder = os.path.join(os.path.expanduser("~"), FOLDER)
    try:
        private(folder)
    except OSError as problem:
        raise SystemExit(f"{folder} can't be made: {problem.strerror}") from problem
    answer: dict[str, object] = {"code": 0}
    if asked["action"] == "submit":
        lay_down(folder, placement, asked["token"])
        answer = run(sbatch(folder, placement, asked["arguments"]), asked["script"])
    elif asked["action"] == "cancel":
        jobs = [str(job) for job in asked["jobs"]]
        if not jobs or not all(_JOB.fullmatch(job) for job in jobs):
            raise SystemExit("no such job")
        answer = run(["scancel", *jobs])
    elif asked["action"] == "output":
        answer = {"code": 0, "out": output(folder, placement)}
    elif asked["action"] == "forget":
        forget(folder, placement)
    else:
        raise SystemExit("no such action")
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
