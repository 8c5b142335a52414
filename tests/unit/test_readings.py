"""The readings of leases' devices: an hour of them, in bounds, whatever a driver does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Forbidden, Invalid, NotFound
from computehub_ext.pools.model import Device
from computehub_ext.pools.readings import Reading
from computehub_ext.pools.sampler import KEPT, Sampler, Watched
from tests.support.plane import Plane, browser, kernel


def device(number: int) -> Device:
    return Device(f"dev_{number}", "pool_1", number, f"GPU-{number}", "a device", True)


def lease(*devices: Device, simulated: bool = False, lease_id: str = "lease_1") -> Watched:
    return Watched(lease_id, devices, simulated, 1024, True)


class Driver:
    """Reads like NVML; ``hangs`` and ``fails`` name devices that don't."""

    def __init__(self) -> None:
        self.hangs: dict[str, threading.Event] = {}
        self.fails: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, devices: list[Device], *, at: datetime) -> list[Reading]:
        (one,) = devices
        self.asked.append(one.id)
        if one.id in self.hangs:
            self.hangs[one.id].wait(20)
        if one.id in self.fails:
            raise OSError("the card fell off the bus")
        return [Reading(one.id, at, 42, 100, 1024, 55, 71.5, False)]


@pytest.fixture
def driver() -> Driver:
    return Driver()


def sampler(clock: ManualClock, driver: Driver, *watched: Watched, answer_seconds: float = 5.0) -> Sampler:
    return Sampler(lambda: list(watched), clock, answer_seconds=answer_seconds, read=driver)


def read_of(sampler: Sampler, lease_id: str = "lease_1") -> dict[str, int]:
    return {device.id: len(readings) for device, readings in sampler.of(lease_id)}


def test_an_hour_is_kept_and_no_more(clock: ManualClock, driver: Driver) -> None:
    readings = sampler(clock, driver, lease(device(0)))
    for _ in range(800):
        readings.sample()
        clock.advance(seconds=5)
    ((_, kept),) = readings.of("lease_1")
    assert len(kept) <= 720
    assert kept[0].at > clock.now() - KEPT
    assert kept[-1].at == clock.now() - timedelta(seconds=5)


def test_a_lease_that_is_over_is_forgotten_after_an_hour(clock: ManualClock, driver: Driver) -> None:
    watched = [lease(device(0), simulated=True)]
    readings = Sampler(lambda: watched, clock, read=driver)
    readings.sample()
    watched.clear()
    clock.advance(minutes=59)
    readings.sample()
    assert read_of(readings) == {"dev_0": 1}
    clock.advance(minutes=2)
    readings.sample()
    assert readings.of("lease_1") == []
    assert readings._kept == {}


def test_the_next_lease_on_a_device_sees_nothing_of_the_one_before(clock: ManualClock, driver: Driver) -> None:
    watched = [lease(device(0))]
    readings = Sampler(lambda: watched, clock, read=driver)
    readings.sample()
    watched[0] = lease(device(0), lease_id="lease_2")
    clock.advance(seconds=5)
    readings.sample()
    assert (read_of(readings), read_of(readings, "lease_2")) == ({"dev_0": 1}, {"dev_0": 1})
    ((_, (first,)),), ((_, (second,)),) = readings.of("lease_1"), readings.of("lease_2")
    assert first.at < second.at


def test_a_device_that_fails_leaves_the_others_alone(clock: ManualClock, driver: Driver) -> None:
    driver.fails = {"dev_0"}
    readings = sampler(clock, driver, lease(device(0), device(1)))
    readings.sample()
    assert read_of(readings) == {"dev_1": 1}
    driver.fails = set()
    readings.sample()
    assert read_of(readings) == {"dev_0": 1, "dev_1": 2}


def test_a_device_that_hangs_is_asked_once_and_leaves_the_others_alone(clock: ManualClock, driver: Driver) -> None:
    hanging = driver.hangs["dev_0"] = threading.Event()
    readings = sampler(clock, driver, lease(device(0), device(1)), answer_seconds=0.2)
    for _ in range(3):
        readings.sample()
    assert driver.asked.count("dev_0") == 1
    assert read_of(readings) == {"dev_1": 3}
    hanging.set()


def test_a_round_that_fails_is_not_the_last(clock: ManualClock, driver: Driver) -> None:
    rounds, fine = [], threading.Event()

    def watched() -> list[Watched]:
        rounds.append(1)
        if len(rounds) == 1:
            raise RuntimeError("the database was busy")
        fine.set()
        return []

    readings = Sampler(watched, clock, interval_seconds=0.01, read=driver)
    readings.start()
    assert fine.wait(20)
    readings.close()


# -- through the facade ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def sampled(hub: Plane, times: int) -> None:
    for _ in range(times):
        hub.plane._sampler.sample()
        hub.clock.advance(seconds=5)


def test_the_payer_sees_the_devices_of_a_running_lease(hub: Plane) -> None:
    lease = hub.take(count=2)
    assert hub.readings(browser(), lease["id"])["devices"] == []
    hub.start(lease)
    sampled(hub, 1)
    assert [d["readings"] for d in hub.readings(browser(), lease["id"])["devices"]] == [[], []], "it runs not yet"
    hub.lease_running(lease["id"])
    sampled(hub, 3)
    seen = hub.readings(browser(), lease["id"])
    assert (seen["lease_id"], seen["simulated"], seen["interval_seconds"]) == (lease["id"], True, 5.0)
    assert [(d["index"], d["memory_total_mib"], len(d["readings"])) for d in seen["devices"]] == [
        (0, 16_000, 3),
        (1, 16_000, 3),
    ]
    times = [reading["at"] for reading in seen["devices"][0]["readings"]]
    assert times == sorted(times)
    later = hub.readings(browser(), lease["id"], since=times[1])
    assert [[r["at"] for r in d["readings"]] for d in later["devices"]] == [times[2:], times[2:]]
    hub.release_lease(lease["id"], "returned")
    assert hub.readings(browser(), lease["id"])["devices"] == seen["devices"], "what was seen is there for its hour"


def test_nobody_else_does_but_an_admin_and_who_is_at_the_notebook(hub: Plane) -> None:
    lease: dict[str, Any] = hub.running()
    sampled(hub, 1)
    with pytest.raises(NotFound):
        hub.readings(browser("bob"), lease["id"])
    with pytest.raises(NotFound):
        hub.readings(kernel("k2", "bob"), lease["id"], at_its_notebook=True)
    with pytest.raises(Forbidden):
        hub.readings(kernel("k2"), lease["id"], at_its_notebook=True)
    assert hub.readings(browser("bob"), lease["id"], at_its_notebook=True)["devices"][0]["readings"]
    assert hub.readings(kernel(), lease["id"])["devices"][0]["readings"]


def test_a_since_that_is_no_time_is_named(hub: Plane) -> None:
    lease = hub.running()
    for wrong in ("yesterday", "2026-03-02T09:00:00"):
        with pytest.raises(Invalid) as refusal:
            hub.readings(browser(), lease["id"], since=wrong)
        assert refusal.value.details["field"] == "since"
