"""Kernels that end on a real engine and a real cluster: what their leases say of it, what is billed and what released.

That a kernel which its own place ended is told with the right ``Ending`` is test_slurm_endings.py's and
test_docker_failures.py's; here each is followed into the books.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.slurm import watch
from computehub_ext.core.settings import Settings
from computehub_ext.leases import endings
from computehub_ext.testing.docker_engine import Engine, docker_engine, shared_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support import containers
from tests.support.own_process import Hub, Site, billed_to_the_second, said
from tests.support.slurm import settings_for, slurm  # noqa: F401 - used by its name

SEEN_WITHIN = timedelta(seconds=2)
"""How long after an end its place may say that it was."""
GONE = "The machine that the kernel ran on is gone."
T4 = {"T4": "gpu:t4:{count}"}


@pytest.fixture(autouse=True)
def no_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here is no notebook's server for which a dead kernel's lease would wait."""
    monkeypatch.setattr(endings, "RESTART_GRACE", timedelta(0))


@contextmanager
def living(site: Site) -> Iterator[Hub]:
    hub = Hub(site)
    try:
        yield hub
    finally:
        hub.close(end_leases=True)


def ended(hub: Hub, lease: dict[str, Any], seconds_max: float = 30.0) -> dict[str, Any]:
    """The lease when a beat of the control plane has found that its kernel is gone."""

    def closed() -> dict[str, Any] | None:
        hub.tick()
        found = hub.lease(lease["id"])
        return found if found["state"] in ("closing", "closed") else None

    return wait_for(closed, seconds_max, "its lease goes on")  # type: ignore[return-value]


def settled(hub: Hub, lease: dict[str, Any], *, before: dict[str, int], since: datetime, until: datetime) -> None:
    """Fail unless it was billed until between these moments, and all that was held beyond is free."""
    billed_to_the_second(lease)
    assert since <= datetime.fromisoformat(lease["ended_at"]) <= until
    now = hub.balance()
    assert before["posted_microcredits"] - now["posted_microcredits"] == lease["cost_microcredits"] > 0
    assert now["available_microcredits"] == now["posted_microcredits"]
    assert lease["held_microcredits"] == 0


@dataclass(frozen=True)
class Row:
    """An end, and what a person reads of it."""

    how: Callable[[Any, dict[str, Any]], object]
    """Brings it about, given the place and what was placed there."""
    reason: str
    words: str
    settings: dict[str, Any]


def _ended_as(site: Site, place: Any, row: Row) -> None:
    with living(site) as hub:
        before = hub.balance()
        lease, placed = hub.running()
        hub.tick()
        since = datetime.now(UTC)
        row.how(place, placed)
        over = ended(hub, lease)
        assert (over["end_reason"], row.words in over["end_message"]) == (row.reason, True), over["end_message"]
        settled(hub, over, before=before, since=since - SEEN_WITHIN, until=datetime.now(UTC))
        wait_for(lambda: ended(hub, lease)["state"] == "closed", 15, "it does not come to be closed")
        assert site.books() == {}


# -- a cluster ---------------------------------------------------------------------------------------------------------


def _site(folder: Path, cluster: SlurmCluster, **changes: Any) -> Site:
    return Site(folder, folder, settings_for(cluster, **changes))


def _cancelled(cluster: SlurmCluster, placed: dict[str, Any]) -> None:
    cluster.run("scancel", placed["details"]["job_id"])


def _preempted(cluster: SlurmCluster, placed: dict[str, Any]) -> None:
    cluster.submit("sleep 5", "--partition=gpu", "--gres=gpu:t4:4", "--time=5")


def _memory(place: object, placed: dict[str, Any]) -> None:
    with KernelTalk(placed["connection_info"]) as kernel:
        kernel.client.execute("full = b'x' * (700 * 2**20); import time; time.sleep(60)")


ON_A_CLUSTER = {
    "scancel": Row(_cancelled, "kernel_died", "The kernel's job was cancelled on the cluster.", {}),
    "preemption": Row(
        _preempted,
        "preempted",
        "The cluster took the GPU for work that goes first.",
        {"partition": "spot", "gres": T4, "sbatch_arguments": ("--nodelist=n3", "--gres=gpu:t4:4")},
    ),
    "memory": Row(_memory, "out_of_memory", "needed more than its 300 MiB of main memory", {"memory_mib": 300}),
}


