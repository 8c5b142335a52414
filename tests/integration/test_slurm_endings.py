"""How kernels on a cluster end, on a real Slurm: who is told what, when nothing is left, and what is not promised."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.model import Ending, Look, LookState
from computehub_ext.backends.slurm import SlurmBackend, watch
from computehub_ext.core.errors import NoCapacity, NotYetEnded, Refused, SkipPlace, Unreachable
from computehub_ext.testing.backend_contract import AskedDevice
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")
DEVICES = tuple(AskedDevice(index, f"GPU-{index}") for index in range(4))


@pytest.fixture
def make(tmp_path: Path, slurm: SlurmCluster) -> Iterator:  # noqa: F811
    made: list[SlurmBackend] = []

    def make(**changes: object) -> SlurmBackend:
        made.append(SlurmBackend(tmp_path / f"state{len(made)}", settings_for(slurm, **changes)))
        return made[-1]

    yield make
    for backend in made:
        nothing_left_of([backend], slurm)


def ended(backend: SlurmBackend, placement_id: str, seconds_max: float = 15.0) -> Look:
    wait_for(lambda: backend.look(placement_id).state is LookState.ENDED, seconds_max, "it did not end")
    return backend.look(placement_id)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in b"ZX"
    except OSError:
        return False


def pid_in(placed) -> int:
    with KernelTalk(placed.connection_info) as kernel:
        return int(kernel.run("import os; print(os.getpid())"))


def test_a_job_that_somebody_cancels_is_told_as_such(make, slurm, tmp_path):  # noqa: F811
    backend = make()
    request = ask(tmp_path)
    placed = backend.start(request)
    slurm.run("scancel", placed.details["job_id"])
    look = ended(backend, request.placement_id)
    assert look.reason is Ending.STOPPED
    assert "cancelled on the cluster" in look.message
    assert backend.list_placements() == []


def test_work_that_goes_first_takes_the_place(make, slurm, tmp_path):  # noqa: F811
    backend = make(partition="spot", gres={"T4": "gpu:t4:4"}, sbatch_arguments=("--nodelist=n3",))
    request = ask(tmp_path, devices=DEVICES, simulated=False)
    backend.start(request)
    taker = slurm.submit("sleep 60", "--partition=gpu", "--gres=gpu:t4:4", "--time=5")
    assert ended(backend, request.placement_id).reason is Ending.PREEMPTED
    slurm.run("scancel", taker)


@pytest.mark.slow
def test_the_clusters_time_limit_is_told_as_such(make, slurm, tmp_path):  # noqa: F811
    backend = make()
    request = ask(tmp_path)
    placed = backend.start(request)
    # What an administrator may do; Slurm looks about every half minute.
    slurm.run("scontrol", "update", f"JobId={placed.details['job_id']}", "TimeLimit=0")
    assert ended(backend, request.placement_id, 90).reason is Ending.TIME_LIMIT


def test_a_job_that_needs_more_memory_than_it_has(make, tmp_path):
    backend = make(memory_mib=300)
    request = ask(tmp_path)
    with KernelTalk(backend.start(request).connection_info) as kernel:
        kernel.client.execute("full = b'x' * (700 * 2**20); import time; time.sleep(60)")
        look = ended(backend, request.placement_id, 30)
    assert look.reason is Ending.OUT_OF_MEMORY
    assert "memory" in look.message


def test_a_job_has_a_time_limit_and_is_never_requeued(make, slurm, tmp_path):  # noqa: F811
    backend = make(time_limit_minutes=10, time_margin_minutes=5)
    short, long = ask(tmp_path), ask(tmp_path, paid_seconds=3600)
    for request, minutes in ((short, "00:10:00"), (long, "01:05:00")):
        job = slurm.run("scontrol", "-o", "show", "job", backend.start(request).details["job_id"])
        assert f"TimeLimit={minutes}" in job
        assert " Requeue=0 " in job


def test_stopping_takes_what_a_cell_detached(make, tmp_path):
    backend = make()
    request = ask(tmp_path)
    with KernelTalk(backend.start(request).connection_info) as kernel:
        detached = int(
            kernel.run("import subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)")
        )
    assert alive(detached)
    backend.stop(request.placement_id, 0)
    assert not alive(detached)


@pytest.mark.parametrize("who", ["launcher", "supervisor"])
def test_killing_what_watches_over_the_kernel_ends_it(make, tmp_path, who):
    backend = make()
    request = ask(tmp_path)
    kernel = pid_in(backend.start(request))
    supervisor = _parent(kernel)
    os.kill(_parent(supervisor) if who == "launcher" else supervisor, signal.SIGKILL)
    assert ended(backend, request.placement_id).reason is Ending.SUPERVISOR_LOST
    wait_for(lambda: not alive(kernel), 5, "the kernel went on")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def test_a_dead_nodes_kernel_that_answers_is_told_to_end(make, slurm, tmp_path):  # noqa: F811
    backend = make(sbatch_arguments=("--nodelist=n4",))
    request = ask(tmp_path)
    kernel = pid_in(backend.start(request))
    slurm.kill_node("n4")
    try:
        # By hand what Slurm does after SlurmdTimeout.
        slurm.run("scontrol", "update", "NodeName=n4", "State=DOWN", "Reason=test")
        assert ended(backend, request.placement_id, 30).reason is Ending.NODE_LOST
        wait_for(lambda: not alive(kernel), 5, "the kernel went on")
        wait_for(lambda: backend.list_placements() == [], 10, "it still counts as running")
    finally:
        slurm.revive_node("n4")


def test_a_dead_nodes_kernel_that_is_silent_counts_as_running_until_it_is_fenced(make, slurm, tmp_path):  # noqa: F811
    fence = tmp_path / "fence"
    fence.write_text('#!/bin/sh\ntest -e "$0.ok" && echo "$1" > "$0.done"\n')
    fence.chmod(0o755)
    backend = make(sbatch_arguments=("--nodelist=n4",), fence_command=(str(fence), "{node}"))
    request = ask(tmp_path)
    kernel = pid_in(backend.start(request))
    processes = [kernel, _parent(kernel), _parent(_parent(kernel))]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)  # the network is cut
    slurm.kill_node("n4")
    try:
        slurm.run("scontrol", "update", "NodeName=n4", "State=DOWN", "Reason=test")
        # The user has lost it, so the meter stops; the node may still run it, so its GPU is nobody else's yet.
        assert ended(backend, request.placement_id, 30).reason is Ending.NODE_LOST
        assert [look.placement_id for look in backend.list_placements()] == [request.placement_id]
        with pytest.raises(NotYetEnded, match="n4"):
            backend.stop(request.placement_id, 0)
        Path(f"{fence}.ok").touch()
        wait_for(lambda: backend.list_placements() == [], 10, "it was fenced and still counts")
        backend.stop(request.placement_id, 0)
        assert Path(f"{fence}.done").read_text() == "n4\n"
    finally:
        for pid in reversed(processes):
            os.kill(pid, signal.SIGKILL)
        slurm.revive_node("n4")


def test_a_full_cluster_says_so_with_slurms_reason(make, slurm, tmp_path):  # noqa: F811
    backend = make(pending_seconds_max=1.5, gres={"T4": "gpu:t4:{count}"})
    taker = slurm.submit("sleep 60", "--gres=gpu:t4:4", "--time=5")
    wait_for(lambda: f"{taker} RUNNING wrap" in jobs_of(slurm), 10, "the other job did not start")
    with pytest.raises(NoCapacity, match=r"Resources|Priority"):
        backend.start(ask(tmp_path, devices=DEVICES[:1]))
    assert backend.list_placements() == []
    slurm.run("scancel", taker)
    wait_for(lambda: not jobs_of(slurm), 10, "a job was left in the queue")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"partition": "nowhere"}, "invalid partition"),
        ({"sbatch_arguments": ("--mem=900G",)}, "node configuration is not available"),
        ({"partition": "short", "time_limit_minutes": 600}, "PartitionTimeLimit"),
        ({"kernels": {"python3": "/nowhere/python"}}, "/nowhere/python"),
        ({"prologue": ("echo no such licence >&2; exit 1",)}, "no such licence"),
    ],
)
def test_what_slurm_or_the_job_refuses_is_said_in_their_words(make, slurm, tmp_path, settings, words):  # noqa: F811
    backend = make(**settings)
    with pytest.raises(Refused, match=f"(?i){words}"):
        backend.start(ask(tmp_path))
    assert backend.list_placements() == []
    assert not jobs_of(slurm)


def test_a_job_that_cannot_call_back_is_taken_back(make, slurm, tmp_path):  # noqa: F811
    backend = make(address="127.0.0.1:9", pending_seconds_max=2.0)
    with pytest.raises(SkipPlace, match=r"127\.0\.0\.1:9"):
        backend.start(ask(tmp_path))
    wait_for(lambda: not jobs_of(slurm), 10, "the job stayed")


def test_without_a_controller_running_kernels_go_on_and_new_ones_are_unreachable(make, slurm, tmp_path):  # noqa: F811
    backend = make(command_seconds_max=2.0)
    request = ask(tmp_path)
    placed = backend.start(request)
    slurm.stop_controller()
    try:
        assert not backend.health().ok
        with pytest.raises(Unreachable):
            backend.start(ask(tmp_path))
        with pytest.raises(Unreachable):
            backend.list_placements()
        backend.interrupt(request.placement_id)
        with KernelTalk(placed.connection_info) as kernel:
            assert kernel.run("print('well')") == "well\n"
        assert backend.look(request.placement_id).state is LookState.RUNNING
        began = time.monotonic()
        backend.stop(request.placement_id, 0)  # by the link: Slurm is not needed
        assert time.monotonic() - began < 2
    finally:
        slurm.start_controller()
    wait_for(lambda: backend.health().ok, 20, "the cluster did not come back")


def test_what_runs_unpaid_is_cancelled_from_outside(make, slurm, tmp_path, monkeypatch):  # noqa: F811
    """A supervisor that was kept from ending its kernel: the cluster does it."""
    monkeypatch.setattr(watch, "OVERDUE_SECONDS", 1.0)
    backend = make()
    request = ask(tmp_path, paid_seconds=4)
    kernel = pid_in(backend.start(request))
    for pid in (_parent(kernel), _parent(_parent(kernel))):
        os.kill(pid, signal.SIGSTOP)
    assert ended(backend, request.placement_id, 20).reason is Ending.UNPAID
    wait_for(lambda: not alive(kernel) and not jobs_of(slurm), 10, "it went on")
