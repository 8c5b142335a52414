"""SIGKILL of the control plane at each step of a start on a cluster, and what its successor finds."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.model import Ending, LookState, StartRequest
from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.core.errors import Refused
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")

# A control plane that starts one kernel and kills itself at a step of it.
PLANE = """
import os, pickle, signal, sys
from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.backends.slurm.commands import Slurm
from computehub_ext.backends.slurm.desk import Desk
from computehub_ext.backends.slurm.records import Records

folder, step = sys.argv[1:]
settings, request = pickle.load(sys.stdin.buffer)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

submit, save, on_message = Slurm.submit, Records.save, Desk.on_message

def watched_submit(self, *given, **named):
    if step == "recorded":
        die()
    job = submit(self, *given, **named)
    if step == "submitted":
        die()
    return job

def watched_save(self, record):
    save(self, record)
    if {"noted": record.job_id, "admitted": record.peer_key, "known": record.connection}.get(step):
        die()

def watched_message(self, key, peer, message):
    on_message(self, key, peer, message)
    if step == message.get("state"):
        die()

Slurm.submit, Records.save, Desk.on_message = watched_submit, watched_save, watched_message
SlurmBackend(folder, settings).start(request)
if step == "started":
    die()
"""
STEPS = ["recorded", "submitted", "noted", "admitted", "waiting", "starting", "known", "started"]


@pytest.fixture
def settings(slurm: SlurmCluster, request: pytest.FixtureRequest) -> SlurmSettings:  # noqa: F811
    return settings_for(slurm, immediate=getattr(request, "param", False))


@pytest.fixture
def successor(tmp_path: Path, slurm: SlurmCluster, settings: SlurmSettings) -> Iterator:  # noqa: F811
    made: list[SlurmBackend] = []

    def make() -> SlurmBackend:
        made.append(SlurmBackend(tmp_path / "state", settings))
        return made[-1]

    yield make
    nothing_left_of(made, slurm)


def killed_at(step: str, folder: Path, settings: SlurmSettings, request: StartRequest) -> None:
    plane = [sys.executable, "-c", PLANE, str(folder), step]
    done = subprocess.run(plane, input=pickle.dumps((settings, request)), timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, "it was not killed at this step"


@pytest.mark.parametrize(
    ("settings", "step"),
    [*((False, step) for step in STEPS), *((True, step) for step in ("recorded", "submitted", "waiting", "started"))],
    indirect=["settings"],
)
def test_a_successor_goes_on_where_it_was_killed(step, successor, settings, tmp_path, slurm):  # noqa: F811
    request = ask(tmp_path)
    killed_at(step, tmp_path / "state", settings, request)
    backend = successor()
    listed = [look.placement_id for look in backend.list_placements()]
    assert listed == [request.placement_id]
    placed = backend.start(request)
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print('here')") == "here\n"
    assert backend.start(request) == placed
    wait_for(lambda: len(jobs_of(slurm)) == 1, 10, "there is not one job")
    backend.renew(request.placement_id, datetime.now(UTC) + timedelta(hours=1))
    backend.interrupt(request.placement_id)
    backend.stop(request.placement_id, 0)
    wait_for(lambda: not jobs_of(slurm), 10, "a job stayed")


@pytest.mark.parametrize("step", ["submitted", "admitted", "starting", "started"])
def test_what_nobody_wants_any_more_is_found_and_stopped(step, successor, settings, tmp_path, slurm):  # noqa: F811
    request = ask(tmp_path)
    killed_at(step, tmp_path / "state", settings, request)
    backend = successor()
    for look in backend.list_placements():
        backend.stop(look.placement_id, 0)
    assert backend.list_placements() == []
    wait_for(lambda: not jobs_of(slurm), 10, "a job stayed")
    with pytest.raises(Refused):
        backend.start(request)


def test_without_a_successor_nothing_runs_unpaid(settings, tmp_path, slurm, successor):  # noqa: F811
    request = ask(tmp_path, paid_seconds=4)
    killed_at("started", tmp_path / "state", settings, request)
    assert jobs_of(slurm)
    wait_for(lambda: not jobs_of(slurm), 20, "it runs unpaid")
    # Nobody heard it; its exit code tells.
    backend = successor()
    wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED, 10, "its end is not known")
    assert backend.look(request.placement_id).reason is Ending.UNPAID


def test_a_job_whose_record_was_lost_is_found_by_its_name(settings, tmp_path, slurm, successor):  # noqa: F811
    request = ask(tmp_path)
    killed_at("started", tmp_path / "state", settings, request)
    (tmp_path / f"state/slurm/placements/{request.placement_id}.json").unlink()
    backend = successor()
    # Refused, for nobody knows it, it may be gone before it is looked for.
    for look in backend.list_placements():
        assert look.placement_id == request.placement_id
        backend.stop(look.placement_id, 0)
    wait_for(lambda: not jobs_of(slurm), 10, "the job stayed")


def test_two_states_on_one_cluster_leave_each_other_alone(settings, tmp_path, slurm, successor):  # noqa: F811
    mine, theirs = successor(), SlurmBackend(tmp_path / "other", settings)
    try:
        request = ask(tmp_path)
        theirs.start(request)
        assert mine.list_placements() == []
        mine.stop(request.placement_id, 0)
        assert theirs.look(request.placement_id).state is LookState.RUNNING
    finally:
        nothing_left_of([theirs], slurm)
