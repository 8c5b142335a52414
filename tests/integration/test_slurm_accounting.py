"""Accounts and QoS by a real slurmdbd: under which ones jobs run, who is refused, what waits, and what is preempted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.capabilities import BerthRequest
from computehub_ext.backends.slurm import SlurmBackend, submit
from computehub_ext.core.errors import NoCapacity, Refused
from computehub_ext.core.ids import new_id
from computehub_ext.testing.backend_contract import AskedDevice
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster, slurm_cluster
from tests.support.accounts import Account, people, sudo_rule
from tests.support.plane import browser
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for
from tests.support.slurm_plane import SlurmPlane

pytestmark = pytest.mark.needs("slurm", "slurmdbd")
T4 = {"T4": "gpu:t4:{count}"}
ONE = (AskedDevice(0, "GPU-0"),)
BOOKS = """
add account teaching research
add account crowded GrpTRES=gres/gpu=1
add qos low reserved
add qos high Preempt=low
add qos one MaxJobsPerUser=1
add qos few MaxSubmitJobsPerUser=1
add qos brief MaxWall=00:05:00
add qos strict MaxWall=00:05:00 Flags=DenyOnLimit
add user root account=teaching,crowded qos=normal,low,high,one,few,brief,strict
"""


def keep(cluster: SlurmCluster, commands: str) -> None:
    """Change the books."""
    for line in commands.strip().splitlines():
        cluster.run("sacctmgr", "--immediate", *line.split())


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with slurm_cluster(with_accounting=True) as made:
        keep(made, BOOKS)
        yield made


@pytest.fixture
def make(tmp_path: Path, cluster: SlurmCluster) -> Iterator[Callable[..., SlurmBackend]]:
    made: list[SlurmBackend] = []

    def make(**changes: object) -> SlurmBackend:
        own = {"account": "teaching", "gres": T4}
        made.append(SlurmBackend(tmp_path / f"state{len(made)}", settings_for(cluster, **{**own, **changes})))
        return made[-1]

    yield make
    for backend in made:
        nothing_left_of([backend], cluster)


def berth(person: Account) -> BerthRequest:
    until = datetime.now(UTC) + timedelta(minutes=1)
    return BerthRequest(new_id("pl"), "T4", 0, person.name, until, until)


def accounted(cluster: SlurmCluster, job_id: str) -> list[str]:
    """Return user, account, QoS and state by slurmdbd's word."""
    fields = "--format=User,Account,QOS,State"
    line = cluster.run("sacct", "--noheader", "--parsable2", "-X", fields, f"--jobs={job_id}", check=False).strip()
    return line.split("|")


def test_a_job_runs_under_the_account_and_qos_of_its_place(make, cluster, tmp_path):
    """Two places on one cluster, as for two courses; one starts jobs in batches, one at once."""
    kept = {}
    for account, qos, immediate in (("teaching", "high", False), ("crowded", "", True)):
        backend = make(account=account, qos=qos, immediate=immediate)
        request = ask(tmp_path, devices=ONE)
        job = backend.start(request).details["job_id"]
        shown = cluster.run("squeue", "--noheader", "--format=%a|%q|%T", f"--jobs={job}").strip()
        assert shown == f"{account}|{qos or 'normal'}|RUNNING"
        kept[job] = ["root", account, qos or "normal", "COMPLETED"]
        backend.stop(request.placement_id, 0)
    # slurmdbd hears of a job from its controller, which takes its time.
    wait_for(lambda: {job: accounted(cluster, job) for job in kept} == kept, 20, "the books say otherwise")


@pytest.mark.parametrize(
    ("immediate", "settings", "words"),
    [
        (False, {"account": "research"}, "Invalid account.*`account` of the place is 'research'"),
        (True, {"account": "nowhere"}, "Invalid account.*`account` of the place is 'nowhere'"),
        (False, {"qos": "nowhere"}, "Invalid qos.*`qos` of the place is 'nowhere'"),
        (True, {"qos": "reserved"}, "Invalid qos.*`qos` of the place is 'reserved'"),
        (False, {"qos": "strict"}, r"longer than its quality of service allows \(QOSMaxWall.*`qos` .* is 'strict'"),
        (True, {"qos": "strict"}, r"longer than its quality of service allows \(QOSMaxWall.*`qos` .* is 'strict'"),
        # Slurm takes this one, and would let it wait for ever.
        (False, {"qos": "brief"}, r"longer than its quality of service allows \(QOSMaxWall"),
    ],
)
def test_what_the_books_do_not_allow_is_refused_soon_and_not_billed(cluster, tmp_path, settings, words, immediate):
    own = {"account": "teaching", "gres": T4, "immediate": immediate, **settings}
    hub = SlurmPlane(tmp_path, settings_for(cluster, **own))
    try:
        lease = hub.take()
        began = time.monotonic()
        with pytest.raises(Refused, match=words):
            hub.start_in(lease)
        assert time.monotonic() - began < 6
        hub.release_lease(lease["id"], "start_failed")
        assert hub.lease(browser(), lease["id"])["cost_microcredits"] == 0
        assert hub.money() == (10, 10)
        wait_for(lambda: not jobs_of(cluster), 10, "a job stayed")
    finally:
        hub.close()


