"""What Slurm says is of the moment at which it was asked."""

from __future__ import annotations

import time
from pathlib import Path

from computehub_ext.backends.slurm.commands import Job, Slurm
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
