"""Slurm's reasons for a job to wait, as a person reads them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .commands import Job

_MAINTENANCE = "ReqNodeNotAvail, Reserved for maintenance"
# The first one that a reason begins with; longer ones stand before those that they begin with.
_WORDS = (
    ("Resources", "all GPUs that it could have are in use"),
    ("Priority", "other jobs go first"),
    (_MAINTENANCE, "the cluster is reserved for maintenance before the job would end"),
    ("ReqNodeNotAvail", "the nodes that it could run on are not available"),
    ("Nodes required for job are DOWN", "the nodes that it could run on are down, drained or reserved"),
    ("NodeDown", "the node that it could run on is down"),
    ("Reservation", "the reservation that it belongs to has not begun"),
    ("PartitionDown", "its partition is closed for now"),
    ("PartitionInactive", "its partition is closed for now"),
    ("PartitionTimeLimit", "it may run longer than its partition allows"),
    ("PartitionNodeLimit", "it wants more than its partition allows"),
    ("AccountNotAllowed", "its partition does not take its account"),
    ("QOSNotAllowed", "its partition does not take its quality of service"),
    ("QOSMaxWallDurationPerJobLimit", "it may run longer than its quality of service allows"),
    ("QOSMin", "it asks for less than its quality of service is for"),
    ("QOSMaxSubmit", "the quality of service takes no more jobs"),
    ("QOSGrp", "others with the same quality of service use all that they may together"),
    ("QOSMax", "the quality of service allows no more at once"),
    ("QOSJobLimit", "the quality of service allows no more at once"),
    ("QOSResourceLimit", "the quality of service allows no more at once"),
    ("AssocGrp", "the account has used, or uses, all that it may"),
    ("AssocMaxWallDurationPerJobLimit", "it may run longer than the account allows"),
    ("AssocMaxSubmit", "the account takes no more jobs"),
    ("AssocMax", "the account allows no more at once"),
    ("AssociationJobLimit", "the account allows no more at once"),
    ("MaxSubmitJobsPerAccount", "the account takes no more jobs"),
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


_TOO_MUCH = "it asks for more than its {} gives to one job"
_PER_JOB = re.compile(r"(QOS|Assoc)Max\w*Per(Job|Node)(Limit)?\b")
_NEVER = (
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "QOSMin",
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "JobHeldAdmin",
)
_POLICY = re.compile(r"\b(QOS|Assoc|Max)[A-Z]\w*|\bPartition\w+Limit\b")


def of(reason: str) -> str:
    """Return what a reason means; empty for one that we don't know."""
    if "WallDuration" not in reason and (found := _PER_JOB.match(reason.lstrip("("))):
        return _TOO_MUCH.format("quality of service" if found[1] == "QOS" else "account")
    return next((words for begin, words in _WORDS if reason.lstrip("(").startswith(begin)), "")


def is_never(reason: str) -> bool:
    """Tell whether a job with this reason will not start as it is, however long it waits."""
    return reason.startswith(_NEVER) or bool(_PER_JOB.match(reason))


def policy_in(said: str) -> str:
    """Return the reason that is named in what ``sbatch`` said, such as ``QOSMaxSubmitJobPerUserLimit``, or nothing."""
    found = _POLICY.search(said)
    return found[0] if found else ""


def is_maintenance(reason: str) -> bool:
    return reason.startswith(_MAINTENANCE)


def waits(job: Job | None, before: int = 0, maintenance: tuple[str, str] = ("", "")) -> str:
    """Return sentences on what a job waits for.

    Parameters
    ----------
    before:
        How many jobs are to start before it.
    maintenance:
        When the one that it waits for begins and ends, as Slurm tells it.
    """
    if job is None:
        return "Slurm does not know its job."
    meaning = of(job.reason)
    said = f"{meaning} ({job.reason})" if meaning else job.reason
    sentences = [f"Slurm says: {said}."]
    begins_at, ends_at = map(_moment, maintenance)
    if begins_at and ends_at:
        sentences.append(f"It is from {_said(begins_at)} to {_said(ends_at)}.")
    if before:
        sentences.append(f"The job is number {before + 1} in the queue.")
    if starts_at := _moment(job.starts_at):
        sentences.append(f"Slurm expects it to start by {_said(starts_at)}.")
    return " ".join(sentences)


def _said(moment: datetime) -> str:
    return f"{moment:%H:%M} UTC on {moment:%d %B}"


def _moment(told: str) -> datetime | None:
    """Slurm's commands tell moments by the clock of the machine that they run on."""
    try:
        return datetime.fromisoformat(told).astimezone(UTC)
    except ValueError:
        return None  # N/A