@pytest.fixture(scope="module")
def out_of_time(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, dict[str, Any]]]:  # noqa: F811
    """A lease whose job has reached its limit, which Slurm looks at about every half minute."""
    with living(_site(tmp_path_factory.mktemp("late"), slurm, sbatch_arguments=("--nodelist=n1",))) as hub:
        lease, placed = hub.running()
        slurm.run("scontrol", "update", f"JobId={placed['details']['job_id']}", "TimeLimit=0")
        yield hub, lease


@pytest.mark.needs("slurm")
@pytest.mark.parametrize("end", ON_A_CLUSTER)
def test_a_job_that_ends_is_told_billed_until_then_and_the_rest_released(
    tmp_path: Path,
    slurm: SlurmCluster,  # noqa: F811
    out_of_time: tuple[Hub, dict[str, Any]],
    end: str,
) -> None:
    row = ON_A_CLUSTER[end]
    _ended_as(_site(tmp_path, slurm, **row.settings), slurm, row)


@pytest.mark.needs("slurm")
@pytest.mark.parametrize("is_silent", [False, True])
def test_a_lost_node_is_billed_until_its_kernel_was_last_heard(
    tmp_path: Path,
    slurm: SlurmCluster,  # noqa: F811
    is_silent: bool,
) -> None:
    site = _site(tmp_path, slurm, sbatch_arguments=("--nodelist=n4",), lost_seconds=1.0)
    with living(site) as hub:
        before = hub.balance()
        lease, placed = hub.running()
        processes = _launched(int(said(placed["connection_info"], "import os; print(os.getpid())")))
        hub.tick()
        lost_at = datetime.now(UTC)
        try:
            if is_silent:
                for pid in processes:
                    os.kill(pid, signal.SIGSTOP)  # the network is cut
                wait_for(lambda: datetime.now(UTC) > lost_at + 2 * SEEN_WITHIN)
            slurm.kill_node("n4")
            slurm.run("scontrol", "update", "NodeName=n4", "State=DOWN", "Reason=test")
            over = ended(hub, lease)
            assert (over["end_reason"], over["end_message"]) == ("place_lost", GONE)
            until = lost_at + SEEN_WITHIN if is_silent else datetime.now(UTC)
            settled(hub, over, before=before, since=lost_at - SEEN_WITHIN, until=until)
            if is_silent:
                hub.tick()
                assert hub.lease(lease["id"])["state"] == "closing"  # its GPU is nobody else's before it is fenced
        finally:
            if is_silent:
                for pid in reversed(processes):
                    os.kill(pid, signal.SIGKILL)
            slurm.revive_node("n4")
        wait_for(lambda: ended(hub, lease)["state"] == "closed", 15, "it does not come to be closed")
        assert site.books() == {}


