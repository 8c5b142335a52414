"""The backend for a Slurm cluster."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import BackendError, NotFound, NotHeard, NotYetEnded, Unreachable

from ..capabilities import BerthRequest, Terminal, TerminalRequest
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
from . import submit, terminals
from .commands import Slurm
from .desk import Desk
from .link import Link
from .records import Held, Record, Records
from .settings import SlurmSettings
from .starts import Starts, refusal
from .watch import Watch

_ANSWER_SECONDS_MAX = 3.0
_RETURN_SECONDS_MAX = 3.0
"""How long to wait for a job that is out of touch to call again, as it does after a restart of ours."""
_STOP_SECONDS_MAX = 8.0
"""Beyond the grace."""
_UNHEARD_SECONDS_MAX = 15.0
"""After that a kernel whose node Slurm does not hear either is out of sight, though its job is said to run."""
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
        self._starts = Starts(self._records, self._link, self._slurm, self._watch, settings, self._prefix, self.stop)
        self._desk.on_cluster_end = self._watch.soon
        self._link.open(self._desk)
        self._watch.open()

    # Starting

    def start(self, request: StartRequest) -> Placed:
        return self._starts.start(request)

    @property
    def berth_lead(self) -> timedelta:
        return timedelta(minutes=self._settings.booking_lead_minutes)

    def ask_berth(self, request: BerthRequest) -> datetime:
        return self._starts.ask_berth(request)

    def await_berth(self, placement_id: str) -> None:
        self._starts.await_berth(check_placement_id(placement_id))

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
        state = self._state(held)
        if held.is_heard(self._settings.lost_seconds) or not record.connection:
            return Look(record.placement_id, state)
        if self._watch.problem is not None:
            raise Unreachable("Neither the kernel nor the cluster answers.") from self._watch.problem
        if held.is_node_silent and time.monotonic() - held.beat_at > _UNHEARD_SECONDS_MAX:
            raise NotHeard("The kernel's job runs, and is not heard from.")
        return Look(
            record.placement_id,
            state,
            message="No sign of life for some seconds; Slurm is asked.",
            heard_at=datetime.fromtimestamp(held.heard_at, UTC),
            machine_answers=not held.is_node_silent,
        )

    def _state(self, held: Held) -> LookState:
        if held.record.connection:
            return LookState.RUNNING
        return LookState.READY if held.is_ready(self._settings.lost_seconds) else LookState.STARTING

    def list_placements(self) -> list[Look]:
        jobs = self._watch.ask()
        looks: dict[str, Look] = {}
        for held in self._records.all():
            record = held.record
            if record.is_unfenced:
                message = f"It may still run on {record.node}, which Slurm calls dead."
                looks[record.placement_id] = Look(record.placement_id, LookState.RUNNING, message=message)
            elif not record.is_ended:
                state = self._state(held)
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
        if self._keep(held, moment):
            return
        with held.changed:
            # Noted before it is sent: an answer may get lost, and what may have been told counts as told.
            held.record.told_until = max(held.record.told_until, moment)
            self._records.save(held.record)
        self._ask(placement_id, {"t": "renew", "paid_until": moment})
        with held.changed:
            held.record.paid_until = held.record.told_until = moment
            self._records.save(held.record)

    def _keep(self, held: Held, moment: float) -> bool:
        """Move the moment up to which a berth is kept; False for what is none. In the queue nobody has to be told."""
        with held.changed:
            if not held.record.is_berth:
                return False
            held.record.told_until = moment
            self._records.save(held.record)
            if held.peer is not None:
                self._link.send(held.peer, {"t": "renew", "paid_until": moment})
            return True

    def _ask(self, placement_id: str, message: dict[str, Any]) -> dict[str, Any]:
        held = self._running(placement_id)
        with held.changed:
            # Out of touch, as after a restart of ours, when it calls again within a second.
            held.changed.wait_for(lambda: held.peer is not None or held.record.is_ended, _RETURN_SECONDS_MAX)
            peer = held.peer
        answer = None if peer is None else self._link.ask(peer, message, _ANSWER_SECONDS_MAX)
        if answer is None or not answer.get("ok"):
            self._running(placement_id)
            raise NotHeard("The kernel's node does not answer.", placement_id=placement_id)
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
                held.record.user = job.user  # whose token is to go with it
                self._slurm.cancel(job.user, [job.job_id])

    # The rest

    def log(self, placement_id: str) -> str:
        """Return the last of what the kernel wrote outside its channels, or, before there was one, its job.

        Of a job that waits in the queue it is what it waits for.
        """
        held = self._records.get(check_placement_id(placement_id))
        if held is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        record = held.record
        if not record.is_ended and held.peer is not None:
            answer = self._link.ask(held.peer, {"t": "log"}, _ANSWER_SECONDS_MAX)
            if answer is not None and answer.get("log"):
                return str(answer["log"])[-_LOG_BYTES_MAX:]
        text = record.log or self._slurm.output(record.user, placement_id)
        return text or ("" if record.is_ended or held.peer is not None else self._starts.waits(held))

    def open_terminal(self, request: TerminalRequest) -> Terminal:
        record = self._running(request.placement_id).record
        return terminals.open_terminal(self._settings, record.job_id, self._slurm.environment(), request)

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

    def _running(self, placement_id: str) -> Held:
        held = self._records.get(check_placement_id(placement_id))
        if held is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        if held.record.is_ended:
            raise refusal(held)
        return held


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
