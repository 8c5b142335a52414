"""What a person is told of a job that waits on a real Slurm, and starts that come right after ends."""

from __future__ import annotations

import os
import time
import venv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.capabilities import BerthRequest
from computehub_ext.backends.model import Ending, LookState
from computehub_ext.backends.slurm import SlurmBackend, submit
from computehub_ext.backends.slurm.commands import Job
from computehub_ext.backends.slurm.words import is_never, of, policy_in, waits
from computehub_ext.core.errors import NoCapacity, Refused
from computehub_ext.core.ids import new_id
from computehub_ext.testing.backend_contract import AskedDevice
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")
DEVICES = tuple(AskedDevice(index, f"GPU-{index}") for index in range(4))
T4 = {"T4": "gpu:t4:{count}"}


@pytest.fixture
def make(tmp_path: Path, slurm: SlurmCluster) -> Iterator[Callable[..., SlurmBackend]]:  # noqa: F811
    made: list[SlurmBackend] = []

    def make(**changes: object) -> SlurmBackend:
        made.append(SlurmBackend(tmp_path / f"state{len(made)}", settings_for(slurm, **changes)))
        return made[-1]

    yield make
    for backend in made:
        nothing_left_of([backend], slurm)


def berth(username: str = "ada", seconds: float = 60.0) -> BerthRequest:
    now = datetime.now(UTC)
    later = timedelta(seconds=seconds)
    return BerthRequest(new_id("pl"), "T4", 1, username, now + later, now + later)


def test_a_maintenance_before_the_jobs_end_is_told_as_such(make, slurm, tmp_path):  # noqa: F811
    backend = make(pending_seconds_max=3.0, time_limit_minutes=60)
    begins_at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=20)
    ends_at = begins_at + timedelta(hours=1)
    window = (f"StartTime={begins_at.astimezone():%Y-%m-%dT%H:%M}", "Duration=60", "Nodes=ALL", "Users=root")
    slurm.run("scontrol", "create", "reservation", "ReservationName=service", *window, "Flags=MAINT,IGNORE_JOBS")
    try:
        with pytest.raises(NoCapacity, match="reserved for maintenance before the job would end") as caught:
            backend.start(ask(tmp_path))
        times = [f"{moment:%H:%M} UTC on {moment:%d %B}" for moment in (begins_at, ends_at)]
        assert f"It is from {times[0]} to {times[1]}." in caught.value.message
        assert f"Slurm expects it to start by {times[1]}." in caught.value.message
        # One that ends before it begins is let in.
        short, request = make(time_limit_minutes=10), ask(tmp_path)
        short.start(request)
        short.stop(request.placement_id, 0)
    finally:
        slurm.run("scontrol", "delete", "ReservationName=service")


def test_a_closed_partition_is_told_as_such(make, slurm, tmp_path):  # noqa: F811
    backend = make(pending_seconds_max=3.0, partition="short")
    slurm.run("scontrol", "update", "PartitionName=short", "State=DOWN")
    try:
        with pytest.raises(NoCapacity, match="partition is closed for now"):
            backend.start(ask(tmp_path))
    finally:
        slurm.run("scontrol", "update", "PartitionName=short", "State=UP")


def test_a_berth_that_slurm_will_never_let_in_is_lost_with_the_reason(make):
    backend = make(partition="short", time_limit_minutes=600)
    wanted = berth()
    backend.ask_berth(wanted)
    with pytest.raises(Refused, match=r"may run longer than its partition allows \(PartitionTimeLimit\)"):
        backend.await_berth(wanted.placement_id)
    assert backend.look(wanted.placement_id).reason is Ending.START_FAILED


@pytest.mark.parametrize("immediate", [False, True])
def test_a_start_right_after_an_end_gets_the_same_gpus(make, tmp_path, immediate):
    backend = make(gres=T4, immediate=immediate)
    for _ in range(3):
        request = ask(tmp_path, devices=DEVICES)
        backend.start(request)
        backend.stop(request.placement_id, 0)


def test_a_start_waits_for_a_job_that_leaves_where_a_limit_allows_no_other(make, tmp_path, monkeypatch):
    backend = make()
    first, second = ask(tmp_path), ask(tmp_path)
    backend.start(first)
    real, refusals = backend._slurm.submit, []

    def limited(*given: object, **named: object) -> str:
        if len(refusals) < 2:
            refusals.append(True)
            raise NoCapacity("The cluster has no room now: job submit limit per user was reached.")
        return real(*given, **named)

    monkeypatch.setattr(backend._slurm, "submit", limited)
    backend.stop(first.placement_id, 0)
    backend.start(second)
    assert len(refusals) == 2
    wait_for(lambda: not backend._starts._is_anything_leaving(""), 10, "the first job is still thought to leave")
    refusals.clear()
    with pytest.raises(NoCapacity):
        backend.start(ask(tmp_path))
    assert len(refusals) == 1  # nothing leaves, so nothing is waited for


def test_a_start_at_once_does_not_wait_for_a_refusal_that_may_come(make, tmp_path):
    backend = make(immediate=True)
    began = time.monotonic()
    wanted = berth()
    backend.ask_berth(wanted)
    assert time.monotonic() - began < 0.2
    wait_for(lambda: backend.look(wanted.placement_id).state is LookState.READY, 10, "its job did not start")