@pytest.mark.needs("slurm")
def test_a_silent_launcher_on_a_node_that_answers_is_billed_and_its_job_ended(
    tmp_path: Path,
    slurm: SlurmCluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cell may stop its own launcher, and has its GPU meanwhile."""
    monkeypatch.setattr(watch, "SILENT_SECONDS_MAX", 3.0)
    site = _site(tmp_path, slurm, sbatch_arguments=("--nodelist=n4",), lost_seconds=1.0)
    with living(site) as hub:
        before = hub.balance()
        lease, placed = hub.running()
        kernel, _, launcher = _launched(int(said(placed["connection_info"], "import os; print(os.getpid())")))
        hub.tick()
        silent_at = datetime.now(UTC)
        said(placed["connection_info"], f"import signal; os.kill({launcher}, signal.SIGSTOP)")
        over = ended(hub, lease)
        assert (over["end_reason"], over["end_message"]) == ("kernel_died", watch.SILENT)
        settled(hub, over, before=before, since=silent_at + timedelta(seconds=3), until=datetime.now(UTC))
        wait_for(lambda: not Path(f"/proc/{kernel}").exists(), 15, "its kernel goes on")
        wait_for(lambda: ended(hub, lease)["state"] == "closed", 15, "it does not come to be closed")
        assert site.books() == {}


def _launched(kernel: int) -> list[int]:
    """A kernel, its supervisor and its launcher."""
    found = [kernel]
    for _ in range(2):
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_bytes().rpartition(b")")[2].split()[1]))
    return found


@pytest.mark.needs("slurm")
def test_what_an_administrator_can_do_without_ending_a_job_ends_no_lease(
    tmp_path: Path,
    slurm: SlurmCluster,  # noqa: F811
) -> None:
    with living(_site(tmp_path, slurm, sbatch_arguments=("--nodelist=n2",))) as hub:
        lease, placed = hub.running()
        said(placed["connection_info"], "x = 'kept'")
        job = placed["details"]["job_id"]
        slurm.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
        try:
            with pytest.raises(RuntimeError):
                slurm.run("scontrol", "requeue", job)
            hub.tick()
            assert hub.lease(lease["id"])["state"] == "running"
            assert said(placed["connection_info"], "print(x)") == "kept\n"
            assert "JobState=RUNNING" in slurm.run("scontrol", "-o", "show", "job", job)
        finally:
            slurm.run("scontrol", "update", "NodeName=n2", "State=RESUME")
        over = hub.returned(lease["id"])
        assert over["end_reason"] == "returned"
        billed_to_the_second(over)


# -- an engine ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def folder() -> Iterator[Path]:
    with containers.state_folder() as folder:
        yield folder


def _to_container(act: str, **how: Any) -> Callable[[Engine, dict[str, Any]], None]:
    def do(engine: Engine, placed: dict[str, Any]) -> None:
        client = engine.client()
        try:
            getattr(client.containers.get(placed["details"]["container"]), act)(**how)
        finally:
            client.close()

    return do


ON_AN_ENGINE = {
    "memory": Row(_memory, "out_of_memory", "needed more than its 300 MiB of main memory", {"memory_mib": 300}),
    "kill": Row(_to_container("kill"), "kernel_died", "The process that watched over the kernel was killed", {}),
    "stop": Row(_to_container("stop", timeout=5), "kernel_died", "The kernel was stopped as asked.", {}),
    "remove": Row(_to_container("remove", force=True), "kernel_died", "container was removed by somebody else", {}),
}


@pytest.mark.needs("docker")
@pytest.mark.parametrize("end", ON_AN_ENGINE)
def test_a_container_that_ends_is_told_billed_until_then_and_the_rest_released(
    tmp_path: Path, folder: Path, engine: Engine, end: str
) -> None:
    row = ON_AN_ENGINE[end]
    _ended_as(Site(folder, tmp_path, containers.settings_for(engine, tmp_path, **row.settings)), engine, row)


@pytest.mark.needs("docker")
def test_an_engine_that_stops_is_billed_until_it_was_last_seen(tmp_path: Path, folder: Path) -> None:
    """As its machine does that is switched off and on again, some time after all that was paid for."""
    rules = Settings(paid_horizon=timedelta(seconds=6))
    with shared_engine("apart") as engine:
        site = Site(folder, tmp_path, containers.settings_for(engine, tmp_path), rules)
        hub = Hub(site)
        before = hub.balance()
        lease, _ = hub.running()
        since = datetime.now(UTC)
        hub.tick()
        seen_by = datetime.now(UTC)
    over = ended(hub, lease)
    assert (over["end_reason"], over["end_message"]) == ("place_lost", GONE)
    assert over["state"] == "closing"
    settled(hub, over, before=before, since=since, until=seen_by)
    with shared_engine("apart"):
        hub.close()
        hub = Hub(site)
        assert hub.lease(lease["id"])["state"] == "closed"
        assert site.books() == {}
        hub.close()


@pytest.mark.needs("slurm")
def test_a_jobs_time_limit_is_told_billed_until_then_and_the_rest_released(
    out_of_time: tuple[Hub, dict[str, Any]],
) -> None:
    hub, lease = out_of_time
    over = ended(hub, lease, 90)
    assert over["end_reason"] == "kernel_died"
    assert over["end_message"] == "The time that the cluster had set for the job was over."
    billed_to_the_second(over)
    balance = hub.balance()
    assert balance["posted_microcredits"] == balance["available_microcredits"]
    wait_for(lambda: ended(hub, lease)["state"] == "closed", 15, "it does not come to be closed")
    assert hub.site.books() == {}