@pytest.mark.parametrize(
    ("immediate", "settings", "reason", "words"),
    [
        (True, {"qos": "one"}, "QOSMaxJobsPerUserLimit", "the quality of service allows no more at once"),
        (False, {"account": "crowded"}, "AssocGrpGRES", "the account has used, or uses, all that it may"),
        (False, {"qos": "few"}, "QOSMaxSubmitJobPerUserLimit", "the quality of service takes no more jobs"),
        (True, {"qos": "few"}, "QOSMaxSubmitJobPerUserLimit", "the quality of service takes no more jobs"),
    ],
)
def test_a_limit_that_is_reached_is_told_in_words(make, cluster, tmp_path, settings, reason, words, immediate):
    backend = make(pending_seconds_max=1.0, immediate=immediate, **settings)
    first = ask(tmp_path, devices=ONE)
    backend.start(first)
    with pytest.raises(NoCapacity, match=f"{words} .{reason}.") as caught:
        backend.start(ask(tmp_path, devices=ONE))
    assert caught.value.details["reason"] == reason
    assert [look.placement_id for look in backend.list_placements()] == [first.placement_id]
    wait_for(lambda: len(jobs_of(cluster)) == 1, 10, "the other job stayed")
    backend.stop(first.placement_id, 0)
    if immediate:  # whose refusal comes when nobody waits for a job to leave any more
        wait_for(lambda: not jobs_of(cluster), 10, "the first job stayed")
    backend.start(ask(tmp_path, devices=ONE))  # there is room again


def test_a_qos_that_goes_first_takes_the_place_and_the_lease_ends(cluster, tmp_path):
    settings = settings_for(cluster, account="teaching", qos="low", gres=T4)
    hub = SlurmPlane(tmp_path, settings)
    try:
        lease = hub.take(count=4)
        started = hub.start_in(lease)
        hub.lease_running(lease["id"])
        began = time.monotonic()
        taker = cluster.submit("sleep 60", "--account=teaching", "--qos=high", "--gres=gpu:t4:4", "--time=5")
        closed = hub.beat_until(
            lambda: (found := hub.lease(browser(), lease["id"]))["state"] == "closed" and found, "it goes on"
        )
        seconds = time.monotonic() - began
        assert (closed["end_reason"], closed["held_microcredits"]) == ("preempted", 0)
        assert 0 < closed["cost_microcredits"] < (seconds + 5) * 4 * 1_000_000 / 3600
        wait_for(lambda: accounted(cluster, started["details"]["job_id"])[-1] == "PREEMPTED", 20, "not in the books")
        cluster.run("scancel", taker)
        wait_for(lambda: not jobs_of(cluster), 10, "a job stayed")
    finally:
        hub.close()


def test_a_job_whose_account_is_closed_while_it_waits_is_refused(make, cluster, tmp_path):
    keep(cluster, "add account ending\nadd user root account=ending\n")
    taker = cluster.submit("sleep 60", "--account=teaching", "--gres=gpu:t4:4", "--time=5")
    wait_for(lambda: f"{taker} RUNNING wrap" in jobs_of(cluster), 10, "the other job did not start")
    backend = make(account="ending")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(backend.start, ask(tmp_path, devices=ONE))
        wait_for(lambda: len(jobs_of(cluster)) == 2, 10, "it was not submitted")
        keep(cluster, "remove user root where account=ending\n")
        with pytest.raises(Refused, match="does not know its account"):
            start.result(30)
    cluster.run("scancel", taker)


@pytest.mark.needs("sudo")
def test_people_have_accounts_of_their_own(make, cluster):
    """Each job is its person's; whether they have the place's account, or which one by default, is slurmdbd's word."""
    with people() as made:
        ada, bob, plane = made.add("ada"), made.add("bob"), made.add("plane", is_member=False)
        keep(cluster, f"add user {ada.name} account=teaching\nadd user {bob.name} account=research")
        installed = made.folder / "slurm-submit"
        shutil.copy(submit.__file__, installed)
        installed.chmod(0o755)
        become = ("setpriv", f"--reuid={plane.uid}", f"--regid={plane.gid}", "--init-groups")
        own = {
            "submit_command": (*become, "sudo", "-n", "-H", "-u", "{user}", str(installed)),
            "sbatch_arguments": ("--begin=now+1hour",),  # it is looked at, not run
        }
        with sudo_rule(f"{plane.name} ALL=(%{made.group}) NOPASSWD: {installed}"):
            backend, by_default = make(**own), make(**own, account="")
            wanted, theirs, none = berth(ada), berth(bob), berth(plane)
            backend.ask_berth(wanted)
            by_default.ask_berth(theirs)
            shown = cluster.run("squeue", "--noheader", "--format=%u|%a|%q").split()
            assert sorted(shown) == sorted([f"{ada.name}|teaching|normal", f"{bob.name}|research|normal"])
            with pytest.raises(Refused, match=r"Invalid account.*`account` of the place is 'teaching'") as caught:
                backend.ask_berth(berth(bob))
            assert caught.value.details["setting"] == "account"
            made.add_to_group(plane)
            with pytest.raises(Refused, match=r"Invalid account.*`account` of the place is not set"):
                by_default.ask_berth(none)
            backend.stop(wanted.placement_id, 0)
            by_default.stop(theirs.placement_id, 0)
            wait_for(lambda: not jobs_of(cluster), 15, "a job stayed")
