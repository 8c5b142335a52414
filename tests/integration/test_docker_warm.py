"""Standby containers: bounded, replaced, taken by whom they suit, and gone when nobody wants them."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.capabilities import WarmPool
from computehub_ext.backends.docker import Mount
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.architecture.source import ROOT
from tests.support.containers import Place, containers_of, nothing_left_of, settings_for, state_folder

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[Place]:
    with state_folder() as state_dir:
        place = Place(engine, state_dir, tmp_path)
        yield place
        nothing_left_of(place.backends)


_HOLDER = """
import pathlib, pickle, sys, time
from computehub_ext.backends.docker import DockerBackend
from tests.support.containers import containers_of
backend = DockerBackend(*pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()))
while backend.warm_count == 0:
    time.sleep(0.02)
print(*containers_of(backend), flush=True)
time.sleep(600)
"""
"""A control plane with a standby, for a test to kill."""


def test_one_that_was_taken_is_the_placements_by_name_and_replaced(place: Place) -> None:
    backend = place.backend(warm_count=1, warm_replace_delay_seconds=0)
    assert isinstance(backend, WarmPool)
    wait_for(lambda: backend.warm_count == 1)
    (standby,) = containers_of(backend)
    request = place.ask(env={"COURSE": "physics"})
    placed = backend.start(request)
    assert placed.warm
    assert placed.details["image_digest"]
    found = backend.engine.inspect(backend.containers.name_of(request.placement_id))
    assert found is not None
    assert found.labels["computehub.placement"] == standby.partition(".")[2]
    with KernelTalk(placed.connection_info) as kernel:
        told = kernel.run("import os; print(os.environ['COURSE'], os.environ['USER'], os.environ['COMPUTEHUB_SOCKET'])")
    assert told.split() == ["physics", "ada", f"{placed.meeting_dir}/server.sock"]
    wait_for(lambda: backend.warm_count == 1, message="it was not replaced")
    assert len(containers_of(backend)) == 2
    backend.prepare(0)
    wait_for(lambda: len(containers_of(backend)) == 1, message="it was not let go of")
    assert [look.placement_id for look in backend.list_placements()] == [request.placement_id]


def test_a_control_plane_that_was_killed_leaves_standbys_that_end_by_themselves(place: Place) -> None:
    settings = settings_for(place.engine, place.folder, warm_count=1, warm_lifetime_seconds=2.0)
    file = place.folder / "what"
    file.write_bytes(pickle.dumps((place.state_dir, settings)))
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as killed:
        try:
            assert killed.stdout is not None, "it is a pipe"
            name = killed.stdout.readline().strip()
        finally:
            killed.kill()
    with closing(place.engine.client()) as client:
        standby = client.containers.get(name)
        assert standby.status == "running", "it ended with the control plane, and not by itself"

        def is_over() -> bool:
            standby.reload()
            return bool(standby.status == "exited")

        wait_for(is_over, 10, "it lives on")
    successor = place.backend()
    assert successor.list_placements() == []
    assert containers_of(successor) == []
    assert successor.folders.keys() == set()


def test_too_much_memory_drops_one(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    backend = place.backend(warm_count=1, warm_memory_mib_max=1)
    wait_for(lambda: "too much memory" in caplog.text, 40)
    wait_for(lambda: containers_of(backend) == [])


def _personal(*targets: str, fixed: str = "/data") -> tuple[Mount, ...]:
    return (*(Mount(f"/srv/{{username}}/{number}", target) for number, target in enumerate(targets)), Mount("/", fixed))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"user": "account"}, "each person's own account"),
        ({"mounts": _personal("/{username}")}, "would hide"),
        ({"mounts": _personal("/run/{username}")}, "would hide /run/computehub"),
        ({"mounts": _personal("/opt/{username}")}, "would hide /opt/kernel/bin/python"),
        ({"mounts": _personal("/data/{username}")}, "lies in another mount, /data"),
        ({"mounts": _personal("/home/{username}", "/home/course/{username}")}, "personal folders at /home and below"),
        ({"mounts": _personal("/home/{username}", "/home/{username}/work")}, "something else is mounted in"),
        ({"mounts": _personal("/home/jovyan", fixed="/home/jovyan/shared")}, "something else is mounted in"),
    ],
)
def test_what_depends_on_the_person_is_not_kept_ready(
    place: Place, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], why: str
) -> None:
    backend = place.backend(warm_count=1, **changes)
    assert backend.warm_count == 0
    assert backend._warm._thread is None
    assert why in caplog.text
