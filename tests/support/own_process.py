"""A whole control plane in a process of its own, with its books on a disk and a real place, that is killed at a step.

``Site`` is what one control plane after another is opened on. ``Site.killed`` lets one live in a new process, take a
lease as a notebook's server does, and kill itself with SIGKILL at one of ``STEPS``; ``Site.open`` opens its successor.

leased      the lease is committed, and whoever asked for it does not know yet
intended    the placement is committed, and nothing has been started
created     docker: the container is there and does not run yet; slurm: the job is submitted, its number is not noted
begun       docker: the container runs, nothing is noted of it; slurm: the job called back, its kernel is not started
placed      the kernel listens, and the books don't say so
noted       the placement is in the books as started, and nobody pays yet
paid        the first payment is committed, and the supervisor has not been told
running     it runs, is paid and has a variable
metered     a later payment is committed, and the supervisor has not been told
replacing   a restart ended the first kernel, and the second placement is committed and nothing was started for it
replaced    the second kernel listens, and the books don't say so
settled     the lease is settled, and its kernel still runs
ending      docker: the end is noted, and the container still there; slurm: the job was told, and Slurm not asked yet
stopped     the place has ended it, and the books don't say so
ended       the placement is in the books as ended, and the lease is still closing
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from computehub_ext.backends.docker import DockerBackend, DockerSettings
from computehub_ext.backends.docker.engine import Engine as DockerSocket
from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.backends.slurm.commands import Slurm
from computehub_ext.backends.slurm.desk import Desk
from computehub_ext.cli import main as command
from computehub_ext.client.control_plane import ControlPlane
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.settings import Settings
from computehub_ext.leases import service as leases
from computehub_ext.leases.model import Lease
from computehub_ext.leases.operator import LeaseOperator
from computehub_ext.plane import open_plane
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.agreement import placed_for_running
from tests.support.plane import browser

PLACE = "place"
MODEL = "T4"
TICK_SECONDS = 0.2
START = ("leased", "intended", "created", "begun", "placed", "noted", "paid", "running")
RESTART = ("replacing", "replaced")
STOP = ("settled", "ending", "stopped", "ended")
STEPS = (*START, "metered", *RESTART, *STOP)
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])  # what each imports takes longer than all that it then does


@dataclass(frozen=True)
class Site:
    """Where one control plane after another has its books, its folders and its place."""

    folder: Path
    cwd: Path
    place: DockerSettings | SlurmSettings
    rules: Settings = field(default_factory=Settings)

    @property
    def database(self) -> Path:
        return self.folder / "computehub.sqlite"

    @property
    def note(self) -> Path:
        """Where a process leaves what a notebook's server would know: the lease, and the way to its kernel."""
        return self.folder / "note"

    def open(self, rules: Settings | None = None) -> ControlPlane:
        """Open the control plane here, as a server does; it has the database's lock, or finds that another has it."""
        kind = "docker" if isinstance(self.place, DockerSettings) else "slurm"
        settings: Mapping[str, Any] = {each.name: getattr(self.place, each.name) for each in fields(self.place)}
        pool = {"name": "a pool", "place": PLACE, "model": MODEL, "devices": 4, "rate_credits_per_hour": 3.6}
        opened = open_plane(
            database_url=f"sqlite:///{self.database}",
            state_dir=self.folder / "state",
            settings=rules or self.rules,
            identity="person",
            simulated="never",
            warm_kernels=0,
            tick_seconds=TICK_SECONDS,
            places={PLACE: {"kind": kind, **settings}},
            pools=[{**pool, "simulated": True}],
        )
        assert isinstance(opened.plane, ControlPlane), "another control plane lives on this database"
        return opened.plane

    def killed(self, step: str, rules: Settings | None = None) -> dict[str, Any]:
        """Let a control plane live until a step of what it does for a notebook; return its note."""
        self.note.unlink(missing_ok=True)
        process = self._process(step, rules, None)
        process.join(60)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{step} was never reached")
        assert process.exitcode == -signal.SIGKILL, f"it ended with {process.exitcode} before {step}"
        return self.noted()

    def killed_after(self, seconds: float) -> tuple[dict[str, Any], bool]:
        """Let one start and stop, and kill it so long after it is open; tell as well whether it was done by then."""
        self.note.unlink(missing_ok=True)
        process, done = self._opened()
        was_done = done.wait(seconds)
        process.kill()
        process.join()
        return self.noted(), was_done

    def seconds(self) -> float:
        """How long a start and a stop take that nobody disturbs."""
        process, done = self._opened()
        began = time.monotonic()
        assert done.wait(60)
        took = time.monotonic() - began
        process.kill()
        process.join()
        return took

    def _opened(self) -> tuple[Any, Event]:
        """A process whose control plane is open and begins to start a kernel, and what it sets when it is done."""
        is_open, done = _PROCESSES.Event(), _PROCESSES.Event()
        process = self._process("", None, (is_open, done))
        wait_for(lambda: is_open.is_set() or not process.is_alive(), message="it did not open")
        assert is_open.is_set(), f"it ended with {process.exitcode}"
        return process, done

    def _process(self, step: str, rules: Settings | None, told: tuple[Event, Event] | None) -> Any:
        process = _PROCESSES.Process(target=_live, args=(self, step, rules or self.rules, told))
        main = sys.modules["__main__"]
        if not hasattr(main, "__spec__"):
            main.__spec__ = None  # xdist's workers have a main module that multiprocessing does not know
        process.start()
        return process

    def noted(self) -> dict[str, Any]:
        found: dict[str, Any] = pickle.loads(self.note.read_bytes()) if self.note.exists() else {}
        return found

    def lease(self, lease_id: str) -> Lease:
        """A lease as it stands in the books, while no control plane is there."""
        with Database(f"sqlite:///{self.database}") as database:
            return database.read(lambda unit: leases.find(unit, lease_id))

    def books(self) -> dict[str, list[str]]:
        """The placements of each running lease, after a look at whether all else is over and settled."""
        assert command(["verify", "--database", str(self.database)]) == 0
        with Database(f"sqlite:///{self.database}") as database:
            return database.read(placed_for_running)


