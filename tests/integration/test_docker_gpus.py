"""GPUs are asked for by their ids; a stand-in for NVIDIA's hook tells what each container was to see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.containers import Device, Place, containers_of, nothing_left_of, state_folder
from tests.support.standing import pool

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine(gpu_hook=True) as engine:
        yield engine


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[Place]:
    with state_folder() as state_dir:
        place = Place(engine, state_dir, tmp_path)
        yield place
        nothing_left_of(place.backends)


def _asked_for(place: Place, container: str) -> list[str]:
    return [
        each["NVIDIA_VISIBLE_DEVICES"]
        for each in place.engine.gpu_requests()
        if each["container"].startswith(container)
    ]


def test_the_leased_gpus_and_no_others_are_asked_for(place: Place) -> None:
    backend = place.backend(gpus=True)
    request = place.ask(devices=(Device(0, "GPU-a"), Device(3, "GPU-d")), simulated=False)
    placed = backend.start(request)
    with KernelTalk(placed.connection_info) as kernel:
        names = "'CUDA_VISIBLE_DEVICES', 'NVIDIA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER'"
        seen = kernel.run(f"import os; print(*[os.environ[name] for name in ({names})])")
    assert seen.split() == ["GPU-a,GPU-d", "GPU-a,GPU-d", "PCI_BUS_ID"]
    assert _asked_for(place, placed.details["container"]) == ["GPU-a,GPU-d"]


def test_gpus_that_are_named_by_number_count_from_0_in_their_container(place: Place) -> None:
    backend = place.backend(gpus=True)
    placed = backend.start(place.ask(devices=(Device(0, "2"), Device(1, "3")), simulated=False))
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])") == "0,1\n"
    assert _asked_for(place, placed.details["container"]) == ["2,3"]


@pytest.mark.parametrize("simulated", [True, False])
def test_without_a_leased_gpu_none_is_asked_for(place: Place, simulated: bool) -> None:
    """Images of CUDA say "all", which would be obeyed by an engine whose default runtime is NVIDIA's."""
    backend = place.backend(gpus=True, environment={"NVIDIA_VISIBLE_DEVICES": "all"})
    placed = backend.start(place.ask(devices=(Device(0, "SIM-0"),) if simulated else (), simulated=simulated))
    with KernelTalk(placed.connection_info) as kernel:
        seen = kernel.run(
            "import os; print(os.environ['NVIDIA_VISIBLE_DEVICES'], [os.environ['CUDA_VISIBLE_DEVICES']])"
        )
    assert seen.strip() == "void ['']"
    assert _asked_for(place, placed.details["container"]) == []


def test_a_standby_is_for_one_gpu(place: Place) -> None:
    backend = place.backend(gpus=True, warm_count=2)
    backend.prepare([pool("T4", "GPU-a", "GPU-b", "GPU-c")])
    wait_for(lambda: backend.warm_count == 2)
    placed = backend.start(place.ask(devices=(Device(1, "GPU-b"),), simulated=False))
    assert placed.warm
    assert _asked_for(place, placed.details["container"]) == ["GPU-b"]
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])") == "GPU-b\n"
    assert not backend.start(place.ask(devices=(Device(2, "GPU-c"),), simulated=False)).warm
    assert not backend.start(place.ask(devices=(Device(0, "GPU-a"), Device(1, "GPU-b")), simulated=False)).warm


def _standbys(backend: DockerBackend) -> set[str]:
    """The GPUs for which kernels are kept ready."""
    names = [name for name in containers_of(backend) if backend.containers.placement_of(name) is None]
    found = [backend.engine.inspect(name) for name in names]
    return {each.labels["computehub.devices"] for each in found if each is not None}


def test_standbys_are_for_gpus_that_are_free(place: Place) -> None:
    """Those that the next leases get: first the first, and never one that is somebody's."""
    backend = place.backend(gpus=True, warm_count={"A100": 1}, warm_replace_delay_seconds=0)
    backend.prepare([pool("A100", "GPU-a", "GPU-b", "GPU-c", "GPU-d"), pool("T4", "GPU-t")])
    wait_for(lambda: backend.warm_count == 1)
    assert _standbys(backend) == {"GPU-a"}
    both = place.ask(model="A100", devices=(Device(0, "GPU-a"), Device(1, "GPU-b")), simulated=False)
    assert not backend.start(both).warm
    wait_for(lambda: _standbys(backend) == {"GPU-c"}, message="it is for a GPU that nobody gets")
    wait_for(lambda: backend.warm_count == 1)
    third = place.ask(model="A100", devices=(Device(2, "GPU-c"),), simulated=False)
    assert backend.start(third).warm
    wait_for(lambda: _standbys(backend) == {"GPU-d"}, message="it was not replaced by one for the last that is free")
    backend.stop(both.placement_id)
    wait_for(lambda: _standbys(backend) == {"GPU-a"}, message="it is not for the GPU that the next lease gets")
    assert not backend.start(place.ask(model="T4", devices=(Device(0, "GPU-t"),), simulated=False)).warm


def test_a_successor_knows_which_gpus_are_somebody_s(place: Place) -> None:
    first = place.backend(gpus=True)
    first.start(place.ask(model="A100", devices=(Device(0, "GPU-a"),), simulated=False))
    first.close()
    backend = place.backend(gpus=True, warm_count=1)
    backend.prepare([pool("A100", "GPU-a", "GPU-b")])
    wait_for(lambda: backend.warm_count == 1)
    assert _standbys(backend) == {"GPU-b"}
