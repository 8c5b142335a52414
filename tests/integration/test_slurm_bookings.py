"""Bookings on a real Slurm: jobs submitted ahead that wait for their kernels, and what becomes of them."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from computehub_ext.backends.model import LookState
from computehub_ext.core.errors import Invalid, NoCapacity
from computehub_ext.leases import berths
from computehub_ext.leases import service as leases
from computehub_ext.leases.model import EndReason
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.plane import browser
from tests.support.processes import private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, settings_for, slurm  # noqa: F401 - used by its name
from tests.support.slurm_plane import RULES, STEPS, SlurmPlane

pytestmark = pytest.mark.needs("slurm")
T4 = {"T4": "gpu:t4:{count}"}


@pytest.fixture
def make(tmp_path: Path, slurm: SlurmCluster) -> Iterator[Callable[..., SlurmPlane]]:  # noqa: F811
    """Opens a control plane on the cluster's four T4s; at the end all that it left is ended."""
    made: list[SlurmPlane] = []

    def make(rules: Any = RULES, **changes: Any) -> SlurmPlane:
        made.append(SlurmPlane(tmp_path, settings_for(slurm, gres=T4, **changes), rules))
        return made[-1]

    yield make
    for hub in made:
        hub.plane._operator.end_all(EndReason.SERVER_STOPPED)
        hub.close()
    wait_for(lambda: not jobs_of(slurm), 15, "a job stayed")


@pytest.mark.parametrize("immediate", [False, True])
def test_a_booking_has_its_job_before_it_starts_and_the_kernel_runs_in_it(make, slurm, immediate):  # noqa: F811
    hub = make(immediate=immediate)
    booking = hub.book_soon(3)
    (berth,) = hub.ready()
    job = hub.job_of(berth)
    assert [line.split()[:2] for line in jobs_of(slurm)] == [[job, "RUNNING"]]
    hub.wait_for_start(booking)
    began = datetime.now(UTC)
    lease = hub.take(booking_id=booking["id"])
    started = hub.start_in(lease)
    assert started["placement_id"] == berth
    assert started["details"]["job_id"] == job
    assert len(jobs_of(slurm)) == 1
    assert datetime.now(UTC) - began < timedelta(seconds=5)
    hub.lease_running(lease["id"])
    with KernelTalk(started["connection_info"]) as kernel:
        assert kernel.run("import os; print(os.environ['SLURM_JOB_ID'])") == f"{job}\n"
    hub.release_lease(lease["id"], "returned")
    hub.tick()
    wait_for(lambda: not jobs_of(slurm), 10, "the job stayed")


def test_two_bookings_have_a_job_each(make, slurm):  # noqa: F811
    hub = make()
    bookings = [hub.book_soon(3), hub.book_soon(3, who="bob")]
    jobs = {hub.job_of(berth) for berth in hub.ready(2)}
    hub.wait_for_start(bookings[1])
    found = set()
    for who, booking in zip(("ada", "bob"), bookings, strict=True):
        lease = hub.take(browser(who), kernel_id=who, booking_id=booking["id"])
        found.add(hub.start_in(lease)["details"]["job_id"])
    assert found == jobs
    assert len(jobs) == len(jobs_of(slurm)) == 2


def test_a_booking_that_is_cancelled_or_moved_away_lets_its_job_go(make, slurm):  # noqa: F811
    hub = make()
    cancelled, moved = hub.book_soon(60), hub.book_soon(60, who="bob")
    hub.ready(2)
    hub.cancel_booking(browser(), hub.key(), cancelled["id"])
    wait_for(lambda: len(jobs_of(slurm)) == 1, 10, "the job of the cancelled booking stayed")
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    hub.move_booking(browser("bob"), hub.key(), moved["id"], starts_at=later)
    hub.tick()
    wait_for(lambda: not jobs_of(slurm), 10, "the job of the moved booking stayed")
    assert hub.money() == (10, 10)


def test_nobody_comes_and_the_job_goes(make, slurm):  # noqa: F811
    hub = make(rules=replace(RULES, no_show_grace=timedelta(seconds=2)))
    booking = hub.book_soon(3)
    hub.ready()
    expired = lambda: hub.booking(browser(), booking["id"])["state"] == "expired"  # noqa: E731
    hub.beat_until(expired, "it waits for ever")
    hub.beat_until(lambda: not jobs_of(slurm), "the job stayed")


def test_without_a_control_plane_a_waiting_job_goes_by_itself(make, slurm, monkeypatch):  # noqa: F811
    monkeypatch.setattr(berths, "KEPT_LONGER", timedelta(seconds=0))
    hub = make(rules=replace(RULES, no_show_grace=timedelta(seconds=2)))
    booking = hub.book_soon(3)
    (berth,) = hub.ready()
    hub.slurm_backend.close()
    wait_for(lambda: not jobs_of(slurm), 20, "it waits for ever")
    hub.restart()
    assert hub.slurm_backend.look(berth).state is LookState.ENDED
    assert hub.booking(browser(), booking["id"])["state"] == "confirmed"  # it was not there for who might have come