class Hub:
    """A control plane of a site in this process. Its beat is the test's to give."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._runner = asyncio.Runner()
        self.plane = site.open()

    def close(self, *, end_leases: bool = False) -> None:
        self.call(self.plane.close(end_leases=end_leases))
        self._runner.close()

    def call(self, wanted: Awaitable[Any]) -> Any:
        async def wait() -> Any:
            return await wanted

        return self._runner.run(wait())

    def tick(self) -> None:
        self.plane._operator.tick()

    def lease(self, lease_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call(self.plane.lease_by_id(lease_id))
        return found

    def started(self, lease_id: str) -> dict[str, Any]:
        """A kernel on a lease, as a notebook's server starts it or starts it again."""
        key = os.urandom(8).hex().encode()
        found: dict[str, Any] = self.call(
            self.plane.start_placement(lease_id, str(self.site.cwd), "python3", key, "ada", {})
        )
        return found

    def running(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """A lease that runs, and what was placed for it."""
        kernel = f"kernel-{time.time_ns()}"
        lease = self.call(self.plane.take_lease(browser(), kernel, kernel, model=MODEL, duration_seconds=3600))
        placed = self.started(lease["id"])
        return self.call(self.plane.lease_running(lease["id"])), placed

    def returned(self, lease_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call(self.plane.release_lease(lease_id, "returned"))
        return found

    def balance(self) -> dict[str, int]:
        found: dict[str, int] = self.call(self.plane.me(browser()))["balance"]
        return found


def billed_to_the_second(lease: dict[str, Any]) -> None:
    """Fail unless a lease that is over costs the time from its start to its end, to the microcredit."""
    held = datetime.fromisoformat(lease["ended_at"]) - datetime.fromisoformat(lease["started_at"])
    assert lease["cost_microcredits"] == rated(lease["rate_microcredits_per_hour"], held, lease["count"])


# In the process


def _live(site: Site, step: str, rules: Settings, told: tuple[Event, Event] | None) -> None:
    plane = site.open(rules)
    _cut_at(step)  # not before: it mends what the one before was cut off at
    asyncio.run(_lead(site, step, plane, told))


async def _lead(site: Site, step: str, plane: ControlPlane, told: tuple[Event, Event] | None) -> None:
    note: dict[str, Any] = {}

    def noted(**known: Any) -> None:
        note.update(known)
        new = site.note.with_suffix(".new")
        new.write_bytes(pickle.dumps(note))
        new.replace(site.note)

    plane.start_ticking()
    if told is not None:
        told[0].set()
    kernel = f"kernel-{time.time_ns()}"
    lease = await plane.take_lease(browser(), kernel, kernel_id=kernel, model=MODEL, duration_seconds=3600)
    noted(lease_id=lease["id"])
    _reached("leased")

    async def start() -> None:
        key = os.urandom(8).hex().encode()
        placed = await plane.start_placement(lease["id"], str(site.cwd), "python3", key, "ada", {})
        noted(placement_id=placed["placement_id"], connection_info=placed["connection_info"])

    await start()
    await asyncio.to_thread(said, note["connection_info"], "x = 'kept'")
    _reached("noted")
    await plane.lease_running(lease["id"])
    _reached("running")
    if step == "metered":
        await asyncio.Event().wait()  # its own beat gets there
    if step in RESTART:
        await plane.end_placement(note["placement_id"])
        await start()
    await plane.release_lease(lease["id"], "returned")
    if told is not None:
        told[1].set()
        await asyncio.Event().wait()
    sys.exit(f"{step} was never reached")


def said(connection_info: dict[str, Any], cell: str) -> str:
    """What a cell prints."""
    with KernelTalk(connection_info) as kernel:
        return kernel.run(cell)


_wanted: list[str] = [""]
_times: dict[str, int] = {}
_NTH = {"replacing": ("intended", 2), "replaced": ("placed", 2), "metered": ("paid", 2)}


def _reached(moment: str) -> None:
    """Die here if this is the step, or the time of it, that was asked for."""
    _times[moment] = _times.get(moment, 0) + 1
    if moment and (moment, _times[moment]) == _NTH.get(_wanted[0], (_wanted[0], 1)):
        os.kill(os.getpid(), signal.SIGKILL)


def _cut_at(step: str) -> None:
    _wanted[0] = step
    for backend in (DockerBackend, SlurmBackend):
        _cut(backend, "start", before="intended", after="placed")
        _cut(backend, "stop", before="settled", after="stopped")
    _cut(DockerSocket, "create", after="created")
    _cut(DockerSocket, "start", after="begun")
    _cut(DockerSocket, "remove", before="ending")
    _cut(Slurm, "submit", after="created")
    _cut(Desk, "_note_place", before="begun")
    _cut(SlurmBackend, "_stop_by_slurm", before="ending")
    _cut(LeaseOperator, "_renew_at", before="paid")
    _cut(LeaseOperator, "_end_placement", after="ended")


def _cut(owner: type, method: str, *, before: str = "", after: str = "") -> None:
    real: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(real)
    def cut(*arguments: Any, **named: Any) -> Any:
        _reached(before)
        answer = real(*arguments, **named)
        _reached(after)
        return answer

    setattr(owner, method, cut)


SHORT = Settings(paid_horizon=timedelta(seconds=4))
"""Rules by which what nobody comes back for is over in seconds."""
