"""What can't be started is refused with a reason, and an engine that is gone or slow is told from both."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend, Mount
from computehub_ext.backends.docker.engine import Engine as EngineCalls
from computehub_ext.backends.model import Ending, LookState
from computehub_ext.core.errors import Invalid, NoCapacity, NotFound, Refused, SkipPlace, Unreachable
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.containers import Device, Place, containers_of, nothing_left_of, settings_for, state_folder

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


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image": "nobody/made:this"}, "computehub image pull nobody/made:this"),
        ({"python": "/opt/nothing/python"}, "does not have the Python"),
        ({"cpus": 4096.0}, "more cores"),
        ({"runtime": "nothing"}, "runtime"),
        ({"network": "nothing"}, "refused"),
        ({"user": "0:0"}, "run as root"),
    ],
)
def test_what_can_never_start_is_refused_and_leaves_nothing(
    place: Place, changes: dict[str, object], problem: str
) -> None:
    backend = place.backend(**changes)
    with pytest.raises(Refused, match=problem):
        backend.start(place.ask())
    assert containers_of(backend) == []
    assert backend.folders.keys() == set()


def test_a_folder_that_the_engine_lacks_is_refused(place: Place) -> None:
    backend = place.backend(mounts=(Mount(str(place.folder)), Mount("/nobody/made/this", "/data")))
    with pytest.raises(Refused, match="not on the engine's machine"):
        backend.start(place.ask())
    assert containers_of(backend) == []


def test_an_image_without_a_kernel_says_what_it_lacks(place: Place) -> None:
    backend = place.backend(python="/usr/bin/python3")
    request = place.ask()
    with pytest.raises(Refused, match="No module named"):
        backend.start(request)
    assert backend.look(request.placement_id).reason is Ending.CRASHED
    assert "No module named" in backend.log(request.placement_id)


def test_gpus_are_refused_by_an_engine_that_can_give_none(place: Place) -> None:
    backend = place.backend(gpus=True)
    request = place.ask(devices=(Device(0, "GPU-a"),), simulated=False)
    with pytest.raises(Refused, match="NVIDIA"):
        backend.start(request)
    assert containers_of(backend) == []


def test_a_full_place_has_no_capacity(place: Place) -> None:
    backend = place.backend(kernels_max=1)
    first = place.ask()
    backend.start(first)
    with pytest.raises(NoCapacity):
        backend.start(place.ask())
    backend.start(first)  # again, which is no second one
    backend.stop(first.placement_id, 0)
    backend.start(place.ask())


def test_a_kernel_that_does_not_listen_in_time_is_stopped(place: Place) -> None:
    backend = place.backend(start_seconds_max=0.0)
    with pytest.raises(SkipPlace, match="listen"):
        backend.start(place.ask())
    assert containers_of(backend) == []


def test_an_engine_that_is_not_there_is_unreachable(place: Place) -> None:
    backend = place.lost(f"unix://{place.state_dir}/nothing.sock")
    request = place.ask()
    later = datetime.now(UTC) + timedelta(hours=1)
    for attempt in (
        lambda: backend.start(request),
        lambda: backend.look(request.placement_id),
        lambda: backend.stop(request.placement_id),
        lambda: backend.renew(request.placement_id, later),
        lambda: backend.interrupt(request.placement_id),
        lambda: backend.log(request.placement_id),
        lambda: backend.list_placements(),
    ):
        with pytest.raises(Unreachable):
            attempt()
    assert not backend.health().ok
    assert "does not answer" in backend.health().message
    backend.close()


def test_an_engine_that_hangs_is_unreachable_in_time(place: Place) -> None:
    path = f"{place.state_dir}/slow.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        backend = place.lost(f"unix://{path}", engine_seconds_max=1)
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            backend.look("placement_x")
        assert time.monotonic() - begun < 5
        backend.close()


def test_an_answer_that_was_lost_leaves_one_kernel(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine made and started it, and nobody heard: the repeated start finds it."""
    backend = place.backend()
    for name in ("create", "start"):
        request = place.ask()
        real = getattr(EngineCalls, name)

        def deaf(*arguments: object, real: object = real) -> None:
            real(*arguments)  # type: ignore[operator]
            raise Unreachable("The line went dead.")

        with monkeypatch.context() as patch:
            patch.setattr(EngineCalls, name, deaf)
            with pytest.raises(Unreachable):
                backend.start(request)
        with KernelTalk(backend.start(request).connection_info) as kernel:
            assert kernel.run("print(1)") == "1\n"
        assert len(containers_of(backend)) == len(backend.folders.keys()) == 1
        backend.stop(request.placement_id, 0)
        assert len(containers_of(backend)) == len(backend.folders.keys()) == 0


