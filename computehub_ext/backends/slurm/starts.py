"""How a job comes about and gets its kernel: at once, or asked for ahead and started when somebody wants it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import zmq

from computehub_ext.core.errors import BackendError, NoCapacity, NotFound, NotHeard, Refused, SkipPlace, Unreachable

from ..capabilities import BerthRequest
from ..environment import SECRET_NAMES, for_placement
from ..model import Ending, Placed, StartRequest
from . import words
from .commands import Slurm
from .desk import digest
from .link import Link
from .records import Held, Record, Records
from .script import arguments, limit_minutes, program, script
from .settings import SlurmSettings
from .watch import NeverStarts, Watch, never_starts

_UMASK = 0o022
_LEAVING_SECONDS_MAX = 10.0
"""How long to wait for jobs whose kernels have just ended, where a limit on jobs refuses another one meanwhile."""


class Starts:
    """Starts kernels and asks for berths.

    Parameters
    ----------
    stop:
        Takes a start back that takes too long.
    """

    def __init__(
        self,
        records: Records,
        link: Link,
        slurm: Slurm,
        watch: Watch,
        settings: SlurmSettings,
        prefix: str,
        stop: Callable[[str, float], None],
    ) -> None:
        self._records, self._link, self._slurm, self._watch = records, link, slurm, watch
        self._settings, self._prefix, self._stop = settings, prefix, stop

    def start(self, request: StartRequest) -> Placed:
        now = datetime.now(UTC)
        if request.paid_until <= now:
            raise Refused("The time that was paid for has passed before the kernel was started.")
        python = self._python(request.kernel_name)
        user = self._slurm.user_for(request.username)
        minutes = limit_minutes(self._settings, request.ends_at or request.paid_until, now)
        record = Record(request.placement_id, user=user, created_at=time.time(), python=python, minutes=minutes)
        record.secrets = _new_secrets(request)
        held, is_new = self._records.make(record)
        with held.starting:
            if held.record.is_ended:
                raise refusal(held)
            if not held.record.connection:
                self._tell(held, request, python)
                self._have_job(held, is_new, request.model, len(request.devices), request.username)
        return self._wait_until_it_listens(held)

    def ask_berth(self, request: BerthRequest) -> datetime:
        """Have a job in the queue, or running, that waits for a start of its id."""
        now = datetime.now(UTC)
        if request.kept_until <= now:
            raise Refused("The time up to which it was to be kept has passed.")
        user = self._slurm.user_for(request.username)
        minutes = limit_minutes(self._settings, request.ends_at, now)
        python = next(iter(self._settings.kernels.values()))
        record = Record(request.placement_id, user=user, created_at=time.time(), python=python, minutes=minutes)
        record.is_berth, record.told_until = True, request.kept_until.timestamp()
        held, is_new = self._records.make(record)
        with held.starting:
            record = held.record
            if record.is_ended:
                raise refusal(held)
            if record.is_berth:
                self._have_job(held, is_new, request.model, request.device_count, request.username)
        serves_until = record.created_at + (record.minutes - self._settings.time_margin_minutes) * 60
        return max(request.ends_at, datetime.fromtimestamp(serves_until, UTC))

    def await_berth(self, placement_id: str) -> None:
        held = self._records.get(placement_id)
        if held is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        deadline = time.monotonic() + self._settings.pending_seconds_max
        with held.changed:
            held.is_awaited = True
            try:
                while not held.record.is_ended:
                    if not held.record.is_berth or held.is_ready(self._settings.lost_seconds):
                        return
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    held.changed.wait(left)
            finally:
                held.is_awaited = False
            if held.record.is_ended:
                raise refusal(held)
        raise NoCapacity(f"{self._waited()} {self.waits(held)}")

    def waits(self, held: Held) -> str:
        """Return what a job waits for that is not running, in sentences."""
        return self._waits(self._watch.ask(), held)

    # Its job

    def _tell(self, held: Held, request: StartRequest, python: str) -> None:
        """Have the job told what to start: now if it waits, or once it calls."""
        record = held.record
        with held.changed:
            record.is_berth = False
            record.secrets = record.secrets or _new_secrets(request)
            record.paid_until = request.paid_until.timestamp()
            record.told_until = max(record.told_until, record.paid_until)
            held.to_start = self._start_message(record, request, python)
            self._records.save(record)
            if held.state == "waiting" and held.peer is not None:
                self._link.send(held.peer, held.to_start)

    def _have_job(self, held: Held, is_new: bool, model: str, device_count: int, username: str) -> None:
        """Have a job for the placement: one that an earlier call submitted, or a new one."""
        record = held.record
        if record.job_id or held.peer is not None or held.submitted_at or (not is_new and self._find_job(held)):
            return
        try:
            if self._link.problem:
                raise Unreachable(self._link.problem)
            self._submit_when_others_left(held, model, device_count, username)
        except (Refused, NoCapacity) as problem:
            self._watch.end(held, Ending.START_FAILED, message=problem.message)
            raise

    def _submit_when_others_left(self, held: Held, model: str, device_count: int, username: str) -> None:
        deadline = time.monotonic() + _LEAVING_SECONDS_MAX
        while True:
            try:
                return self._submit(held, model, device_count, username)
            except NoCapacity:
                if time.monotonic() > deadline or not self._is_anything_leaving(held.record.user):
                    raise
            self._watch.ask()  # which notes those that have left
            with held.changed:
                held.changed.wait(0.2)

    def _is_anything_leaving(self, user: str) -> bool:
        records = [held.record for held in self._records.all()]
        return any(record.is_ended and record.is_in_slurm and record.user == user for record in records)

    def _submit(self, held: Held, model: str, device_count: int, username: str) -> None:
        record = held.record
        token = secrets.token_hex(32)
        with held.changed:
            record.token_hash = digest(token)
            self._records.save(record)

        def refused(problem: BackendError) -> None:
            with held.changed:
                held.problem = problem
                self._watch.end(held, Ending.START_FAILED, message=problem.message)

        job_id = self._slurm.submit(
            record.user,
            placement_id=record.placement_id,
            token=token,
            arguments=arguments(
                self._settings,
                model=model,
                device_count=device_count,
                minutes=record.minutes,
                name=self._prefix + record.placement_id,
                comment=f"ComputeHub kernel of {username}",
            ),
            script=script(
                self._settings,
                link=f"tcp://{self._address()}",
                server_key=self._link.public_key,
                placement_id=record.placement_id,
                python=record.python,
                wait_until=record.told_until if record.is_berth else 0.0,
            ),
            on_refusal=refused,
        )
        with held.changed:
            held.submitted_at = time.time()
            record.job_id = job_id or record.job_id
            self._records.save(record)

    def _find_job(self, held: Held) -> bool:
        """Look for the job of a start that was cut off, such as between sbatch and the note of its number.

        A sbatch that outlived us may still submit one after this look. It has the token of the earlier start then,
        which is good no longer, so that it is refused and ends.
        """
        name = self._prefix + held.record.placement_id
        found = [job.job_id for job in self._watch.ask().values() if job.name == name and not job.is_over]
        with held.changed:
            held.record.job_id = found[0] if found else ""
            self._records.save(held.record)
        return bool(found)

    def _start_message(self, record: Record, request: StartRequest, python: str) -> dict[str, Any]:
        cpus = self._settings.cpus
        base = {**({"OMP_NUM_THREADS": str(cpus)} if cpus else {}), **self._settings.environment}
        environment = for_placement(base, {}, request)
        environment["COMPUTEHUB_PLACEMENT_ID"] = request.placement_id
        return {
            "t": "start",
            "runner": program("runner"),
            "supervisor": program("supervisor"),
            "standby": program("standby"),
            # A job that was asked for ahead did not know which kernel it would run.
            "python": "" if python == record.python else python,
            "cwd": request.cwd,
            "env": environment,
            "names": list(self._settings.environment_names),
            "secret_names": SECRET_NAMES,
            "simulated": request.simulated,
            "umask": _UMASK,
            "paid_until": record.paid_until,
            **record.secrets,
        }

    # Its kernel

    def _wait_until_it_listens(self, held: Held) -> Placed:
        """Wait for the launcher's word; the watch wakes us too when the job fails before it can give one."""
        record = held.record
        began = time.monotonic()
        with held.changed:
            while True:
                if record.is_ended:
                    raise held.problem if isinstance(held.problem, BackendError) else self._failure(held)
                if record.connection:
                    return record.placed()
                if held.problem is not None:
                    break
                runs = held.peer is not None
                limit = self._settings.pending_seconds_max + (self._settings.listen_seconds_max if runs else 0)
                left = began + limit - time.monotonic()
                if left <= 0:
                    break
                held.changed.wait(left)
        raise self._give_up(held)

    def _failure(self, held: Held) -> BackendError:
        record = held.record
        failure = refusal(held)
        unsaid = record.log and record.log not in failure.message
        if unsaid and record.kind != "ipykernel" and record.reason in (Ending.START_FAILED, Ending.CRASHED):
            return Refused(f"{failure.message} {record.log}", **failure.details)
        return failure

    def _give_up(self, held: Held) -> BackendError:
        """Take a start back that takes too long, and say what for."""
        record = held.record
        try:
            jobs = self._watch.ask()
            job = jobs.get(record.job_id)
            if record.is_ended:
                return self._failure(held)
            is_waiting = job is None or job.is_waiting
            waits = f"{self._waited()} {self._waits(jobs, held)}" if is_waiting else ""
            said = self._slurm.output(record.user, record.placement_id)  # before Slurm adds that it was cancelled
            self._stop(record.placement_id, 0)
        except BackendError as problem:
            kind = Unreachable if isinstance(problem, Unreachable) else NotHeard
            return kind(f"The kernel did not start, and its job can't be taken back now: {problem}")
        if isinstance(held.problem, NeverStarts):
            return Refused(never_starts(str(held.problem)), reason=str(held.problem))
        if waits:
            return NoCapacity(waits, reason=job.reason if job is not None else "unknown")
        if held.peer is None:
            told = f"The job ran on {job.node if job else 'a node'} and did not reach ComputeHub at {self._address()}."
            return SkipPlace(f"{told} {said}".strip())
        return SkipPlace(f"The kernel did not listen within {self._settings.listen_seconds_max:.0f} seconds.")

    def _waits(self, jobs: dict[str, Any], held: Held) -> str:
        job = jobs.get(held.record.job_id)
        before = self._slurm.place_in_queue(job) if job is not None and job.is_waiting else 0
        is_kept_away = job is not None and words.is_maintenance(job.reason)
        return words.waits(job, before, self._slurm.maintenance() if is_kept_away else ("", ""))

    def _waited(self) -> str:
        return f"The cluster had no room within {self._settings.pending_seconds_max:.0f} seconds."

    def _python(self, kernel_name: str) -> str:
        python = self._settings.kernels.get(kernel_name)
        if python is None:
            known = sorted(self._settings.kernels)
            raise Refused(f"There is no kernel {kernel_name!r} here; there is {', '.join(known)}.", known=known)
        return python

    def _address(self) -> str:
        address = self._settings.address or _host_name(self._settings.listen_host)
        is_bare = ":" not in address or address.endswith("]")
        return f"{address}:{self._link.port}" if is_bare else address


def refusal(held: Held) -> Refused:
    """Return what is said of a placement that has ended."""
    record = held.record
    details: dict[str, Any] = {"reason": record.reason, "exit_code": record.exit_code}
    if record.kind:
        details["kind"] = record.kind
    return Refused(record.message or "Its kernel has ended.", **details)


def _new_secrets(request: StartRequest) -> dict[str, str]:
    public, secret = zmq.curve_keypair()
    return {
        "session_key": request.session_key.decode("ascii"),
        "curve_publickey": public.decode("ascii"),
        "curve_secretkey": secret.decode("ascii"),
    }


def _host_name(listen_host: str) -> str:
    if listen_host not in ("0.0.0.0", "::", "*"):
        return f"[{listen_host}]" if ":" in listen_host else listen_host
    return socket.getfqdn()
