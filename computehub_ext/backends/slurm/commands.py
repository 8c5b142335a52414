"""Slurm's commands, each with a time limit, and what their answers mean."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from computehub_ext.core.errors import BackendError, NoCapacity, Refused, Unreachable

from . import submit, words
from .immediate import Sruns
from .settings import SlurmSettings

_USER = re.compile(r"[a-z_A-Z][a-zA-Z0-9_.-]{0,63}")
_NO_ANSWER = re.compile(
    r"unable to contact|connect failure|connection (refused|failure|timed out)|timed out|did not answer"
    r"|zero bytes|munge|standby mode|unable to accept|can't be run|unable to establish|authentication",
    re.IGNORECASE,
)
_NO_ROOM = re.compile(r"submit limit|job limit|limit.*reached|(down|drained) or reserved|temporarily", re.IGNORECASE)
# What sbatch says where one of them is wrong; "account or account/partition combination" is mostly the account.
_SETTINGS = (
    (r"\baccount\b", "account"),
    (r"\bqos\b|quality of service", "qos"),
    (r"\bpartition\b", "partition"),
    (r"\bfeature", "constraint"),
    (r"\breservation\b", "reservation"),
)
_LET_IN = re.compile(r"task 0:|job \d+ (queued|has been allocated)|Force Terminated|has been revoked")
_FORMAT = "%i|%T|%r|%N|%S|%P|%u|%j"  # the name comes last: it may hold anything
_FIELD = re.compile(r"(StartTime|EndTime|Flags)=(\S*)")
_ACTIVE = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
)

_UNHEARD = ("down", "fail", "unk", "boot", "pow_dn", "pow_up")
"""Short states of a node on which nothing of a job can run, or nobody knows. A drained one runs what it has."""

OnRefusal = Callable[[BackendError], None]


@dataclass(frozen=True)
class Job:
    """One job as Slurm sees it. ``reason`` is why it waits, ``starts_at`` when it is thought to start, or did."""

    job_id: str
    state: str
    reason: str
    node: str
    starts_at: str
    partition: str
    name: str
    user: str = ""

    @property
    def is_over(self) -> bool:
        return self.state not in _ACTIVE

    @property
    def is_waiting(self) -> bool:
        return self.state in ("PENDING", "CONFIGURING")


class Slurm:
    """Speaks to one cluster, as the user who runs the control plane or, by ``submit_command``, as others."""

    def __init__(self, settings: SlurmSettings) -> None:
        self._settings = settings
        self._sruns = Sruns()

    # As the job's user

    def submit(
        self,
        user: str,
        *,
        placement_id: str,
        token: str,
        arguments: Sequence[str],
        script: str,
        on_refusal: OnRefusal = lambda problem: None,
    ) -> str:
        """Submit a job and return its number; the words of a refusal are sbatch's own.

        With ``immediate`` it returns at once and without a number, and a refusal is told to ``on_refusal``.
        """
        if self._settings.immediate:
            self._run_at_once(placement_id, token, arguments, script, on_refusal)
            return ""
        answer = self._as(
            user,
            {
                "action": "submit",
                "placement": placement_id,
                "token": token,
                "arguments": list(arguments),
                "script": script,
            },
        )
        if answer["code"]:
            raise self._refusal("sbatch", str(answer["err"]))
        return str(answer["out"]).strip().partition(";")[0]

    def _refusal(self, command: str, said: str) -> BackendError:
        """Return why a job was not taken; which setting it is that an administrator has to look at."""
        problem = _problem(command, said)
        name = next((name for pattern, name in _SETTINGS if re.search(pattern, problem.message, re.IGNORECASE)), "")
        if type(problem) is not Refused or not name:
            return problem
        value = getattr(self._settings, name)
        told = f"`{name}` of the place is {value!r}." if value else f"`{name}` of the place is not set."
        return Refused(f"{problem.message} {told}", **problem.details, setting=name)

    def cancel(self, user: str, job_ids: Sequence[str]) -> None:
        """Have Slurm end jobs; those that have ended already are fine."""
        answer = self._as(user, {"action": "cancel", "jobs": list(job_ids)})
        if answer["code"] and _NO_ANSWER.search(str(answer["err"])):
            raise _problem("scancel", str(answer["err"]))

    def output(self, user: str, placement_id: str) -> str:
        """Return the last of what a job wrote, or why it can't be read as its user."""
        try:
            return str(self._as(user, {"action": "output", "placement": placement_id}).get("out", ""))
        except Refused as problem:
            return problem.message

    def forget(self, user: str, placement_id: str) -> None:
        self._as(user, {"action": "forget", "placement": placement_id})

    def user_for(self, username: str) -> str:
        """Return whose job it is on the cluster; empty for whoever runs the control plane."""
        if not self._settings.submit_command:
            return ""
        user = self._settings.account_name.format(username=username)
        try:
            if not _USER.fullmatch(user):
                raise KeyError(user)
            pwd.getpwnam(user)  # squeue looks them up here, too, and answers nothing at all for an unknown one
        except KeyError as problem:
            raise Refused(f"{user!r} is no user of the cluster.", kind="user") from problem
        return user

    def _as(self, user: str, asked: dict[str, object]) -> dict[str, object]:
        settings = self._settings
        if not settings.submit_command:
            return self._here(asked)
        command = [part.replace("{user}", user) for part in settings.submit_command]
        # sudo drops SLURM_CONF: without this, sbatch would submit to another cluster than the one that squeue asks.
        conf = self.environment().get("SLURM_CONF", "")
        done = self._run(command, json.dumps({**asked, "slurm_conf": conf} if conf else asked))
        try:
            answer = json.loads(done.stdout)
        except ValueError as problem:
            words = done.stderr.strip() or "it gave no answer"
            raise Refused(f"The cluster's jobs can't be run as {user}: {words}.", kind="user") from problem
        assert isinstance(answer, dict)
        return answer

    def _here(self, asked: dict[str, object]) -> dict[str, object]:
        folder = self._settings.spool
        placement_id = str(asked.get("placement", ""))
        if asked["action"] == "output":
            return {"code": 0, "out": submit.output(folder, placement_id)}
        if asked["action"] == "forget":
            submit.forget(folder, placement_id)
            return {"code": 0}
        if asked["action"] == "cancel":
            command, text = ["scancel", *asked["jobs"]], ""  # type: ignore[misc]
        else:
            submit.lay_down(folder, placement_id, str(asked["token"]))
            command, text = submit.sbatch(folder, placement_id, asked["arguments"]), str(asked["script"])  # type: ignore[arg-type]
        done = self._run(command, text)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    def _run_at_once(
        self, placement_id: str, token: str, arguments: Sequence[str], script: str, on_refusal: OnRefusal
    ) -> None:
        """Run the job by srun. Its number is told by the job itself, or by its name."""
        folder = self._settings.spool
        submit.lay_down(folder, placement_id, token)

        def on_end(code: int) -> None:
            said = submit.output(folder, placement_id) if code else ""
            # A job that was let in and failed is no refusal: its launcher, or the watch, says what was wrong with it.
            if code and not _LET_IN.search(said):
                on_refusal(self._refusal("srun", said))

        try:
            self._sruns.start(
                arguments,
                script,
                is_login=bool(self._settings.modules),
                path=os.path.join(folder, placement_id),
                environment=self.environment(),
                on_end=on_end,
            )
        except OSError as problem:
            raise Unreachable(f"srun can't be run: {problem.strerror}.") from problem

    # As ourselves

    def jobs(self, prefix: str, users: Iterable[str]) -> dict[str, Job]:
        """Return all jobs of ours that Slurm still knows, by number: those that run, and those that ended lately."""
        names = sorted({user for user in users if user} or {pwd.getpwuid(os.geteuid()).pw_name})
        done = self._run(["squeue", "--noheader", "--states=all", f"--user={','.join(names)}", f"--format={_FORMAT}"])
        if done.returncode:
            raise _problem("squeue", done.stderr)
        found = {}
        for line in done.stdout.splitlines():
            parts = line.split("|", 7)
            if len(parts) == 8 and parts[7].startswith(prefix):
                job_id, state, reason, node, starts_at, partition, user, name = parts
                found[job_id] = Job(job_id, state, reason, node, starts_at, partition, name, user)
        return found

    def place_in_queue(self, job: Job) -> int:
        """Return how many jobs of its partition are to start before this one; 0 where Slurm does not show them."""
        done = self._run(
            ["squeue", "--noheader", "--states=PENDING", f"--partition={job.partition}", "--sort=-p,i", "--format=%i"]
        )
        waiting = done.stdout.split()
        return waiting.index(job.job_id) if job.job_id in waiting else 0

    def maintenance(self) -> tuple[str, str]:
        """Return when the next maintenance begins and ends, by the clock of this machine; empty where there is none."""
        done = self._run(["scontrol", "--oneliner", "show", "reservation"])
        lines = [dict(_FIELD.findall(line)) for line in done.stdout.splitlines()]
        found = [(line["StartTime"], line["EndTime"]) for line in lines if "MAINT" in line.get("Flags", "").split(",")]
        return min(found, default=("", ""))

    def exit_code(self, job_id: str) -> tuple[int, int] | None:
        """Return a job's exit code and the signal that ended it, if Slurm still knows."""
        done = self._run(["scontrol", "--oneliner", "show", "job", job_id])
        match = re.search(r" ExitCode=(\d+):(\d+) ", done.stdout)
        return (int(match[1]), int(match[2])) if match else None

    def accounted(self, job_id: str) -> str:
        """Return the state that the accounting has of a job that the controller forgot; empty where there is none."""
        try:
            done = self._run(["sacct", "--noheader", "--parsable2", "-X", "--format=State", f"--jobs={job_id}"])
        except BackendError:
            return ""
        return done.stdout.split()[0] if done.returncode == 0 and done.stdout.split() else ""

    def node_is_back(self, node: str) -> bool:
        """Tell whether Slurm speaks with a node again: its daemon has then ended what belongs to no job."""
        done = self._run(["sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%t"])
        states = done.stdout.split()
        return bool(states) and not any(
            state.rstrip("*+") in ("down", "fail", "unk") or "*" in state for state in states
        )

    def unheard(self, nodes: Iterable[str]) -> set[str]:
        """Return which of some nodes Slurm does not hear: they are down, or did not answer when last asked."""
        done = self._run(["sinfo", "--noheader", "--Node", f"--nodes={','.join(sorted(nodes))}", "--format=%N|%t"])
        if done.returncode:
            raise _problem("sinfo", done.stderr)
        found = (line.strip().split("|", 1) for line in done.stdout.splitlines() if "|" in line)
        return {node for node, state in found if "*" in state or state.rstrip("~#!%$@^-+") in _UNHEARD}

    def ping(self) -> str:
        """Return what is wrong with the cluster, or nothing."""
        partition = self._settings.partition
        command = ["sinfo", "--noheader", "--format=%a|%t"]
        done = self._run([*command, f"--partition={partition}"] if partition else command)
        if done.returncode:
            return str(_problem("sinfo", done.stderr))
        lines = [line.split("|") for line in done.stdout.split() if "|" in line]
        if not lines:
            return f"The cluster has no partition {partition!r}." if partition else "The cluster has no partition."
        if not any(up == "up" for up, _ in lines):
            return f"The partition {partition or 'of the cluster'} is not up."
        if all(
            state.startswith(("down", "drain", "drng", "fail", "unk", "maint")) for up, state in lines if up == "up"
        ):
            return "No node of the cluster takes jobs now."
        return ""

    def fence(self, node: str) -> bool:
        """Switch a node off by the site's own command."""
        command = [part.replace("{node}", node) for part in self._settings.fence_command]
        return bool(command) and self._run(command).returncode == 0

    def environment(self) -> dict[str, str]:
        """What Slurm's commands are run with, a short one: what sbatch has, its jobs have."""
        environment = {name: os.environ[name] for name in submit.PASSED_ON if name in os.environ}
        if self._settings.slurm_conf:
            environment["SLURM_CONF"] = self._settings.slurm_conf
        return environment

    def _run(self, command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                input=text,
                env=self.environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._settings.command_seconds_max,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired as problem:
            raise Unreachable(f"The cluster did not answer: {command[0]} took too long.") from problem
        except OSError as problem:
            raise Unreachable(f"{command[0]} can't be run: {problem.strerror}.") from problem


def _problem(command: str, text: str) -> BackendError:
    said = " ".join(line.partition("error: ")[2] or line for line in text.strip().splitlines()) or "no reason was given"
    if _NO_ANSWER.search(said):
        return Unreachable(f"The cluster did not answer: {said}.")
    if policy := words.policy_in(said):
        # Its own sentence is the same for a limit that is reached and for one that no waiting helps with.
        told = f"{words.of(policy) or said} ({policy})"
        if words.is_never(policy):
            return Refused(f"The cluster refused: {told}.", kind=command, reason=policy)
        return NoCapacity(f"The cluster has no room now: {told}.", reason=policy)
    if _NO_ROOM.search(said):
        return NoCapacity(f"The cluster has no room now: {said}.", reason=said)
    return Refused(f"The cluster refused: {said}.", kind=command)
