"""A whole control plane on a database of the test's, a fake place and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.settings import Settings
from computehub_ext.ledger import service as ledger
from computehub_ext.pools.model import DeviceSpec, PoolSpec
from computehub_ext.testing.fake_backend import FakeBackend, FakePlace

CREDIT = 1_000_000


def spec(model: str, count: int, rate: int) -> PoolSpec:
    devices = tuple(DeviceSpec(i, f"fake-{model}-{i}", model) for i in range(count))
    return PoolSpec(f"fake {model}", "fake", model, count, rate, True, 16_000, devices)


SPECS = [spec("T4", 2, CREDIT), spec("V100", 1, 5 * CREDIT // 2)]


def browser(username: str = "ada") -> Actor:
    return Actor(username, username.title(), Via.BROWSER)


def kernel(kernel_id: str = "k1", username: str = "ada") -> Actor:
    return Actor(username, username.title(), Via.KERNEL, kernel_id=kernel_id)


class Plane:
    """Drives a ``ControlPlane`` from synchronous tests. ``restart`` is a crash: no goodbye, same database and place."""

    def __init__(self, database: Database, clock: ManualClock, settings: Settings | None = None) -> None:
        self.database, self.clock = database, clock
        self.settings = settings or Settings()
        self.place = FakePlace()
        self._runner = asyncio.Runner()
        self._keys = 0
        self.restart()

    def restart(self) -> None:
        self.backend = FakeBackend(self.clock, self.place)
        self.plane = ControlPlane(
            database=self.database,
            backends={"fake": self.backend},
            clock=self.clock,
            settings=self.settings,
            identity="person",
        )
        self.plane.open(SPECS)

    def close(self) -> None:
        assert self.database.read(ledger.verify) == []
        self._runner.close()

    def run(self, call: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await call

        return self._runner.run(wait())

    def key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.run(getattr(self.plane, name)(*args, **kwargs))

    def tick(self, **advance: float) -> None:
        if advance:
            self.clock.advance(**advance)
        self.plane._operator.tick()

    def pass_time(self, **time: float) -> None:
        """Let time go by as it does for a living control plane: with a beat a minute."""
        end = self.clock.now() + timedelta(**time)
        while (left := end - self.clock.now()) > timedelta(0):
            self.tick(seconds=min(60.0, left.total_seconds()))

    def take(self, actor: Actor | None = None, kernel_id: str = "k1", **wanted: Any) -> dict[str, Any]:
        wanted = {"model": "T4", "duration_seconds": 7200, **wanted}
        return self.take_lease(actor or browser(), self.key(), kernel_id=kernel_id, **wanted)

    def start(self, lease: dict[str, Any]) -> dict[str, Any]:
        return self.start_placement(
            lease["id"], cwd="/", kernel_name="python3", session_key=b"k", username="ada", env={}
        )

    def running(self, actor: Actor | None = None, kernel_id: str = "k1", **wanted: Any) -> dict[str, Any]:
        lease = self.take(actor, kernel_id, **wanted)
        self.start(lease)
        return self.lease_running(lease["id"])

    def again(self, lease: dict[str, Any]) -> dict[str, Any]:
        return self.lease_by_id(lease["id"])

    def money(self, username: str = "ada") -> tuple[float, float]:
        """Posted and available credits."""
        balance = self.me(browser(username))["balance"]
        return balance["posted_microcredits"] / CREDIT, balance["available_microcredits"] / CREDIT

    def in_place(self) -> int:
        """How many kernels run in the place."""
        return len(self.backend.list_placements())

    def free(self, model: str = "T4") -> int:
        offers = self.offers(browser())["items"]
        return next(o["free_now"] for o in offers if o["model"] == model)


def hours(number: float) -> timedelta:
    return timedelta(hours=number)
