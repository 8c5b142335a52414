"""Standby containers: bounded, replaced, taken by whom they suit, and gone when nobody wants them."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import time
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
from tests.support.standing import pool
backend = DockerBackend(*pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()))
backend.prepare([pool()])
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
    backend.prepare([])
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


def test_when_nobody_comes_they_go_and_a_look_at_a_move_brings_them_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = place.backend(warm_count=1, warm_replace_delay_seconds=0)
    wait_for(lambda: backend.warm_count == 1)
    later = 0.0
    monkeypatch.setattr(backend._warm, "_clock", lambda: time.monotonic() + later)

    def half_an_hour() -> None:
        nonlocal later
        there = len(backend.list_placements())
        later += backend.settings.warm_idle_seconds
        backend._warm._wake.set()
        wait_for(lambda: len(containers_of(backend)) == there, 10, "it was kept though nobody came")
        backend.expect("V100")  # which no pool here has

    half_an_hour()
    wait_for(lambda: backend.folders.keys() == set(), 10, "its folder was kept")
    request = place.ask()
    assert not backend.start(request).warm, "who comes first has to wait for a start"
    wait_for(lambda: backend.warm_count == 1, message="a start was no sign of need")
    half_an_hour()
    backend.expect("T4")
    wait_for(lambda: backend.warm_count == 1, message="a look was no sign of need")
    assert backend.start(place.ask()).warm


def test_no_more_are_started_than_their_memory_has_room_for(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A second has room beside the first, and a third has not."""
    caplog.set_level(logging.WARNING)
    backend = place.backend(warm_count=1)
    wait_for(lambda: backend.warm_count == 1)
    each = backend.engine.memory_bytes(containers_of(backend)[0]) / 2**20
    backend.close()
    assert 20 < each < 100
    backend = place.backend(warm_count=3, warm_memory_mib_max=int(each * 2.5))
    wait_for(lambda: "2 kernels ready and no more" in caplog.text, 20)
    assert backend.warm_count == len(containers_of(backend)) == 2