def test_a_container_that_somebody_removed_has_ended(place: Place) -> None:
    backend = place.backend()
    request = place.ask()
    backend.start(request)
    with closing(place.engine.client()) as client:
        client.containers.get(backend.containers.name_of(request.placement_id)).remove(force=True)
    assert backend.list_placements() == []
    look = backend.look(request.placement_id)
    assert (look.state, look.reason) == (LookState.ENDED, Ending.SUPERVISOR_LOST)
    with pytest.raises(Refused, match="removed"):
        backend.start(request)
    assert backend.folders.keys() == set()


def test_a_killed_supervisor_takes_the_kernel_with_it(place: Place) -> None:
    backend = place.backend()
    request = place.ask()
    backend.start(request)
    with closing(place.engine.client()) as client:
        client.containers.get(backend.containers.name_of(request.placement_id)).kill()
    wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED)
    look = backend.look(request.placement_id)
    assert (look.reason, look.exit_code) == (Ending.SUPERVISOR_LOST, -9)
    assert containers_of(backend) == []


def test_a_supervisor_that_does_not_end_what_is_unpaid_is_helped(place: Place) -> None:
    """Nobody inside can stop it; should it hang all the same, whoever looks ends the container."""
    backend = place.backend()
    request = place.ask(paid_seconds=2)
    backend.start(request)
    with closing(place.engine.client()) as client:
        client.containers.get(backend.containers.name_of(request.placement_id)).pause()
    wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED, 15, "it ran on unpaid")
    assert backend.look(request.placement_id).reason is Ending.UNPAID
    assert containers_of(backend) == []


def test_what_resists_is_gone_soon_after_the_grace(place: Place) -> None:
    backend = place.backend()
    request = place.ask()
    code = "import signal, subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf')"
    with KernelTalk(backend.start(request).connection_info) as kernel:
        assert kernel.run(code) == "deaf\n"
        kernel.begin("while True: pass")
    begun = time.monotonic()
    backend.stop(request.placement_id, 0.5)
    assert 0.4 < time.monotonic() - begun < 3
    assert containers_of(backend) == []
    assert backend.folders.keys() == set()


def test_a_stop_waits_for_no_other_placement(place: Place) -> None:
    backend = place.backend()
    requests = [place.ask() for _ in range(4)]
    for request in requests:
        backend.start(request)
    threads = [threading.Thread(target=backend.stop, args=(request.placement_id,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.list_placements() == []
    assert backend.folders.keys() == set()


def test_what_a_kernel_wrote_outside_its_channels_is_kept(place: Place) -> None:
    backend = place.backend()
    request = place.ask()
    with KernelTalk(backend.start(request).connection_info) as kernel:
        kernel.run("import os; os.write(2, b'CUDA said something\\n')")
        assert "CUDA said something" in backend.log(request.placement_id)
        kernel.client.execute(f"os.kill(os.getpid(), {int(signal.SIGSEGV)})")
        wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED)
    assert "CUDA said something" in backend.log(request.placement_id)
    assert "CUDA said something" in place.backend().log(request.placement_id)
    with pytest.raises(NotFound):
        backend.log("placement_nobody")


def test_the_image_is_told_by_its_digest(place: Place) -> None:
    placed = place.backend().start(place.ask())
    with closing(place.engine.client()) as client:
        image = client.images.get(place.engine.image)
    assert placed.details["image"] == place.engine.image
    assert placed.details["image_digest"] in (image.id, *image.attrs["RepoDigests"])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image": ""}, "image"),
        ({"engine_url": "tcp://gpu7:2376"}, "tls_ca"),
        ({"engine_url": "https://gpu7"}, "engine_url"),
        ({"user": "root"}, "user"),
        ({"user": "1000"}, "user"),
        ({"network": "host"}, "network"),
        ({"network": "container:abc"}, "network"),
        ({"pids_max": 1}, "pids_max"),
        ({"memory_mib": 4}, "memory_mib"),
        ({"kernel_names": ()}, "kernel_names"),
        ({"sockets_folder": "here"}, "sockets_folder"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(
    engine: Engine, tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        replace(settings_for(engine, tmp_path), **changes)  # type: ignore[arg-type]
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("source", ["relative", "/up/../../etc", "/"])
def test_mounts_are_absolute_and_leave_the_container_its_own(source: str) -> None:
    with pytest.raises(Invalid):
        Mount(source)


def test_a_deep_state_folder_gets_its_sockets_elsewhere(place: Place) -> None:
    deep = place.state_dir / ("d" * 100)
    deep.mkdir()
    backend = DockerBackend(deep, settings_for(place.engine, place.folder))
    request = place.ask()
    with KernelTalk(backend.start(request).connection_info) as kernel:
        assert kernel.run("print(1)") == "1\n"
    backend.stop(request.placement_id, 0)
    backend.close()
    assert not backend.folders.disks[-1].exists()  # and nothing stays outside the place's own folder


def test_a_folder_for_sockets_may_be_chosen(place: Place) -> None:
    backend = place.backend(sockets_folder=f"{place.state_dir}/s")
    placed = backend.start(place.ask())
    assert placed.connection_info["ip"].startswith(f"{place.state_dir}/s/")
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print(1)") == "1\n"