@pytest.mark.parametrize("is_wanted", [True, False])
@pytest.mark.parametrize("step", STEPS)
def test_killed_with_a_job_that_waits_its_successor_has_it_or_ends_it(
    make,
    slurm,  # noqa: F811
    tmp_path,
    step,
    is_wanted,
):
    file = tmp_path / "settings"
    file.write_bytes(pickle.dumps((tmp_path, settings_for(slurm, gres=T4))))
    command = [sys.executable, "-m", "tests.support.slurm_plane", step, str(file)]
    done = subprocess.run(command, timeout=60, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, "it was not killed at this step"
    hub = make()
    (booking,) = hub.bookings(browser())["items"]
    if not is_wanted:
        hub.cancel_booking(browser(), hub.key(), booking["id"])
        hub.beat_until(lambda: not jobs_of(slurm), "a job that nobody owns stayed")
        assert hub.berths() == {}
        return
    (berth,) = hub.ready()
    assert len(jobs_of(slurm)) == 1
    hub.wait_for_start(booking)
    started = hub.start_in(hub.take(booking_id=booking["id"]))
    assert started["placement_id"] == berth
    assert started["details"]["job_id"] == hub.job_of(berth)
    assert len(jobs_of(slurm)) == 1


def test_a_job_that_is_preempted_while_it_waits_is_submitted_again(make, slurm, monkeypatch):  # noqa: F811
    monkeypatch.setattr(berths, "PAUSE", timedelta(seconds=1))
    hub = make(partition="spot", sbatch_arguments=("--nodelist=n3",))
    booking = hub.book_soon(8, count=4)
    (first,) = hub.ready()
    taker = slurm.submit("sleep 60", "--partition=gpu", "--gres=gpu:t4:4", "--time=5")
    hub.beat_until(lambda: first not in hub.berths(), "it is not seen to be gone")
    hub.beat_until(lambda: list(hub.berths().values()) == [LookState.STARTING], "it is not asked for again")
    slurm.run("scancel", taker)
    (second,) = hub.ready()
    assert second != first
    hub.wait_for_start(booking)
    assert hub.start_in(hub.take(booking_id=booking["id"], count=4))["placement_id"] == second


def test_a_job_that_could_start_no_kernel_any_more_is_submitted_again(make, slurm, monkeypatch):  # noqa: F811
    """What becomes the supervisor was killed while the job waited, such as for want of memory on the node."""
    monkeypatch.setattr(berths, "PAUSE", timedelta(seconds=1))
    hub = make()
    hub.book_soon(8)
    (first,) = hub.ready()
    marked = {each.pid: each for each in psutil.process_iter() if first in _command_of(each)}
    (spare,) = [each for each in marked.values() if each.ppid() in marked]
    spare.kill()
    hub.beat_until(lambda: first not in hub.berths(), "it is not seen to be gone")
    (second,) = hub.ready()
    assert second != first


def _command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_full_cluster_is_told_and_the_job_keeps_its_place_in_the_queue(make, slurm):  # noqa: F811
    hub = make(pending_seconds_max=1.0)
    taker = slurm.submit("sleep 600", "--gres=gpu:t4:4", "--time=15")
    wait_for(lambda: f"{taker} RUNNING wrap" in jobs_of(slurm), 10, "the other job did not start")
    other = slurm.submit("sleep 1", "--gres=gpu:t4:4", "--time=5")
    booking = hub.book_soon(2)
    hub.beat_until(lambda: list(hub.berths().values()) == [LookState.STARTING], "it was not submitted")
    (berth,) = hub.berths()
    job = hub.job_of(berth)
    hub.wait_for_start(booking)
    lease = hub.take(booking_id=booking["id"])
    told = hub.lease_log(browser(), lease["id"])["text"]  # as the panel shows while the start waits
    assert "Slurm says: " in told
    assert "number 2 in the queue" in told
    with pytest.raises(NoCapacity) as caught:
        hub.start_in(lease)
    words = caught.value.message
    assert words.startswith("The booked T4 is not there yet. The cluster had no room within 1 seconds. Slurm says: ")
    assert "(Priority)" in words or "(Resources)" in words
    assert "number 2 in the queue" in words
    assert "Nothing is billed until your kernel runs." in words
    hub.lease_failed(lease["id"], "start_failed", words)
    slurm.run("scancel", taker, other)
    assert hub.ready() == [berth]
    lease = hub.take(booking_id=booking["id"])
    started = hub.start_in(lease)
    assert (started["placement_id"], started["details"]["job_id"]) == (berth, job)
    hub.lease_running(lease["id"])
    found = hub.database.read(lambda unit: leases.find(unit, lease["id"]))
    assert found.billed_from_at == found.started_at


def test_a_lease_is_not_extended_beyond_its_jobs_time_limit(make, slurm):  # noqa: F811
    hub = make(time_limit_minutes=40)
    booking = hub.book_soon(2)
    (berth,) = hub.ready()
    hub.wait_for_start(booking)
    lease = hub.take(booking_id=booking["id"])
    hub.start_in(lease)
    hub.lease_running(lease["id"])
    assert "TimeLimit=00:40:00" in slurm.run("scontrol", "-o", "show", "job", hub.job_of(berth))
    before = hub.money()
    with pytest.raises(Invalid, match=r"until \d\d:\d\d UTC .* by at most \d min"):
        hub.extend_lease(browser(), hub.key(), lease["id"], 3600)
    assert hub.money() == before
    hub.extend_lease(browser(), hub.key(), lease["id"], 300)


def test_a_longer_booking_makes_its_jobs_limit_longer(make, slurm):  # noqa: F811
    hub = make(time_limit_minutes=5, time_margin_minutes=3)
    hub.book_soon(60, minutes=60)
    (berth,) = hub.ready()
    assert "TimeLimit=01:04:00" in slurm.run("scontrol", "-o", "show", "job", hub.job_of(berth))
