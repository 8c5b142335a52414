"""What an administrator writes of places and pools: read, or refused with its name and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from computehub_ext.places import Misconfigured, backends, check, pool_specs, read
from computehub_ext.testing.fake_backend import FakeBackend

POOL = {"name": "big", "place": "local", "model": "A100", "devices": 2, "rate_credits_per_hour": 4}


@dataclass(frozen=True)
class Sample:
    image: str
    cpus: float = 1.0
    pids_max: int = 512
    mounts: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network: Literal["none", "bridge"] = "none"
    uid: int | None = None
    gpus: bool = True

    def __post_init__(self) -> None:
        if self.cpus <= 0:
            raise ValueError("cpus must be above zero")


def test_what_is_written_becomes_the_settings() -> None:
    written = {"image": "i", "cpus": 2, "mounts": ["/a", "/b"], "environment": {"A": "1"}, "uid": 1000, "gpus": False}
    assert read(Sample, written, "place p") == Sample("i", 2.0, 512, ("/a", "/b"), {"A": "1"}, "none", 1000, False)
    assert read(Sample, {"image": "i", "uid": None}, "place p").uid is None


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "place p: image must be set."),
        ({"image": 3}, "place p: image must be a text, and is 3."),
        ({"image": "i", "cpu": 2}, "place p: there is no setting cpu; did you mean cpus?"),
        ({"image": "i", "zzz": 2}, "Known are image, cpus"),
        ({"image": "i", "cpus": "two"}, "place p: cpus must be a number, and is 'two'."),
        ({"image": "i", "cpus": True}, "cpus must be a number"),
        ({"image": "i", "cpus": 0}, "place p: cpus must be above zero."),
        ({"image": "i", "pids_max": 1.5}, "pids_max must be a whole number"),
        ({"image": "i", "mounts": "/home"}, "mounts must be a list of a text"),
        ({"image": "i", "mounts": [1]}, "mounts must be a list of a text, and is [1]"),
        ({"image": "i", "environment": ["A=1"]}, "environment must be a dict of a text to a text"),
        ({"image": "i", "network": "host"}, "network must be one of 'none', 'bridge'"),
        ({"image": "i", "uid": "me"}, "uid must be a whole number or None"),
        ({"image": "i", "gpus": 1}, "gpus must be True or False"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(written: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        read(Sample, written, "place p")
    assert said in str(problem.value)


def test_a_pool_counts_its_devices_or_names_them() -> None:
    counted, named = pool_specs([POOL, {**POOL, "name": "other", "devices": ["GPU-1", "GPU-2", "GPU-3"]}])
    assert [device.uuid for device in counted.devices] == ["0", "1"]
    assert (named.count, named.devices[2].uuid, named.devices[2].index) == (3, "GPU-3", 2)
    assert counted.rate_microcredits_per_hour == 4_000_000
    assert (counted.simulated, counted.backend) == (False, "local")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"devices": 0}, "devices is how many"),
        ({"devices": ["a", "a"]}, "different ids"),
        ({"devices": "GPU-1"}, "devices must be a whole number or a list of a text"),
        ({"rate_credits_per_hour": -1}, "rate_credits_per_hour is between"),
        ({"name": ""}, "neither is empty"),
        ({"place": "cluster"}, "there is no place cluster; there is local"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        check({}, [{**POOL, **changed}])
    assert said in str(problem.value)


@pytest.mark.parametrize(
    ("name", "place", "said"),
    [
        ("gpu", {}, "kind must be one of docker, slurm"),
        ("gpu", {"kind": "kubernetes"}, "and is 'kubernetes'"),
        ("gpu", {"kind": ["docker"]}, "and is ['docker']"),
        ("local", {"kind": "docker"}, "not local"),
        ("new", {"kind": "docker"}, "or new"),
        ("a b", {"kind": "docker"}, "letters, digits and dashes"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused(name: str, place: dict[str, Any], said: str) -> None:
    with pytest.raises(Misconfigured) as problem:
        check({name: place}, [])
    assert said in str(problem.value)


CLUSTER = {"kind": "slurm", "gres": {"A100": "gpu:a100:{count}", "CPU": ""}}


@pytest.mark.parametrize(
    ("place", "pool"),
    [
        (CLUSTER, {}),
        (CLUSTER, {"model": "CPU"}),
        (CLUSTER, {"model": "T4", "simulated": True}),
        ({"kind": "slurm", "default_gres": "gpu:{count}"}, {"model": "T4"}),
        ({"kind": "docker", "image": "i", "memory_mib": 4096}, {"model": "T4"}),
    ],
)
def test_a_pool_of_a_cluster_has_what_slurm_calls_its_model(place: dict[str, Any], pool: dict[str, Any]) -> None:
    check({"cluster": place}, [{**POOL, "place": "cluster", **pool}])


@pytest.mark.parametrize("place", [CLUSTER, {"kind": "slurm"}])
def test_a_pool_whose_jobs_would_ask_for_no_gpu_is_refused(place: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as problem:
        check({"cluster": place}, [{**POOL, "place": "cluster", "model": "Tesla T4"}])
    said = str(problem.value)
    assert said.startswith("pool big: place cluster: gres does not say what Slurm calls Tesla T4")
    assert '{"Tesla T4": "gpu:tesla_t4:{count}"}, or {"Tesla T4": ""} for a pool without GPUs' in said


def test_two_pools_of_one_name_are_refused() -> None:
    with pytest.raises(Misconfigured, match="two pools"):
        check({}, [POOL, POOL])


DOCKER = {"kind": "docker", "image": "i", "memory_mib": 4096}
FAR = {"engine_url": "ssh://me@gpu7", "user": "1000:100", "network": "bridge"}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"devices": ["GPU-1", "GPU-2"]}, {"devices": ["GPU-3", "GPU-2"]}, "GPU-2"),
        ({"devices": ["GPU-1"]}, {"devices": ["GPU-1"], "model": "T4"}, "GPU-1"),
        ({"devices": ["3", "1"]}, {"devices": 2}, "1"),
        ({"devices": ["GPU-1"]}, {"devices": ["GPU-1"], "place": "another"}, "GPU-1"),
        ({"devices": ["GPU-1"]}, {"devices": ["GPU-1"], "place": "local"}, "GPU-1"),
        ({"devices": ["GPU-1"], "place": "far"}, {"devices": ["GPU-1"], "place": "far"}, "GPU-1"),
        ({"devices": ["GPU-1"]}, {"devices": ["GPU-2"]}, ""),
        ({"devices": ["GPU-1"]}, {"devices": ["GPU-1"], "simulated": True}, ""),
        ({"devices": ["0"]}, {"devices": ["0"], "place": "far"}, ""),
        ({"devices": 2}, {"devices": 2, "place": "none"}, ""),
        ({"devices": 8, "place": "cluster"}, {"devices": 8, "place": "cluster"}, ""),
    ],
)
def test_a_gpu_is_in_one_pool(first: dict[str, Any], second: dict[str, Any], said: str) -> None:
    """Whoever leases it in one would share it with whoever leases it in the other, and both would pay."""
    places: dict[str, dict[str, Any]] = {
        "gpu": DOCKER,
        "another": {**DOCKER, "engine_url": "unix:///run/docker.sock"},
        "none": {**DOCKER, "gpus": False},
        "far": {**DOCKER, **FAR},
        "cluster": {"kind": "slurm", "gres": {"A100": "gpu:a100:{count}"}},
    }
    pools = [{**POOL, "place": "gpu", **first}, {**POOL, "place": "gpu", "name": "other", **second}]
    if not said:
        check(places, pools)
        return
    with pytest.raises(Misconfigured) as problem:
        check(places, pools)
    assert f"pool other: devices: {said} is in pool big already" in str(problem.value)


class OtherBackend(FakeBackend):
    """As another package would offer it."""

    settings_class = Sample

    def __init__(self, state_dir: Path, settings: Sample, name: str) -> None:
        self.state_dir, self.settings, self.name = state_dir, settings, name


class NotQuite:
    settings_class = Sample


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a package on the path that offers these kinds, as installing it would."""

    def install(package: str, **kinds: str) -> None:
        info = tmp_path / package / f"{package}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        lines = [f"{kind} = {value}" for kind, value in kinds.items()]
        (info / "entry_points.txt").write_text("\n".join(["[computehub.backends]", *lines]))
        monkeypatch.syspath_prepend(str(info.parent))

    return install


