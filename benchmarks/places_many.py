"""Many kernels started and stopped, 8 at a time: none lost, none left, and the control process as large as before.

The backend has a process of its own, so that what is measured of it is its own; the kernels' clients are here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from benchmarks import places_common as common
from benchmarks.places_common import Place, Places, PlainKernel
from computehub_ext.backends.docker import DockerBackend, DockerSettings
from computehub_ext.backends.model import Backend, Placed, StartRequest
from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.testing.kernels import wait_for
from tests.support import containers

AT_A_TIME = 8
SLURM, DOCKER, PLAIN = 100, 30, 24
WARM_UP = 16
"""Before the first look at the process: its threads and connections are there then."""
GROWTH_GOAL = 1.1
LOOKS = 5
SETTLED_SECONDS_MAX = 15.0


class Control:
    """The control plane's part: one backend. It runs in a process of its own."""

    def __init__(self, settings: DockerSettings | SlurmSettings, state: Path) -> None:
        self._backend: Backend
        if isinstance(settings, DockerSettings):
            self._backend = DockerBackend(state, settings)
        else:
            self._backend = SlurmBackend(state, settings)

    def start(self, request: StartRequest) -> Placed:
        return self._backend.start(request)

    def stop(self, placement_id: str, grace_seconds: float) -> None:
        self._backend.stop(placement_id, grace_seconds)

    def held(self) -> list[str]:
        return common.held_by(self._backend) if isinstance(self._backend, DockerBackend) else []

    def listed(self) -> int:
        return len(self._backend.list_placements())

    def size(self) -> tuple[float, int]:
        """Return the process's resident MiB and its open files, less what its own threads open for a moment."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = []
        for _ in range(LOOKS):
            files.append(len(os.listdir("/proc/self/fd")))
            time.sleep(0.1)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, min(files)

    def close(self) -> None:
        self._backend.close()


class _Manager(BaseManager):
    pass


_Manager.register("Control", Control)


@dataclass
class Many:
    """What came of it."""

    count: int
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    before: tuple[float, int] = (0.0, 0)
    after: tuple[float, int] = (0.0, 0)


def _at_a_time(count: int, one: Callable[[], None], problems: list[str]) -> float:
    """Run it so often, so many at a time; the seconds of all."""

    def guarded(_: int) -> None:
        try:
            one()
        except Exception as problem:  # each that fails is counted, and the others go on
            problems.append(f"{type(problem).__name__}: {problem}")

    started = time.perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(guarded, range(count)))
    return time.perf_counter() - started


def _replied(connection_info: Any) -> None:
    client = common.client_of(connection_info)
    try:
        common.first_reply(client)
    finally:
        common.closed(client)


def _measured(settings: DockerSettings | SlurmSettings, places: Places, count: int) -> Many:
    work, is_docker = places.work, isinstance(settings, DockerSettings)
    many = Many(count)
    manager = _Manager(ctx=multiprocessing.get_context("spawn"))
    manager.start()
    place: Place | None = None
    try:
        control = manager.Control(settings, places.folder / "many")  # type: ignore[attr-defined]
        place = Place("many", control, control.held if is_docker else places.jobs)

        def one() -> None:
            asked = place.request(str(work))
            _replied(control.start(asked).connection_info)
            control.stop(asked.placement_id, common.GRACE_SECONDS)

        _at_a_time(WARM_UP, one, many.problems)
        many.before = control.size()
        many.seconds = _at_a_time(count, one, many.problems)
        many.after = control.size()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not place.left(), SETTLED_SECONDS_MAX)
        many.left = place.left()
        if listed := control.listed():
            many.left.append(f"{listed} placements")
    finally:
        if place is not None:
            place.stop_all()
            place.backend.close()
        manager.shutdown()
    return many


def _plain(work: Path) -> float:
    """Seconds of one plain kernel, of many at a time."""

    def one() -> None:
        kernel = PlainKernel(work)
        try:
            client = kernel.client()
            common.first_reply(client, kernel.is_alive)
            common.closed(client)
        finally:
            kernel.stop()

    problems: list[str] = []
    seconds = _at_a_time(PLAIN, one, problems)
    # Its ports are chosen, closed and opened again: of many at a time one may lose a port meanwhile, and ends.
    assert len(problems) <= PLAIN // 8, problems
    return seconds / (PLAIN - len(problems))


def run() -> list[dict[str, Any]]:
    if lacks := common.lacking():
        return [common.not_measured("Many kernels on Docker and Slurm", " and ".join(lacks))]
    with Places() as places:
        before = _plain(places.work)
        slurm = _measured(places.slurm_settings(), places, SLURM)
        docker = _measured(containers.settings_for(places.engine, places.work), places, DOCKER)
        plain = (before + _plain(places.work)) / 2
    return [*_figures("Slurm", slurm, plain), *_figures("Docker", docker, plain)]


def _figures(name: str, many: Many, plain: float) -> list[dict[str, Any]]:
    words = f"{name}: {many.count} kernels started and stopped, {AT_A_TIME} at a time"
    lost, left = len(many.problems), len(many.left)
    (memory, files), (memory_before, files_before) = many.after, many.before
    detail = "; ".join([*many.problems[:1], *many.left[:1]])
    return [
        {
            "name": words,
            "figure": many.seconds / many.count * 1000,
            "yardstick": plain * 1000,
            "yardstick_name": f"{PLAIN * 2} plain local kernels, {AT_A_TIME} at a time",
            "unit": "ms each",
            "goal": f"none lost, none left; here {lost} lost and {left} left",
            "met": not lost and not left,
            "size": "; ".join([*([detail] if detail else []), common.HERE]),
        },
        {
            "name": f"{name}: the control process after {many.count} kernels",
            "figure": memory,
            "yardstick": memory_before,
            "yardstick_name": f"after the first {WARM_UP}",
            "unit": "MiB",
            "goal": f"at most {GROWTH_GOAL}, no open file more; here {files - files_before:+d}",
            "met": memory <= GROWTH_GOAL * memory_before and files <= files_before,
            "size": f"{files} open files; {common.HERE}",
        },
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure)