def test_a_python_without_ipykernel_is_named_once(make, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    backend = make(kernels={"python3": python})
    with pytest.raises(Refused) as caught:
        backend.start(ask(tmp_path))
    assert caught.value.message.count(f"No module named 'zmq': the job's Python, {python}, has no ipykernel") == 1
    assert "Traceback" not in caught.value.message


def test_an_old_ipykernel_is_refused_with_a_sentence(make, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (old / "sitecustomize.py").write_text(
        "import ipykernel\nipykernel.version_info, ipykernel.__version__ = (6, 29, 5), '6.29.5'\n"
    )
    backend = make(environment={"PYTHONPATH": str(old)})
    with pytest.raises(Refused, match=r"has ipykernel 6\.29\.5, and 7\.4 or newer is needed there\.$") as caught:
        backend.start(ask(tmp_path))
    assert caught.value.details["kind"] == "ipykernel"
    assert backend.list_placements() == []


def test_a_job_that_was_asked_for_ahead_runs_the_kernel_that_is_wanted_then(make, tmp_path):
    import sys

    other = tmp_path / "other-python"
    other.write_text(f'#!/bin/sh\nexport FROM_OTHER=1\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    backend = make(kernels={"python3": sys.executable, "other": str(other)})
    request = ask(tmp_path, kernel_name="other")
    now = datetime.now(UTC)
    backend.ask_berth(
        BerthRequest(request.placement_id, "T4", 0, "ada", now + timedelta(minutes=1), request.paid_until)
    )
    with KernelTalk(backend.start(request).connection_info) as kernel:
        assert kernel.run("import os; print(os.environ['FROM_OTHER'])") == "1\n"


def test_jobs_that_are_asked_for_ahead_are_the_persons_own(make, slurm, tmp_path):  # noqa: F811
    home = Path(slurm.folder) / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, 65534, 65534)
    wrapper = Path(slurm.folder) / "slurm-submit"
    wrapper.write_text(Path(submit.__file__).read_text())
    wrapper.chmod(0o755)
    become = ("setpriv", "--reuid={user}", "--regid=65534", "--clear-groups", "env", f"HOME={home}", "USER={user}")
    command = (*become, "/usr/bin/python3", str(wrapper))
    # The Python of these tests may lie where only its owner looks: the job is looked at, not run.
    backend = make(submit_command=command, sbatch_arguments=("--begin=now+1hour",))
    wanted = berth("nobody")
    backend.ask_berth(wanted)
    backend.ask_berth(wanted)
    assert slurm.run("squeue", "--noheader", "--format=%u %T").split() == ["nobody", "PENDING"]
    backend.stop(wanted.placement_id, 0)
    wait_for(lambda: not jobs_of(slurm), 10, "the job stayed")


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("QOSMaxWallDurationPerJobLimit", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("QOSMaxGRESPerJob", True),
        ("AssocMaxCpuPerJobLimit", True),
        ("QOSMinGRES", True),
        ("QOSNotAllowed", True),
        ("AccountNotAllowed", True),
        ("InvalidAccount", True),
        ("QOSMaxGRESPerUser", False),
        ("QOSMaxJobsPerUserLimit", False),
        ("QOSGrpGRES", False),
        ("AssocMaxJobsLimit", False),
        ("AssocGrpGRESMinutes", False),
        ("Resources", False),
    ],
)
def test_what_no_waiting_helps_with_is_known(reason: str, never: bool) -> None:
    assert is_never(reason) is never
    assert of(reason)


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ("QOSMaxSubmitJobPerUserLimit Batch job submission failed: Job violates", "QOSMaxSubmitJobPerUserLimit"),
        ("Batch job submission failed: Job violates accounting/QOS policy (job submit limit)", ""),
        ("Unable to allocate resources: Invalid qos specification", ""),
        ("AssocGrpSubmitJobsLimit Batch job submission failed", "AssocGrpSubmitJobsLimit"),
    ],
)
def test_the_limit_is_found_in_what_sbatch_says(said: str, policy: str) -> None:
    assert policy_in(said) == policy


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", "in use"),
        ("Priority", "go first"),
        ("ReqNodeNotAvail, Reserved for maintenance", "maintenance"),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", "not available"),
        ("QOSMaxGRESPerUser", "allows no more"),
        ("QOSGrpGRES", "together"),
        ("AssocGrpBillingMinutes", "the account"),
        ("InvalidAccount", "does not know its account"),
        ("PartitionDown", "closed"),
        ("SomethingNew", ""),
    ],
)
def test_slurms_reasons_have_words(reason: str, words: str) -> None:
    assert words in of(reason)
    assert bool(of(reason)) == bool(words)


def test_a_job_that_waits_is_told_with_its_place_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        job = Job("7", "PENDING", "Resources", "", "2026-07-01T16:20:00", "gpu", "n")
        assert waits(job, 2) == (
            "Slurm says: all GPUs that it could have are in use (Resources). The job is number 3 in the queue. "
            "Slurm expects it to start by 14:20 UTC on 01 July."
        )
        assert waits(Job("7", "PENDING", "New", "", "N/A", "gpu", "n")) == "Slurm says: New."
    finally:
        monkeypatch.undo()
        time.tzset()
