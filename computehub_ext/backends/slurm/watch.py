"""Asks Slurm about jobs that give no sign of life, and sees to it that what has ended goes away.

One thread and one ``squeue`` for all placements, and none at all while every job is heard of, but for a look now and
then: Slurm may call a node dead whose kernel still answers.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from contextlib import suppress

from computehub_ext.core.errors import BackendError, Refused

from ..model import ENDINGS, Ending
from . import words
from .commands import Job, Slurm
from .desk import ENDED_BY_CLUSTER, empty_secrets
from .link import Link
from .records import Held, Record, Records
from .script import NO_CODE, REASONS
from .settings import SlurmSettings

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
FULL_LOOK_SECONDS = 15.0
PAUSE_SECONDS = 1.0
SOON_SECONDS = 2.0
"""How old something may be before Slurm is asked about it: a start or a goodbye mostly needs nobody's help."""
OVERDUE_SECONDS = 15.0
"""Past ``paid_until``: a supervisor's grace, what it takes to kill, and clocks. Then the kernel counts as ended."""
SILENT_SECONDS_MAX = 120.0
"""How long a kernel may be silent whose node Slurm hears, which anybody's code can bring about: then its job is ended.
By default Slurm finds within less that a node does not answer: it asks each three times in 300 seconds."""
NODES_SECONDS = 5.0
"""How old what Slurm says of silent kernels' nodes may be."""
LEAVE_SECONDS = 8.0
"""How long a job may stay after its kernel has ended, before Slurm is told to end it."""

SILENT = "The kernel's job gave no sign of life on a machine that answers, and was ended."

_STATES: dict[str, tuple[Ending, str]] = {
    "PREEMPTED": (Ending.PREEMPTED, ""),
    "TIMEOUT": (Ending.TIME_LIMIT, ""),
    "DEADLINE": (Ending.TIME_LIMIT, ""),
    "NODE_FAIL": (Ending.NODE_LOST, ""),
    "BOOT_FAIL": (Ending.NODE_LOST, "The machine that the kernel was to run on did not come up."),
    "OUT_OF_MEMORY": (Ending.OUT_OF_MEMORY, ""),
    "CANCELLED": (Ending.STOPPED, "The kernel's job was cancelled on the cluster."),
    "REVOKED": (Ending.STOPPED, "The kernel's job was cancelled on the cluster."),
}
_OVER_MEMORY = re.compile(r"exceeded .{0,20}memory limit|oom[-_ ]kill", re.IGNORECASE)


