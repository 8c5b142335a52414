"""What Slurm says is of the moment at which it was asked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from computehub_ext.backends.model import Ending
from computehub_ext.backends.slurm import watch as watching
from computehub_ext.backends.slurm.commands import Job, Slurm
from computehub_ext.backends.slurm.desk import Desk
from computehub_ext.backends.slurm.link import Link
from computehub_ext.backends.slurm.records import Held, Record, Records
from computehub_ext.backends.slurm.settings import SlurmSettings
from computehub_ext.backends.slurm.watch import Watch


class Submitting(Slurm):
    """A cluster that gets a job while it answers what jobs it had before."""

    def __init__(self, settings: SlurmSettings, held: Held) -> None:
        super().__init__(settings)
        self.held = held

    def jobs(self, prefix: str, users: object) -> dict[str, Job]:
        if not self.held.submitted_at:
            self.held.submitted_at, self.held.record.job_id = time.time(), "7"
        return {}

    def accounted(self, job_id: str) -> str:
        return ""


def test_a_job_that_was_submitted_while_slurm_was_asked_is_not_called_unknown(tmp_path: Path) -> None:
    settings = SlurmSettings(spool=str(tmp_path), lost_seconds=5)
    records = Records(tmp_path / "state")
    now = time.time()
    held, _ = records.make(Record("placement_1", created_at=now - 60, told_until=now + 60))
    watch = Watch(records, Link(tmp_path, "127.0.0.1", 0), Submitting(settings, held), settings, "computehub-")
    watch.ask()
    assert not held.record.is_ended
    watch.ask()
    assert held.record.message == "The cluster no longer knows the kernel's job.", "asked after it should have it"


class Hearing(Slurm):
    """A cluster with a job that runs, whose nodes it hears or not."""

    def __init__(self, settings: SlurmSettings) -> None:
        super().__init__(settings)
        self.state, self.silent_nodes = "RUNNING", set[str]()
        self.asked_count = 0
        self.cancelled: list[str] = []

    def jobs(self, prefix: str, users: object) -> dict[str, Job]:
        return {"7": Job("7", self.state, "", "n1", "", "gpu", f"{prefix}placement_1")}

    def unheard(self, nodes: object) -> set[str]:
        assert nodes == {"n1"}, "what the job calls its node is not asked about"
        self.asked_count += 1
        return self.silent_nodes

    def cancel(self, user: str, job_ids: object) -> None:
        self.cancelled += job_ids  # type: ignore[arg-type]


@pytest.mark.parametrize("silent", ["", "node", "suspended"])
def test_a_silent_job_on_a_node_that_answers_is_ended_and_on_a_silent_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    settings = SlurmSettings(spool=str(tmp_path), lost_seconds=5)
    records, now = Records(tmp_path / "state"), time.time()
    held, _ = records.make(
        Record(
            "placement_1", job_id="7", node="of its own", connection={"ip": ""}, created_at=now, told_until=now + 600
        )
    )
    slurm = Hearing(settings)
    slurm.silent_nodes = {"n1"} if silent == "node" else set()
    slurm.state = "SUSPENDED" if silent == "suspended" else "RUNNING"
    watch = Watch(records, Link(tmp_path, "127.0.0.1", 0), slurm, settings, "computehub-")
    watch.ask()
    watch.ask()
    assert slurm.asked_count == 1, "it is asked about nodes now and then"
    assert held.record.node == ("of its own" if silent == "suspended" else "n1"), "who is fenced is Slurm's to say"
    assert (held.record.is_ended, held.is_node_silent) == (False, bool(silent))
    monkeypatch.setattr(watching, "SILENT_SECONDS_MAX", 0.0)
    watch.ask()
    assert held.record.is_ended is not bool(silent)
    assert slurm.cancelled == ([] if silent else ["7"])
    if not silent:
        assert held.record.reason == Ending.SUPERVISOR_LOST
        assert held.record.ended_at >= now


@pytest.mark.parametrize("silent", [True, False])
def test_who_was_silent_on_a_node_that_answers_has_not_ended_before_it_spoke(tmp_path: Path, silent: bool) -> None:
    """Its launcher is the person's own, as is what it tells."""
    settings = SlurmSettings(spool=str(tmp_path), lost_seconds=5)
    records, now = Records(tmp_path / "state"), time.time()
    held, _ = records.make(
        Record(
            "placement_1", job_id="7", connection={"ip": ""}, peer_key="key", created_at=now - 60, told_until=now + 60
        )
    )
    link = Link(tmp_path, "127.0.0.1", 0)
    desk, watch = Desk(records, link), Watch(records, link, Hearing(settings), settings, "computehub-")
    held.peer = b"launcher"
    if silent:
        held.beat_at -= 30
    watch.ask()
    desk.on_message("key", b"launcher", {"t": "beat"})
    watch.ask()
    end = {"reason": "exited", "at": now - 30, "listened": True}
    desk.on_message("key", b"launcher", {"t": "report", "state": "ended", "end": end})
    assert held.record.reason == Ending.EXITED
    assert (held.record.ended_at >= now) is silent
