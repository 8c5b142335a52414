"""kill -9 of the control plane at each step of a start or a stop: nothing is lost, and nothing left over."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend, DockerSettings
from computehub_ext.backends.model import Ending, LookState, StartRequest
from computehub_ext.core.errors import Refused
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.architecture.source import ROOT
from tests.support.containers import containers_of, nothing_left_of, settings_for, state_folder
from tests.support.processes import ask

pytestmark = pytest.mark.needs("docker")

COLD = ["before:fill", "after:fill", "before:create", "after:create", "before:start", "after:start", "before:record"]
WARM = ["before:rename", "after:rename", "before:adopt", "after:adopt", "before:record"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


class Scene:
    def __init__(self, engine: Engine, state_dir: Path, folder: Path, warm_count: int = 0) -> None:
        self.state_dir, self.folder = state_dir, folder
        self.settings = settings_for(engine, folder)
        self.warm_settings = settings_for(engine, folder, warm_count=warm_count)
        self.request = ask(folder)

    def die(self, step: str, settings: DockerSettings, what: str = "start") -> None:
        file = self.state_dir / "request"
        file.write_bytes(pickle.dumps((self.state_dir, settings, self.request)))
        command = [sys.executable, "-m", "tests.support.dying", step, what, str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr

    def successor(self) -> DockerBackend:
        return DockerBackend(self.state_dir, self.settings)


@pytest.fixture
def scene(engine: Engine, tmp_path: Path) -> Iterator[Scene]:
    with state_folder() as state_dir:
        scene = Scene(engine, state_dir, tmp_path, warm_count=1)
        yield scene
        nothing_left_of([scene.successor()])


def _reconcile(backend: DockerBackend) -> None:
    """As the reconciler does for what no open lease owns."""
    for look in backend.list_placements():
        backend.stop(look.placement_id, 0)
    backend.list_placements()


@pytest.mark.parametrize("step", COLD)
def test_killed_in_a_cold_start_it_leaves_nothing(scene: Scene, step: str) -> None:
    scene.die(step, scene.settings)
    successor = scene.successor()
    _reconcile(successor)
    assert containers_of(successor) == []
    assert successor.folders.keys() == set()
    successor.close()


@pytest.mark.parametrize("step", COLD)
def test_the_start_that_was_cut_off_can_be_repeated(scene: Scene, step: str) -> None:
    scene.die(step, scene.settings)
    successor = scene.successor()
    _runs(successor, scene.request)
    assert [look.placement_id for look in successor.list_placements()] == [scene.request.placement_id]
    assert len(containers_of(successor)) == 1
    assert len(successor.folders.keys()) == 1
    successor.stop(scene.request.placement_id, 0)
    successor.close()


@pytest.mark.slow
@pytest.mark.parametrize("step", WARM)
def test_a_takeover_that_was_cut_off_can_be_repeated(scene: Scene, step: str) -> None:
    scene.die(step, scene.warm_settings)
    successor = scene.successor()
    _runs(successor, scene.request)
    # Where the standby had not got the placement's name, it was nobody's, and went when the successor looked around.
    assert [look.placement_id for look in successor.list_placements()] == [scene.request.placement_id]
    assert len(containers_of(successor)) == 1
    successor.stop(scene.request.placement_id, 0)
    successor.close()


@pytest.mark.slow
@pytest.mark.parametrize("step", WARM)
def test_killed_in_a_takeover_it_leaves_nothing(scene: Scene, step: str) -> None:
    scene.die(step, scene.warm_settings)
    successor = scene.successor()
    _reconcile(successor)
    assert containers_of(successor) == []
    assert successor.folders.keys() == set()
    successor.close()


@pytest.mark.parametrize("step", ["after:record", "before:remove", "after:remove", "after:clear"])
def test_a_stop_that_was_cut_off_is_finished_by_whoever_looks(scene: Scene, step: str) -> None:
    scene.die(step, scene.settings, "stop")
    successor = scene.successor()
    look = successor.look(scene.request.placement_id)
    assert (look.state, look.reason) == (LookState.ENDED, Ending.STOPPED)
    assert containers_of(successor) == []
    assert successor.folders.keys() == set()
    with pytest.raises(Refused):
        successor.start(scene.request)
    successor.close()


def test_what_nobody_comes_back_for_ends_with_its_paid_time(scene: Scene) -> None:
    """The container's own supervisor ends it; no control plane is there to do it."""
    scene.request = ask(scene.folder, paid_seconds=6)
    scene.die("after:record", scene.settings)
    watcher = scene.successor()
    name = watcher.containers.name_of(scene.request.placement_id)
    wait_for(lambda: not watcher.engine.inspect(name).is_alive, 12, "it ran on unpaid")
    look = watcher.look(scene.request.placement_id)
    assert (look.state, look.reason) == (LookState.ENDED, Ending.UNPAID)
    watcher.close()


def _runs(backend: DockerBackend, request: StartRequest) -> None:
    with KernelTalk(backend.start(request).connection_info) as kernel:
        assert kernel.run("print(6 * 7)") == "42\n"