class Watch:
    """Keeps records true by what Slurm says. ``ask`` does so at once, ``open`` from a thread."""

    def __init__(self, records: Records, link: Link, slurm: Slurm, settings: SlurmSettings, prefix: str) -> None:
        self._records, self._link, self._slurm, self._settings = records, link, slurm, settings
        self._prefix = prefix
        self._wake = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._nodes_looked_at = 0.0
        self._unheard: set[str] = set()
        self.problem: BackendError | None = None
        """Why Slurm gave no answer the last time."""
        self._thread = threading.Thread(target=self._run, name="computehub-slurm-watch", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._settings.command_seconds_max * 2 + 5)

    def soon(self) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            try:
                if self._needs_a_look():
                    self.ask()
            except BackendError as problem:
                if self.problem is None:
                    log.warning("Slurm can't be asked about jobs: %s", problem)
                self.problem = problem
                for held in self._records.all():
                    held.silent_since = 0.0  # while we hear nothing of anything, it is not the job that is silent
            except Exception:
                log.exception("Watching over the cluster's jobs failed; trying again.")
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def _needs_a_look(self) -> bool:
        live = [held for held in self._records.all() if _is_open(held.record)]
        age = time.monotonic() - self._looked_at
        if live and age > FULL_LOOK_SECONDS:
            return True
        if age < PAUSE_SECONDS and not any(held.state == ENDED_BY_CLUSTER for held in live):
            return False
        return any(self._is_suspicious(held) for held in live)

    def _is_suspicious(self, held: Held) -> bool:
        record = held.record
        if held.state == ENDED_BY_CLUSTER or record.is_unfenced:
            return True
        if record.is_ended:
            return time.time() - record.ended_at > SOON_SECONDS
        if record.is_berth and held.peer is None and not held.is_awaited:
            return False  # it waits in the queue, maybe for long, and calls when it runs
        if not held.is_heard(self._settings.lost_seconds):
            return time.time() - record.created_at > SOON_SECONDS
        return time.time() > record.told_until + OVERDUE_SECONDS

    def ask(self) -> dict[str, Job]:
        """Ask Slurm about all jobs and apply what it says. Raises ``Unreachable``."""
        with self._lock:
            asked_at = time.time()
            users = {held.record.user for held in self._records.all() if _is_open(held.record)}
            jobs = self._slurm.jobs(self._prefix, users)
            self._ask_of_nodes(jobs)
            self._looked_at, self.problem = time.monotonic(), None
        by_name: dict[str, Job] = {}
        for job in jobs.values():
            if not job.is_over or job.name not in by_name:
                by_name[job.name] = job
        for held in self._records.all():
            if _is_open(held.record):
                # Not under the placement's lock: more may be asked of Slurm, and the link never waits for that.
                found = jobs.get(held.record.job_id) or by_name.get(self._prefix + held.record.placement_id)
                self._apply(held, found, asked_at)
        self._records.forget_old(time.time())
        return jobs

    def _ask_of_nodes(self, jobs: dict[str, Job]) -> None:
        silent = {held.record.job_id for held in self._records.all() if self._is_silent(held)}
        # By Slurm's word: what a job calls its node is the person's own.
        nodes = {jobs[each].node for each in silent & jobs.keys() if jobs[each].node and not jobs[each].is_over}
        if nodes and time.monotonic() - self._nodes_looked_at > NODES_SECONDS:
            self._unheard = self._slurm.unheard(nodes)
            self._nodes_looked_at = time.monotonic()

    def _is_silent(self, held: Held) -> bool:
        record = held.record
        return bool(record.connection) and not record.is_ended and not held.is_heard(self._settings.lost_seconds)

    # One placement

    def _apply(self, held: Held, job: Job | None, asked_at: float) -> None:
        record = held.record
        if job is not None and not record.job_id and not held.starting.locked():
            with held.changed:
                record.job_id = job.job_id  # killed between sbatch and the note of it
                self._records.save(record)
        if job is not None and job.state == "RUNNING" and not record.is_ended and record.node != job.node:
            with held.changed:
                record.node = job.node  # and not the job's own word: a node that is fenced may be switched off
                self._records.save(record)
        if record.is_ended:
            self._see_it_leave(held, job)
        elif job is None:
            self._is_unknown(held, asked_at)
        elif job.is_over:
            self._is_over(held, job)
        else:
            self._goes_on(held, job)

    def _goes_on(self, held: Held, job: Job) -> None:
        record = held.record
        if job.is_waiting and words.is_never(job.reason):
            with held.changed:
                held.problem = NeverStarts(job.reason)
                held.changed.notify_all()
            if record.is_berth:
                self.end(held, Ending.START_FAILED, message=never_starts(job.reason))
                self._cancel(held, job)
        if time.time() > record.told_until + OVERDUE_SECONDS:
            # Its supervisor should have ended it long ago; whoever kept it from that doesn't keep Slurm.
            self.end(held, Ending.UNPAID, at=record.told_until)
            self._cancel(held, job)
        elif self._is_silent(held):
            self._says_nothing(held, job)
        else:
            held.is_node_silent, held.silent_since = False, 0.0

    def _says_nothing(self, held: Held, job: Job) -> None:
        """End a job in the end that is silent though its node is not: its bill waits for it."""
        held.is_node_silent = job.state == "SUSPENDED" or job.node in self._unheard
        if held.is_node_silent:
            held.silent_since = 0.0
        elif not held.silent_since:
            held.silent_since = time.monotonic()
        elif time.monotonic() - held.silent_since > SILENT_SECONDS_MAX:
            self.end(held, Ending.SUPERVISOR_LOST, message=SILENT)
            self._cancel(held, job)

    def _is_over(self, held: Held, job: Job) -> None:
        record = held.record
        if job.state == "NODE_FAIL":
            heard_at = None
            if held.is_heard(self._settings.lost_seconds) and held.peer is not None:
                # The node's daemon is gone, the kernel is not: it is told to end, and tells us when it has.
                held.stop_asked = True
                self._link.send(held.peer, {"t": "stop", "grace": 1.0})
            elif not record.ended_at:
                # Slurm may take minutes to call a node dead, in which nobody had anything of the kernel.
                heard_at = min(held.heard_at, record.told_until)
            self.end(held, Ending.NODE_LOST, at=heard_at, is_unfenced=held.state != ENDED_BY_CLUSTER)
            return
        if held.is_heard(1.0) and held.state != ENDED_BY_CLUSTER:
            return  # its own word is on the way, and says more
        if job.state in _STATES:
            reason, message = _STATES[job.state]
            if held.stop_asked and reason is Ending.STOPPED:
                message = ""
            self.end(held, reason, message=message, exit_code=record.exit_code)
            return
        code, number = self._slurm.exit_code(job.job_id) or (0, 0)
        reason = _reason(code, number, has_listened=bool(record.connection))
        message = ""
        if reason in (Ending.START_FAILED, Ending.SUPERVISOR_LOST):
            output = self._slurm.output(record.user, record.placement_id)
            if _OVER_MEMORY.search(output):
                # A cluster without cgroups kills the whole job at once and calls it failed.
                reason, message = _STATES["OUT_OF_MEMORY"]
            elif reason is Ending.START_FAILED:
                record.log, message = output, f"{ENDINGS[reason]} {output}".strip()
        self.end(held, reason, message=message)

    def _is_unknown(self, held: Held, asked_at: float) -> None:
        """Slurm knows no such job: it never came to be, or ended so long ago that it is forgotten."""
        record = held.record
        if held.is_heard(self._settings.lost_seconds) or held.starting.locked():
            return
        if asked_at < held.submitted_at:
            return  # Slurm was asked before it had the job
        if not record.job_id:
            if asked_at - record.created_at > self._settings.command_seconds_max + OVERDUE_SECONDS:
                self.end(held, Ending.START_FAILED, message="Its start was begun and given up.")
            return
        state = self._slurm.accounted(record.job_id)
        if state in _STATES:
            reason, message = _STATES[state]
        elif time.time() > record.told_until:
            reason, message = Ending.UNPAID, ""
        else:
            reason, message = Ending.SUPERVISOR_LOST, "The cluster no longer knows the kernel's job."
        self.end(held, reason, message=message, at=min(time.time(), record.told_until))

    def _see_it_leave(self, held: Held, job: Job | None) -> None:
        record = held.record
        if record.is_unfenced and self._is_fenced(held):
            with held.changed:
                record.is_unfenced = False
                self._records.save(record)
        if job is None or job.is_over:
            if record.is_in_slurm:
                with held.changed:
                    record.is_in_slurm = False
                    self._records.save(record)
                with suppress(BackendError):  # a user who may no longer be acted for keeps the files
                    self._slurm.forget(record.user, record.placement_id)
        elif not job.is_over and time.time() - record.ended_at > LEAVE_SECONDS:
            self._cancel(held, job)

    def _is_fenced(self, held: Held) -> bool:
        """Tell whether a kernel on a node that Slurm calls dead is gone for sure."""
        record = held.record
        if held.state == "ended" or time.time() > record.told_until + OVERDUE_SECONDS:
            return True  # by its own word, or by its own clock
        return self._slurm.fence(record.node) or self._slurm.node_is_back(record.node)

    def _cancel(self, held: Held, job: Job) -> None:
        if time.monotonic() - held.cancelled_at > LEAVE_SECONDS:
            held.cancelled_at = time.monotonic()
            try:
                self._slurm.cancel(held.record.user, [job.job_id])
            except Refused as problem:
                # A person who may no longer be acted for keeps nobody else's jobs from being looked after.
                log.warning("Job %s can't be cancelled: %s", job.job_id, problem)

    def end(
        self,
        held: Held,
        reason: Ending,
        *,
        message: str = "",
        exit_code: int | None = None,
        at: float | None = None,
        is_unfenced: bool = False,
    ) -> None:
        """Write down an end that the launcher did not tell."""
        record = held.record
        with held.changed:
            if record.is_ended:
                return
            record.reason, record.message, record.exit_code = reason.value, message or ENDINGS[reason], exit_code
            # Whatever it was, nothing goes on beyond what was paid for.
            record.ended_at = at or record.ended_at or min(time.time(), record.told_until or time.time())
            record.is_unfenced = is_unfenced
            empty_secrets(record)
            self._records.save(record)
            held.changed.notify_all()


def never_starts(reason: str) -> str:
    return f"Slurm will not start this job as it is: {words.of(reason)} ({reason})."


class NeverStarts(Exception):
    """Slurm says of a waiting job that it will not start as it is."""


def _is_open(record: Record) -> bool:
    return not record.is_ended or record.is_in_slurm or record.is_unfenced


def _reason(code: int, number: int, *, has_listened: bool) -> Ending:
    """Return what a launcher's exit code says, where it could not say it itself."""
    if NO_CODE <= code < NO_CODE + len(REASONS):
        return Ending(REASONS[code - NO_CODE])
    if code == 0 and number == 0 and has_listened:
        return Ending.EXITED
    return Ending.SUPERVISOR_LOST if has_listened else Ending.START_FAILED
