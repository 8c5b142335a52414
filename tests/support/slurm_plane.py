"""A control plane on a real Slurm and the real clock; as a program, one that is killed at a step of keeping a berth."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from computehub_ext.backends.model import LookState
from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.clock import SystemClock
from computehub_ext.core.database import Database
from computehub_ext.core.settings import Settings
from computehub_ext.pools.model import DeviceSpec, PoolSpec
from computehub_ext.testing.kernels import wait_for
from tests.support.plane import CREDIT, Plane, browser

RULES = Settings(no_show_grace=timedelta(minutes=5), paid_horizon=timedelta(minutes=2))
STEPS = ("row", "submitted", "noted", "ready")


class SlurmPlane(Plane):
    """As ``Plane``; ``restart`` closes the backend first, whose port its successor has."""

    def __init__(
        self, folder: Path, slurm: SlurmSettings, settings: Settings = RULES, model: str = "T4", devices: int = 4
    ) -> None:
        self.folder, self.slurm, self.model, self.devices = folder, slurm, model, devices
        self.slurm_backend: SlurmBackend | None = None
        database = Database(f"sqlite:///{folder / 'computehub.db'}")
        database.migrate()
        super().__init__(database, SystemClock(), settings)  # type: ignore[arg-type]

    def restart(self) -> None:
        if self.slurm_backend is not None:
            self.slurm_backend.close()
        self.slurm_backend = SlurmBackend(self.folder / "state", self.slurm)
        self.backend = self.slurm_backend  # type: ignore[assignment]
        self.plane = ControlPlane(
            database=self.database,
            backends={"slurm": self.slurm_backend},
            clock=self.clock,
            settings=self.settings,
            identity="person",
        )
        devices = tuple(DeviceSpec(i, f"GPU-{i}", self.model) for i in range(self.devices))
        self.plane.open([PoolSpec("cluster", "slurm", self.model, self.devices, CREDIT, True, 16_000, devices)])

    def close(self) -> None:
        super().close()
        assert self.slurm_backend is not None
        self.slurm_backend.close()
        self.database.close()

    def book_soon(self, seconds: float, *, who: str = "ada", minutes: int = 30, **wanted: Any) -> dict[str, Any]:
        """Book from so many seconds ahead."""
        starts_at = datetime.now(UTC) + timedelta(seconds=seconds)
        booked: dict[str, Any] = self.book(
            browser(who),
            self.key(),
            model=self.model,
            starts_at=starts_at.isoformat(),
            duration_seconds=minutes * 60,
            **wanted,
        )
        return booked

    def beat_until(self, what: Callable[[], Any], message: str, seconds_max: float = 20.0) -> Any:
        """Tick as the control plane does, until something is so."""

        def ticked() -> Any:
            self.tick()
            return what()

        return wait_for(ticked, seconds_max, message)

    def berths(self) -> dict[str, LookState]:
        assert self.slurm_backend is not None
        return {look.placement_id: look.state for look in self.slurm_backend.list_placements()}

    def ready(self, count: int = 1) -> list[str]:
        """Wait until so many berths are there, and return their ids."""
        self.beat_until(
            lambda: list(self.berths().values()) == [LookState.READY] * count, f"there are not {count} berths"
        )
        self.tick()
        return list(self.berths())

    def job_of(self, placement_id: str) -> str:
        assert self.slurm_backend is not None
        held = self.slurm_backend._records.get(placement_id)
        assert held is not None
        return held.record.job_id

    def wait_for_start(self, booking: dict[str, Any]) -> None:
        left = (datetime.fromisoformat(booking["starts_at"]) - datetime.now(UTC)).total_seconds()
        wait_for(lambda: datetime.now(UTC) >= datetime.fromisoformat(booking["starts_at"]), max(1.0, left + 1))

    def start_in(self, lease: dict[str, Any]) -> dict[str, Any]:
        started: dict[str, Any] = self.start_placement(
            lease["id"], cwd=str(self.folder), kernel_name="python3", session_key=b"key", username="ada", env={}
        )
        return started


def main() -> None:
    """Book, ask for the berth, and be killed: ``python -m tests.support.slurm_plane STEP FILE``."""
    from computehub_ext.backends.slurm.commands import Slurm
    from computehub_ext.backends.slurm.records import Records

    step, file = sys.argv[1:]
    folder, settings = pickle.loads(Path(file).read_bytes())
    hub = SlurmPlane(folder, settings)
    hub._keys = 1000  # its successor has keys of its own
    hub.book_soon(2)
    submit, save = Slurm.submit, Records.save

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watched_submit(self: Any, *given: Any, **named: Any) -> str:
        if step == "row":
            die()
        job = submit(self, *given, **named)
        if step == "submitted":
            die()
        return job

    def watched_save(self: Any, record: Any) -> None:
        save(self, record)
        if step == "noted" and record.job_id:
            die()

    Slurm.submit, Records.save = watched_submit, watched_save  # type: ignore[method-assign]
    hub.tick()
    hub.ready()
    die()


if __name__ == "__main__":
    main()
