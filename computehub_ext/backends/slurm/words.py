"""Slurm's reasons for a job to wait, as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from .commands import Job

# The first one that a reason begins with; longer ones stand before those that they begin with.
_WORDS = (
    ("Resources", "all GPUs that it could have are in use"),
    ("Priority", "other jobs go first"),
    ("ReqNodeNotAvail, Reserved for maintenance", "the cluster is reserved for maintenance before the job would end"),
    ("ReqNodeNotAvail", "the nodes that it could run on are not available"),
    ("Nodes required for job are DOWN", "the nodes that it could run on are down, drained or reserved"),
    ("NodeDown", "the node that it could run on is down"),
    ("Reservation", "the reservation that it belongs to has not begun"),
    ("PartitionDown", "its partition is closed for now"),
    ("PartitionInactive", "its partition is closed for now"),
    ("PartitionTimeLimit", "it may run longer than its partition allows"),
    ("PartitionNodeLimit", "it wants more than its partition allows"),
    ("QOSMaxWallDurationPerJobLimit", "it may run longer than its quality of service allows"),
    ("QOSGrp", "others with the same quality of service use all that they may together"),
    ("QOSMax", "the quality of service allows no more at once"),
    ("QOSJobLimit", "the quality of service allows no more at once"),
    ("QOSResourceLimit", "the quality of service allows no more at once"),
    ("AssocGrp", "the account has used, or uses, all that it may"),
    ("AssocMaxWallDurationPerJobLimit", "it may run longer than the account allows"),
    ("AssocMax", "the account allows no more at once"),
    ("AssociationJobLimit", "the account allows no more at once"),
    ("MaxGRESPerAccount", "the account allows no more GPUs at once"),
    ("MaxJobsPerAccount", "the account allows no more jobs at once"),
    ("InvalidAccount", "the cluster does not know its account"),
    ("InvalidQOS", "the cluster does not know its quality of service"),
    ("BadConstraints", "no node has what it asks for"),
    ("Licenses", "all licences that it needs are in use"),
    ("JobHeld", "somebody holds it back"),
    ("BeginTime", "its time has not come"),
    ("Cleaning", "the job before it is being cleared away"),
    ("None", "it was not looked at yet"),
)


def of(reason: str) -> str:
    """Return what a reason means; empty for one that we don't know."""
    return next((words for begin, words in _WORDS if reason.lstrip("(").startswith(begin)), "")


def waits(job: Job | None, before: int = 0) -> str:
    """Return sentences on what a job waits for.

    Parameters
    ----------
    before:
        How many jobs are to start before it.
    """
    if job is None:
        return "Slurm does not know its job."
    meaning = of(job.reason)
    said = f"{meaning} ({job.reason})" if meaning else job.reason
    sentences = [f"Slurm says: {said}."]
    if before:
        sentences.append(f"The job is number {before + 1} in the queue.")
    if starts_at := _moment(job.starts_at):
        sentences.append(f"Slurm expects it to start by {starts_at:%H:%M} UTC on {starts_at:%d %B}.")
    return " ".join(sentences)


def _moment(told: str) -> datetime | None:
    """Slurm's commands tell moments by the clock of the machine that they run on."""
    try:
        return datetime.fromisoformat(told).astimezone(UTC)
    except ValueError:
        return None  # N/A
