"""Pools: what is found, how it is named and priced, what becomes of it when it is gone. NVML is a small stand-in."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import Invalid, NotFound
from computehub_ext.core.writer import Request
from computehub_ext.pools import nvml, readings, service, simulated
from computehub_ext.pools.model import Device, DeviceSpec, Pool, PoolSpec, of_model

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GIB = 2**30


# -- NVML --------------------------------------------------------------------------------------------------------------


class NVMLError(Exception):
    pass


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


@dataclass
class Gpu:
    name: str
    uuid: str
    gib: float
    mig: bool | None = None
    slices: dict[int, Gpu] = field(default_factory=dict)
    dead: bool = False
    mute: bool = False


class FakeNvml:
    """As much of ``pynvml`` as we use, refusing like the real one: nothing works before its start or after its end."""

    NVMLError, NVMLError_LibraryNotFound = NVMLError, NVMLError_LibraryNotFound
    NVMLError_NotSupported, NVMLError_NotFound = NVMLError_NotSupported, NVMLError_NotFound
    NVML_DEVICE_MIG_ENABLE = 1
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, *gpus: Gpu, failure: NVMLError | None = None) -> None:
        self.gpus, self.failure, self.started = gpus, failure, 0

    def nvmlInit(self) -> None:
        if self.failure:
            raise self.failure
        self.started += 1

    def nvmlShutdown(self) -> None:
        assert self.started > 0
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        assert self.started
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        if self.gpus[index].dead:
            raise NVMLError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        assert self.started
        every = [*self.gpus, *(part for gpu in self.gpus for part in gpu.slices.values())]
        for gpu in every:
            if gpu.uuid == uuid and not gpu.dead:
                return gpu
        raise NVMLError_NotFound

    def nvmlDeviceGetName(self, gpu: Gpu) -> str:
        if gpu.mute:
            raise NVMLError("Unknown Error")
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> bytes:
        return gpu.uuid.encode()

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu) -> Any:
        return SimpleNamespace(total=int(gpu.gib * GIB), used=GIB, free=int((gpu.gib - 1) * GIB))

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        if gpu.mig is None:
            raise NVMLError_NotSupported
        return [int(gpu.mig), int(gpu.mig)]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, place: int) -> Gpu:
        if place not in gpu.slices:
            raise NVMLError_NotFound
        return gpu.slices[place]

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> Any:
        if "MIG" in gpu.name:
            raise NVMLError_NotSupported
        return SimpleNamespace(gpu=42, memory=7)

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> int:
        if "MIG" in gpu.name:
            raise NVMLError_NotSupported
        return 71_500

    def nvmlDeviceGetTemperatureV(self, gpu: Gpu, sensor: int) -> int:
        raise NVMLError("the driver is older than this call")

    def nvmlDeviceGetTemperature(self, gpu: Gpu, sensor: int) -> int:
        return 55


def a100(number: int, **more: Any) -> Gpu:
    return Gpu("NVIDIA A100-SXM4-80GB", f"GPU-{number}", 79.99 + number / 100, mig=False, **more)


def mig_a100() -> Gpu:
    parts = {place: Gpu("NVIDIA A100-SXM4-80GB MIG 1g.10gb", f"MIG-{place}", 9.5) for place in (0, 2, 5)}
    parts[6] = Gpu("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "MIG-6", 39.25)
    return Gpu("NVIDIA A100-SXM4-80GB", "GPU-9", 80, mig=True, slices=parts)


def test_like_devices_make_a_pool():
    library = FakeNvml(
        Gpu("NVIDIA A100-SXM4-80GB", "GPU-0", 79.25, mig=False),
        Gpu("Tesla T4", "GPU-1", 15, mig=None),
        Gpu("NVIDIA A100-SXM4-80GB", "GPU-2", 79.50, mig=False),
    )
    found = nvml.discover(library)
    assert [(spec.model, spec.count, spec.simulated, spec.backend) for spec in found] == [
        ("A100-80GB", 2, False, "local"),
        ("T4", 1, False, "local"),
    ]
    assert found[0].devices == (
        DeviceSpec(0, "GPU-0", "NVIDIA A100-SXM4-80GB"),
        DeviceSpec(2, "GPU-2", "NVIDIA A100-SXM4-80GB"),
    )
    assert [spec.rate_microcredits_per_hour for spec in found] == [4_000_000, 1_000_000]
    assert [spec.memory_mib for spec in found] == [79 * 1024, 15 * 1024]
    assert library.started == 0, "NVML is shut down again"


def test_slices_are_models_of_their_own_and_their_device_is_not_offered():
    found = nvml.discover(FakeNvml(mig_a100(), a100(0)))
    assert [(spec.model, spec.count) for spec in found] == [("A100-1g.10gb", 3), ("A100-3g.40gb", 1), ("A100-80GB", 1)]
    assert [device.uuid for device in found[0].devices] == ["MIG-0", "MIG-2", "MIG-5"]
    assert [spec.rate_microcredits_per_hour for spec in found] == [800_000, 2_400_000, 4_000_000]


def test_mig_mode_without_slices_offers_nothing():
    assert nvml.discover(FakeNvml(Gpu("NVIDIA A100-SXM4-80GB", "GPU-0", 80, mig=True))) == []


def test_a_lost_device_does_not_hide_the_others(caplog: pytest.LogCaptureFixture):
    found = nvml.discover(FakeNvml(a100(0, dead=True), a100(1), a100(2, mute=True)))
    assert [[device.uuid for device in spec.devices] for spec in found] == [["GPU-1"]]
    assert "GPU 0 does not answer" in caplog.text
    assert "GPU 2 does not answer" in caplog.text


def test_same_name_with_other_memory_is_another_model():
    found = nvml.discover(FakeNvml(Gpu("NVIDIA X1", "GPU-0", 24), Gpu("NVIDIA X1", "GPU-1", 48)))
    assert [spec.model for spec in found] == ["X1-24GB", "X1-48GB"]
    assert [spec.rate_microcredits_per_hour for spec in found] == [1_500_000, 3_000_000]


def test_the_administrators_rates_win():
    assert (
        nvml.discover(FakeNvml(a100(0)), rates_microcredits_per_hour={"A100-80GB": 7})[0].rate_microcredits_per_hour
        == 7
    )


def test_no_driver_is_no_device_and_no_noise(caplog: pytest.LogCaptureFixture):
    assert nvml.discover(FakeNvml(failure=NVMLError_LibraryNotFound())) == []
    assert caplog.text == ""
    assert nvml.discover(FakeNvml(failure=NVMLError("Driver/library version mismatch"))) == []
    assert "version mismatch" in caplog.text


def test_no_package_is_no_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.discover() == []


def test_importing_us_imports_no_nvml():
    code = "import sys, computehub_ext.pools.nvml, computehub_ext.pools.readings; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-80GB"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H100 NVL", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA A10G", "A10G"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100-16GB"),
        ("Tesla P100-PCIE-16GB", "P100-16GB"),
        ("NVIDIA GeForce RTX 3090", "RTX-3090"),
        ("NVIDIA GeForce RTX 4080 SUPER", "RTX-4080-SUPER"),
        ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("Quadro RTX 8000", "Quadro-RTX-8000"),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100-1g.10gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "A100-1g.5gb+me"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100-3g.40gb"),
        ("NVIDIA", "GPU"),
    ],
)
def test_short_model(name: str, model: str) -> None:
    assert nvml.short_model(name) == model


@pytest.mark.parametrize(
    ("model", "memory_mib", "credits"),
    [
        ("T4", 15_360, 1), ("A100-40GB", 40_960, 4), ("A100-80GB", 81_920, 4), ("H100-80GB", 81_920, 8),
        ("A100-1g.10gb", 9_728, 0.8), ("A100-7g.80gb", 81_920, 4), ("H100-2g.20gb", 20_000, 3.2),
        ("RTX-A6000", 49_152, 2), ("RTX-6000-Ada", 49_152, 2.8), ("Unheard-Of", 32_768, 2), ("Tiny", 512, 0.1),
    ],
)  # fmt: skip
def test_default_rate(model: str, memory_mib: int, credits: float) -> None:
    assert nvml.default_rate(model, memory_mib) == credits * MICROCREDITS_PER_CREDIT


# -- readings ----------------------------------------------------------------------------------------------------------


def device(uuid: str) -> Device:
    return Device(f"dev_{uuid}", "pool_1", 0, uuid, "a device", True)


def test_readings_of_a_device_a_slice_and_one_that_is_gone():
    library = FakeNvml(a100(0), mig_a100())
    whole, part = readings.read_nvml([device("GPU-0"), device("gone"), device("MIG-2")], at=NOW, nvml=library)
    assert whole == readings.Reading("dev_GPU-0", NOW, 42, 1024, 81_909, 55, 71.5, False)
    assert (part.device_id, part.utilisation_percent, part.power_watts) == ("dev_MIG-2", None, None)
    assert library.started == 0


def test_readings_without_a_driver():
    assert readings.read_nvml([device("GPU-0")], at=NOW, nvml=FakeNvml(failure=NVMLError_LibraryNotFound())) == []


def test_simulated_readings_say_so_and_repeat():
    one = readings.read_simulated([device("SIM-T4-0")], at=NOW, memory_mib=15_360)
    assert one == readings.read_simulated([device("SIM-T4-0")], at=NOW, memory_mib=15_360)
    assert one[0].simulated
    assert 0 <= one[0].utilisation_percent <= 100
    assert 0 <= one[0].memory_used_mib <= one[0].memory_total_mib
    idle = readings.read_simulated([device("SIM-T4-0")], at=NOW, memory_mib=15_360, busy=False)
    assert (idle[0].utilisation_percent, idle[0].memory_used_mib) == (0, 0)


# -- names that people type --------------------------------------------------------------------------------------------


def pool(model: str, rate: int = 1) -> Pool:
    return Pool(f"pool_{model}_{rate}", f"local {model} {rate}", "local", model, 1, rate, False, 1024)


POOLS = [
    pool("A100-80GB", 5),
    pool("A100-40GB", 4),
    pool("A100-1g.10gb", 1),
    pool("T4", 1),
    pool("T4", 2),
    pool("RTX-3090"),
]


@pytest.mark.parametrize(
    ("typed", "models"),
    [
        ("T4", ["T4", "T4"]),
        ("t4", ["T4", "T4"]),
        ("a100-40gb", ["A100-40GB"]),
        ("A100", ["A100-40GB", "A100-80GB"]),
        ("A100-1g.10gb", ["A100-1g.10gb"]),
        ("a100 1g.10gb", ["A100-1g.10gb"]),
        ("rtx 3090", ["RTX-3090"]),
        ("RTX_3090", ["RTX-3090"]),
    ],
)
def test_models_as_typed(typed: str, models: list[str]) -> None:
    found = of_model(POOLS, typed)
    assert [each.model for each in found] == models
    assert [each.rate_microcredits_per_hour for each in found] == sorted(
        each.rate_microcredits_per_hour for each in found
    )


@pytest.mark.parametrize(
    ("typed", "closest"), [("T5", "T4"), ("rtx3090", "RTX-3090"), ("A100-40", "A100-40GB"), ("xyzzy", None), ("", None)]
)
def test_unknown_models_are_answered_with_the_known(typed: str, closest: str | None) -> None:
    with pytest.raises(Invalid) as refusal:
        of_model(POOLS, typed)
    assert refusal.value.details == {
        "field": "model",
        "known": ["A100-1g.10gb", "RTX-3090", "T4", "A100-40GB", "A100-80GB"],
        "closest": closest,
    }
    assert (f"did you mean {closest}?" in refusal.value.message) is (closest is not None)


# -- the books ---------------------------------------------------------------------------------------------------------


def spec(name: str, *uuids: str, rate: int = 1_000_000) -> PoolSpec:
    devices = tuple(DeviceSpec(number, uuid, "a device") for number, uuid in enumerate(uuids))
    return PoolSpec(name, "local", "T4", len(uuids), rate, False, 15_360, devices)


def test_simulated_pools_are_called_simulated(in_unit: Callable[..., Any], database: Database):
    in_unit(service.sync_pools, specs=simulated.specs(), now=NOW)
    found = database.read(service.list_pools)
    assert [(each.model, each.count, each.rate_microcredits_per_hour, each.simulated) for each in found] == [
        ("A100-1g.10gb", 7, 800_000, True),
        ("T4", 2, 1_000_000, True),
        ("V100", 1, 2_500_000, True),
        ("A100", 1, 4_000_000, True),
    ]
    for each in found:
        assert each.name.startswith("simulated")
        names = {device.name for device in database.read(lambda unit, each=each: service.devices_of(unit, each.id))}
        assert names == {f"Simulated {each.model}"}


def test_sync_keeps_ids_follows_changes_and_retires(in_unit: Callable[..., Any], database: Database):
    [first, second] = in_unit(service.sync_pools, specs=[spec("one", "a", "b"), spec("two", "c")], now=NOW)
    old = database.read(lambda unit: service.devices_of(unit, first.id))

    [again] = in_unit(service.sync_pools, specs=[spec("one", "b", "d", rate=5)], now=NOW)
    assert (again.id, again.count, again.rate_microcredits_per_hour) == (first.id, 2, 5)
    assert database.read(service.list_pools) == [again]
    now = database.read(lambda unit: service.devices_of(unit, first.id))
    assert {(device.uuid, device.healthy) for device in now} == {("a", False), ("b", True), ("d", True)}
    assert {device.id for device in old} < {device.id for device in now}, "a lease can still name its device"
    assert database.read(lambda unit: service.get_pool(unit, second.id)).count == 0
    assert not any(device.healthy for device in database.read(lambda unit: service.devices_of(unit, second.id)))

    [back, _] = in_unit(service.sync_pools, specs=[spec("two", "c"), spec("one", "a", "b")], now=NOW)
    assert (back.id, back.count) == (second.id, 1)
    assert database.read(lambda unit: service.devices_of(unit, second.id))[0].healthy


def test_requests_of_one_commit_see_the_pools_as_they_are(database: Database, monkeypatch: pytest.MonkeyPatch):
    """What one of them read serves the next, until a pool is changed or the change is taken back."""
    monkeypatch.setattr("computehub_ext.core.writer.GROUP_SECONDS", 60)
    [one] = database.write(lambda unit: service.sync_pools(unit, specs=[spec("one", "a")], now=NOW))
    all_there = threading.Event()
    told: list[Request] = []

    def offered(unit: Unit) -> list[tuple[str, int]]:
        assert service.get_pool(unit, one.id).name == "one"
        return [(pool.name, pool.rate_microcredits_per_hour) for pool in service.list_pools(unit)]

    def change(unit: Unit, specs: list[PoolSpec]) -> list[tuple[str, int]]:
        service.sync_pools(unit, specs=specs, now=NOW)
        return offered(unit)

    def refused(unit: Unit) -> None:
        assert change(unit, []) == []
        raise Invalid("its own fault")

    dearer, two = spec("one", "a", rate=7), spec("two", "b", rate=9)
    work = [lambda unit: all_there.wait(10), offered, refused, offered, lambda unit: change(unit, [dearer]), offered,
            lambda unit: change(unit, [two]), offered]  # fmt: skip
    assert database._writer is not None
    database._writer.submit_soon([Request(each, told.append) for each in work])
    all_there.set()
    assert database.write(offered) == [("two", 9)]
    cheap, dear, other = [("one", 1_000_000)], [("one", 7)], [("two", 9)]
    assert [request.result for request in told] == [True, cheap, None, cheap, dear, dear, other, other]


@pytest.mark.parametrize("database", ["file"], indirect=True)
def test_the_next_commit_sees_what_another_process_did_to_the_pools(database: Database):
    database.write(lambda unit: service.sync_pools(unit, specs=[spec("one", "a")], now=NOW))
    assert [pool.name for pool in database.write(service.list_pools)] == ["one"]
    with Database(str(database.url)) as other:
        other.write(lambda unit: service.sync_pools(unit, specs=[], now=NOW))
    assert database.write(service.list_pools) == []


def test_unknown_pool(database: Database):
    with pytest.raises(NotFound):
        database.read(lambda unit: service.get_pool(unit, "pool_none"))
    with pytest.raises(Invalid, match="no pool is known"):
        database.read(lambda unit: service.pools_of_model(unit, "T4"))
