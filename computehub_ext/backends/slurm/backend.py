"""The backend for a Slurm cluster."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zmq

from computehub_ext.core.errors import BackendError, NoCapacity, NotFound, NotYetEnded, Refused, SkipPlace, Unreachable

from ..environment import SECRET_NAMES, for_placement
from ..model import (
    ENDINGS,
    Backend,
    Ending,
    Health,
    KernelLimits,
    Look,
    LookState,
    Placed,
    StartRequest,
    check_placement_id,
)
from . import submit
from .commands import Slurm
from .desk import Desk, digest
from .link import Link
from .records import Held, Record, Records
from .script import arguments, program, script
from .settings import SlurmSettings
from .watch import NeverStarts, Watch

_ANSWER_SECONDS_MAX = 3.0
_RETURN_SECONDS_MAX = 3.0
"""How long to wait for a job that is out of touch to call again, as it does after a restart of ours."""
_STOP_SECONDS_MAX = 8.0
"""Beyond the grace."""
_UNHEARD_SECONDS_MAX = 15.0
"""After that a kernel does not count as seen, though Slurm says that its job runs: its user has lost it."""
_UMASK = 0o022
_HEALTH_SECONDS = 2.0
_LOG_BYTES_MAX = 16 * 1024


class SlurmBackend(Backend):
    """Kernels as jobs of a Slurm cluster.

    Parameters
    ----------
    state_dir:
        Where placements, the link's key and its port are kept; private, and on this machine. One backend at a time uses
        it; a successor finds everything there, and running jobs find it.
    settings:
        How jobs are submitted and how they find their way back.
    name:
        What pools call it.
    """

    def __init__(
        self, state_dir: str | os.PathLike[str], settings: SlurmSettings | None = None, name: str = "slurm"
    ) -> None:
        self.name = name
        folder = Path(state_dir).absolute() / "slurm"
        settings = settings or SlurmSettings()
        if not settings.spool:
            settings = replace(settings, spool=str(folder / "spool"))
        self._settings = settings
        self._records = Records(folder / "placements")
        os.chmod(folder, 0o700)
        if not settings.submit_command:
            submit.private(settings.spool)
        self._prefix = f"computehub-{_owner(folder / 'owner')}-"
        self._slurm = Slurm(settings)
        self._link = Link(folder, settings.listen_host, settings.listen_port)
        self._desk = Desk(self._records, self._link)
        self._watch = Watch(self._records, self._link, self._slurm, settings, self._prefix)
        self._checked: tuple[float, str] = (0.0, "")
        self._desk.on_cluster_end = self._watch.soon
        self._link.open(self._desk)
        self._watch.open()

    # Starting

    def start(self, request: StartRequest) -> Placed:
        if request.paid_until <= datetime.now(UTC):
            raise Refused("The time that was paid for has passed before the kernel was started.")
        python = self._python(request.kernel_name)
        user = self._slurm.user_for(request.username)
        held, is_new = self._records.make(
            Record(request.placement_id, user=user, created_at=time.time(), secrets=_new_secrets(request))
        )
        with held.starting:
            if held.record.is_ended:
                raise _refusal(held)
            if not held.record.connection:
                try:
                    self._submit(held, request, python, is_new)
                except (Refused, NoCapacity) as problem:
                    self._watch.end(held, Ending.START_FAILED, message=problem.message)
                    raise
        return self._wait_until_it_listens(held)

    def _submit(self, held: Held, request: StartRequest, python: str, is_new: bool) -> None:
        """Have a job run for the placement: one that an earlier call submitted, or a new one."""
        if self._link.problem:
            raise Unreachable(self._link.problem)
        record = held.record
        with held.changed:
            record.paid_until = request.paid_until.timestamp()
            record.told_until = max(record.told_until, record.paid_until)
            held.to_start = self._start_message(record, request)
            if held.state == "waiting" and held.peer is not None:
                self._link.send(held.peer, held.to_start)
        if record.job_id or held.peer is not None:
            return
        if not is_new and self._find_job(held):
            return
        token = secrets.token_hex(32)
        with held.changed:
            record.token_hash = digest(token)
            self._records.save(record)
        job_id = self._slurm.submit(
            record.user,
            placement_id=record.placement_id,
            token=token,
            arguments=arguments(
                self._settings,
                request,
                name=self._prefix + record.placement_id,
                comment=f"ComputeHub kernel of {request.username}",
                now=datetime.now(UTC),
            ),
            script=script(
                self._settings,
                link=f"tcp://{self._address()}",
                server_key=self._link.public_key,
                placement_id=record.placement_id,
                python=python,
            ),
        )
        with held.changed:
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

    def _start_message(self, record: Record, request: StartRequest) -> dict[str, Any]:
        cpus = self._settings.cpus
        base = {**({"OMP_NUM_THREADS": str(cpus)} if cpus else {}), **self._settings.environment}
        environment = for_placement(base, {}, request)
        environment["COMPUTEHUB_PLACEMENT_ID"] = request.placement_id
        return {
            "t": "start",
            "supervisor": program("supervisor"),
            "standby": program("standby"),
            "cwd": request.cwd,
            "env": environment,
            "names": list(self._settings.environment_names),
            "secret_names": SECRET_NAMES,
            "simulated": request.simulated,
            "umask": _UMASK,
            "paid_until": record.paid_until,
            **record.secrets,
        }

    def _wait_until_it_listens(self, held: Held) -> Placed:
        """Wait for the launcher's word; the watch wakes us too when the job fails before it can give one."""
        record = held.record
        began = time.monotonic()
        with held.changed:
            while True:
                if record.is_ended:
                    raise self._failure(held)
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
        refusal = _refusal(held)
        if held.record.log and held.record.reason in (Ending.START_FAILED, Ending.CRASHED):
            refusal = Refused(f"{refusal.message} {held.record.log}", **refusal.details)
        return refusal

    def _give_up(self, held: Held) -> BackendError:
        """Take a start back that takes too long, and say what for."""
        record = held.record
        job = None
        try:
            job = self._watch.ask().get(record.job_id)
            if record.is_ended:
                return self._failure(held)
            self.stop(record.placement_id, 0)
        except BackendError as problem:
            return Unreachable(f"The kernel did not start, and its job can't be taken back now: {problem}")
        if isinstance(held.problem, NeverStarts):
            return Refused(f"Slurm will not start this job as it is: {held.problem}.", reason=str(held.problem))
        if job is None or job.is_waiting:
            why = job.reason if job is not None else "it is unknown there"
            waited = f"{self._settings.pending_seconds_max:.0f} seconds"
            return NoCapacity(f"The cluster had no room within {waited}. Slurm says: {why}.", reason=why)
        if held.peer is None:
            words = f"The job ran on {job.node} and did not reach ComputeHub at {self._address()}."
            return SkipPlace(f"{words} {self._slurm.output(record.user, record.placement_id)}".strip())
        return SkipPlace(f"The kernel did not listen within {self._settings.listen_seconds_max:.0f} seconds.")

    # Looking

    def look(self, placement_id: str) -> Look:
        held = self._records.get(check_placement_id(placement_id))
        if held is None:
            return Look(placement_id, LookState.UNKNOWN)
        with held.changed:
            return self._look_at(held)

    def _look_at(self, held: Held) -> Look:
        record = held.record
        if record.is_ended:
            return record.ending()
        state = LookState.RUNNING if record.connection else LookState.STARTING
        if held.is_heard(self._settings.lost_seconds) or not record.connection:
            return Look(record.placement_id, state)
        if self._watch.problem is not None:
            raise Unreachable("Neither the kernel nor the cluster answers.") from self._watch.problem
        if time.monotonic() - held.beat_at > _UNHEARD_SECONDS_MAX:
            raise Unreachable("The kernel's job runs, and is not heard from.")
        return Look(record.placement_id, state, message="No sign of life for some seconds; Slurm is asked.")

    def list_placements(self) -> list[Look]:
        jobs = self._watch.ask()
        looks: dict[str, Look] = {}
        for held in self._records.all():
            record = held.record
            if record.is_unfenced:
                message = f"It may still run on {record.node}, which Slurm calls dead."
                looks[record.placement_id] = Look(record.placement_id, LookState.RUNNING, message=message)
            elif not record.is_ended:
                state = LookState.RUNNING if record.connection else LookState.STARTING
                looks[record.placement_id] = Look(record.placement_id, state)
        for job in jobs.values():
            placement_id = job.name[len(self._prefix) :]
            if not job.is_over and self._records.get(placement_id) is None:
                looks[placement_id] = Look(
                    placement_id, LookState.RUNNING, message="Found by its label; its record is gone."
                )
        return [looks[placement_id] for placement_id in sorted(looks)]

    # Acting

    def interrupt(self, placement_id: str) -> None:
        self._ask(placement_id, {"t": "interrupt"})

    def renew(self, placement_id: str, paid_until: datetime) -> None:
        held = self._running(placement_id)
        moment = paid_until.timestamp()
        with held.changed:
            # Noted before it is sent: an answer may get lost, and what may have been told counts as told.
            held.record.told_until = max(held.record.told_until, moment)
            self._records.save(held.record)
        self._ask(placement_id, {"t": "renew", "paid_until": moment})
        with held.changed:
            held.record.paid_until = held.record.told_until = moment
            self._records.save(held.record)

    def _ask(self, placement_id: str, message: dict[str, Any]) -> dict[str, Any]:
        held = self._running(placement_id)
        with held.changed:
            # Out of touch, as after a restart of ours, when it calls again within a second.
            held.changed.wait_for(lambda: held.peer is not None or held.record.is_ended, _RETURN_SECONDS_MAX)
            peer = held.peer
        answer = None if peer is None else self._link.ask(peer, message, _ANSWER_SECONDS_MAX)
        if answer is None or not answer.get("ok"):
            self._running(placement_id)
            raise Unreachable("The kernel's node does not answer.", placement_id=placement_id)
        return answer

    def stop(self, placement_id: str, grace_seconds: float = 2.0) -> None:
        check_placement_id(placement_id)
        held, is_new = self._records.make(
            Record(
                placement_id,
                created_at=time.time(),
                reason=Ending.STOPPED.value,
                ended_at=time.time(),
                message=ENDINGS[Ending.STOPPED],
            )
        )
        if is_new:
            self._stop_unrecorded(held)
            return
        deadline = time.monotonic() + grace_seconds + _STOP_SECONDS_MAX
        with held.changed:
            held.stop_asked = True
            peer = held.peer if held.is_heard(self._settings.lost_seconds) else None
            if peer is not None and not self._is_gone(held):
                self._link.send(peer, {"t": "stop", "grace": grace_seconds})
                # Half of what is left is for Slurm, should the launcher not manage.
                held.changed.wait_for(lambda: self._is_gone(held), grace_seconds + _STOP_SECONDS_MAX / 2)
        self._stop_by_slurm(held, deadline)

    def _is_gone(self, held: Held) -> bool:
        return held.record.is_ended and not held.record.is_unfenced

    def _stop_by_slurm(self, held: Held, deadline: float) -> None:
        """Cancel the job and wait until Slurm calls it ended; nothing to do where it is gone already."""
        record = held.record
        pause = 0.02
        cancelled = False
        while not self._is_gone(held):
            job = self._watch.ask().get(record.job_id)
            if self._is_gone(held):
                return
            if job is None and not held.starting.locked() and not record.is_ended:
                with held.changed:
                    self._watch.end(held, Ending.STOPPED)
                return
            if job is not None and not job.is_over and not cancelled:
                self._slurm.cancel(record.user, [job.job_id])
                cancelled = True
            is_lost = record.is_unfenced and not held.is_heard(self._settings.lost_seconds)
            if is_lost or time.monotonic() > deadline:
                where = f" on {record.node}, which the cluster calls dead" if record.is_unfenced else ""
                raise NotYetEnded(f"The kernel's job may still run{where}.", placement_id=record.placement_id)
            with held.changed:
                held.changed.wait(pause)
            pause = min(0.5, pause * 1.5)

    def _stop_unrecorded(self, held: Held) -> None:
        """A late start finds the record that was just made; a job whose record was lost is found by its name."""
        name = self._prefix + held.record.placement_id
        for job in self._watch.ask().values():
            if job.name == name and not job.is_over:
                self._slurm.cancel(self._slurm.user_for(held.record.user) if held.record.user else "", [job.job_id])

    # The rest

    def log(self, placement_id: str) -> str:
        """Return the last of what the kernel wrote outside its channels, or, before there was one, its job."""
        held = self._records.get(check_placement_id(placement_id))
        if held is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        record = held.record
        if not record.is_ended and held.peer is not None:
            answer = self._link.ask(held.peer, {"t": "log"}, _ANSWER_SECONDS_MAX)
            if answer is not None and answer.get("log"):
                return str(answer["log"])[-_LOG_BYTES_MAX:]
        return record.log or self._slurm.output(record.user, placement_id)

    def limits(self) -> KernelLimits:
        return KernelLimits(self._settings.memory_mib or None, self._settings.cpus or None)

    def health(self) -> Health:
        if self._link.problem:
            return Health(False, self._link.problem)
        checked_at, problem = self._checked
        if time.monotonic() - checked_at > _HEALTH_SECONDS:
            try:
                problem = self._slurm.ping()
            except BackendError as error:
                problem = str(error)
            self._checked = (time.monotonic(), problem)
        return Health(not problem, problem)

    def close(self) -> None:
        self._watch.close()
        self._link.close()

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

    def _running(self, placement_id: str) -> Held:
        held = self._records.get(check_placement_id(placement_id))
        if held is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        if held.record.is_ended:
            raise _refusal(held)
        return held


def _refusal(held: Held) -> Refused:
    record = held.record
    details: dict[str, Any] = {"reason": record.reason, "exit_code": record.exit_code}
    return Refused(f"This placement has ended. {record.message}", **details)


def _new_secrets(request: StartRequest) -> dict[str, str]:
    public, secret = zmq.curve_keypair()
    return {
        "session_key": request.session_key.decode("ascii"),
        "curve_publickey": public.decode("ascii"),
        "curve_secretkey": secret.decode("ascii"),
    }


def _host_name(listen_host: str) -> str:
    import socket

    if listen_host not in ("0.0.0.0", "::", "*"):
        return f"[{listen_host}]" if ":" in listen_host else listen_host
    return socket.getfqdn()


def _owner(path: Path) -> str:
    """Return what tells this state folder's jobs from those of another on the same cluster."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with open(descriptor, "w", encoding="ascii") as file:
        owner = secrets.token_hex(4)
        file.write(owner)
    return owner