def test_another_package_adds_a_kind_of_place(install: Callable[..., None], tmp_path: Path) -> None:
    install("others", cloud=f"{__name__}:OtherBackend", docker=f"{__name__}:NotQuite")
    places = {"far-away": {"kind": "cloud", "image": "i", "cpus": 2}}
    check(places, [{**POOL, "place": "far-away"}])
    made = backends(places, tmp_path)["far-away"]
    assert isinstance(made, OtherBackend)
    assert (made.name, made.state_dir, made.settings) == ("far-away", tmp_path / "far-away", Sample("i", 2.0))
    # Nobody takes the place of one of ours.
    with pytest.raises(Misconfigured, match="image must be a text"):
        check({"far-away": {"kind": "cloud", "image": 3}}, [])
    check({"engine": {"kind": "docker", "image": "i", "memory_mib": 4096}}, [])


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ({"clouds": f"{__name__}:OtherBackend"}, "kind must be one of docker, slurm, clouds, and is 'cloud'"),
        ({"cloud": "nothing_of_this_name:Backend"}, "the kind cloud can't be loaded from nothing_of_this_name:Backend"),
        ({"cloud": f"{__name__}:Nothing"}, "has no attribute 'Nothing'"),
        ({"cloud": f"{__name__}:NotQuite"}, "is no Backend with a dataclass as its settings_class"),
        ({"cloud": "computehub_ext.testing.fake_backend:FakeBackend"}, "is no Backend with a dataclass"),
    ],
)
def test_a_kind_that_can_not_be_used_is_told_when_the_server_starts(
    install: Callable[..., None], offered: dict[str, str], said: str
) -> None:
    install("others", **offered)
    with pytest.raises(Misconfigured) as problem:
        check({"p": {"kind": "cloud", "image": "i"}}, [])
    assert said in str(problem.value)


def test_two_packages_can_not_offer_one_kind(install: Callable[..., None]) -> None:
    install("these", cloud=f"{__name__}:OtherBackend")
    install("those", cloud=f"{__name__}:NotQuite")
    with pytest.raises(Misconfigured, match="two packages offer the kind cloud"):
        check({"p": {"kind": "cloud", "image": "i"}}, [])
