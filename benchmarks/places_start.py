"""Start to first reply, and stop, on Docker and Slurm, beside a plain kernel and Gateway Provisioners, in one loop.

All of it below the server, at the backend's own door: what a place alone contributes. Every round has every kind once,
the odd ones backwards, so that what the machine does beside this falls on all of them.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks import places_common as common
from benchmarks.places_common import Place, PlainKernel, median_ms
from benchmarks.places_provisioners import DISTRIBUTED, DOCKER, NotHere, Provisioners, provisioners
from computehub_ext.testing.kernels import wait_for

ROUNDS = 9
SECONDS_MAX = 150.0
"""No round begins after this; the table says how many there were."""
DOCKER_GOAL, SLURM_GOAL, THEIRS_GOAL = 1.8, 1.35, 1.4
WARM_GOAL_MS, STOP_GOAL_MS = 30.0, 150.0
SETTLED_SECONDS_MAX = 10.0


class Loop:
    """Seconds by kind, and what starts and stops one of each kind."""

    def __init__(self, places: common.Places) -> None:
        self.places = places
        self.starts: dict[str, list[float]] = defaultdict(list)
        self.stops: dict[str, list[float]] = defaultdict(list)
        self.left: dict[str, list[str]] = {}
        self.at_once: dict[str, int] = defaultdict(int)
        self.cold = places.docker("cold")
        self.slurm = places.slurm("slurm", immediate=True)
        self.batch = places.slurm("batch")
        self.warm = places.docker("warm", warm_count=1, warm_replace_delay_seconds=common.REPLACE_SECONDS)
        self.local = places.local("local", standbys=1)
        self.kinds: dict[str, Callable[[], None]] = {
            "plain": self.plain,
            "docker": lambda: self.ours("docker", self.cold),
            "slurm": lambda: self.ours("slurm", self.slurm),
            "slurm batch": lambda: self.ours("slurm batch", self.batch),
            "docker warm": lambda: self.ours("docker warm", self.warm),
            "local warm": lambda: self.ours("local warm", self.local),
        }

    def ours(self, kind: str, place: Place) -> None:
        asked = place.request(str(self.places.work))
        started = time.perf_counter()
        placed = place.backend.start(asked)
        client = common.client_of(placed.connection_info)
        common.first_reply(client)
        self.starts[kind].append(time.perf_counter() - started)
        assert placed.warm is kind.endswith("warm"), kind
        common.closed(client)
        with common.timed(self.stops[kind]):
            place.backend.stop(asked.placement_id, common.GRACE_SECONDS)
        # A container of the next standby may be there already, and is nobody's.
        left = common.processes_of([asked.placement_id]) if placed.warm else place.left()
        self.at_once[kind] += len(left)

    def plain(self) -> None:
        started = time.perf_counter()
        kernel = PlainKernel(self.places.work)
        client = kernel.client()
        common.first_reply(client)
        self.starts["plain"].append(time.perf_counter() - started)
        common.closed(client)
        with common.timed(self.stops["plain"]):
            kernel.stop()

    def theirs(self, given: Provisioners, spec: str) -> None:
        self.starts[spec].append(given.start(spec))
        self.stops[spec].append(given.stop())

    def settled(self) -> None:
        """Wait until no standby is on its way, which would share the cores with what is timed."""
        standing = [self.warm.backend, self.local.backend]
        wait_for(lambda: all(each.warm_count == 1 for each in standing), message="no standby was ready")

    def run(self, rounds: int) -> None:
        end = time.monotonic() + SECONDS_MAX
        for number in range(rounds + 1):
            if time.monotonic() > end:
                break
            kinds = list(self.kinds.values())
            for kind in kinds if number % 2 else kinds[::-1]:
                self.settled()
                kind()
            if not number:  # the first round fills caches, and is nobody's figure
                self.starts.clear()
                self.stops.clear()
                self.at_once.clear()

    def look_what_is_left(self) -> None:
        self.warm.backend.close()
        places = {"docker": self.cold, "docker warm": self.warm, "slurm": self.slurm, "slurm batch": self.batch}
        for kind, place in places.items():
            with contextlib.suppress(AssertionError):
                wait_for(lambda place=place: not place.left(), SETTLED_SECONDS_MAX)  # type: ignore[misc]
            self.left[kind] = place.left()


def _measured(loop: Loop) -> tuple[str, list[int]]:
    """Return why Gateway Provisioners was not measured, or nothing; and what it left behind of each kind."""
    try:
        with provisioners(loop.places.engine) as given:
            for spec in (DOCKER, DISTRIBUTED):
                loop.kinds[spec] = lambda spec=spec: loop.theirs(given, spec)  # type: ignore[misc]
            left: list[int] = []
            pids: list[int] = []
            try:
                loop.run(ROUNDS)
            finally:
                for spec in (DOCKER, DISTRIBUTED):
                    found = common.processes_of(given.ids[spec])
                    pids += [int(each.split()[1]) for each in found]
                    left.append(len(found) + (len(given.containers()) if spec == DOCKER else 0))
                given.clear(pids)
            return "", left
    except NotHere as problem:
        for spec in (DOCKER, DISTRIBUTED):
            loop.kinds.pop(spec, None)
            loop.starts.pop(spec, None)
        loop.run(ROUNDS)
        return str(problem), []


def run() -> list[dict[str, Any]]:
    if lacks := common.lacking():
        return [common.not_measured("Kernels on Docker and Slurm: start and stop", " and ".join(lacks))]
    with common.Places() as places:
        loop = Loop(places)
        problem, theirs_left = _measured(loop)
        loop.look_what_is_left()
    return [*_starts(loop), *_theirs(loop, problem, theirs_left), *_stops(loop)]


def _size(loop: Loop) -> str:
    return f"median of {len(loop.starts['plain'])} in turns; {common.HERE}"


def _starts(loop: Loop) -> list[dict[str, Any]]:
    plain = median_ms(loop.starts["plain"])
    figures: list[dict[str, Any]] = []
    for kind, name, goal in (
        ("docker", "Docker, a new container", DOCKER_GOAL),
        ("slurm", "Slurm, a job by srun (`immediate`)", SLURM_GOAL),
        ("slurm batch", "Slurm, a batch job, which waits for Slurm's next second", SLURM_GOAL),
    ):
        ours = median_ms(loop.starts[kind])
        figures.append(
            {
                "name": f"{name}: start to first reply",
                "figure": ours,
                "yardstick": plain,
                "yardstick_name": "a plain local kernel",
                "unit": "ms",
                "goal": f"at most {goal}",
                "met": ours / plain <= goal,
                "size": _size(loop),
            }
        )
    warm, local = median_ms(loop.starts["docker warm"]), median_ms(loop.starts["local warm"])
    figures.append(
        {
            "name": "Docker, a standby container: start to first reply",
            "figure": warm,
            "yardstick": local,
            "yardstick_name": "a local standby",
            "unit": "ms",
            "goal": f"at most {WARM_GOAL_MS:.0f} ms later; here {warm - local:+.0f} ms",
            "met": warm - local <= WARM_GOAL_MS,
            "size": _size(loop),
        }
    )
    return figures


def _theirs(loop: Loop, problem: str, left: list[int]) -> list[dict[str, Any]]:
    goal = f"at most {1 / THEIRS_GOAL:.2f} (theirs {THEIRS_GOAL} times slower)"
    figures: list[dict[str, Any]] = []
    compared = (("docker", DOCKER, "Docker"), ("slurm", DISTRIBUTED, "Slurm; theirs distributed on localhost"))
    for number, (kind, spec, words) in enumerate(compared):
        name = f"{words}: start to first reply beside Gateway Provisioners 0.5"
        if problem:
            figures.append(common.not_measured(name, problem, goal=goal))
            continue
        ours, theirs = median_ms(loop.starts[kind]), median_ms(loop.starts[spec])
        stop = median_ms(loop.stops[spec])
        figures.append(
            {
                "name": name,
                "figure": ours,
                "yardstick": theirs,
                "yardstick_name": "Gateway Provisioners 0.5",
                "unit": "ms",
                "goal": goal,
                "met": theirs / ours >= THEIRS_GOAL,
                "size": f"{_size(loop)}; theirs stop in {stop:,.0f} ms and left {left[number]} behind",
            }
        )
    return figures


def _stops(loop: Loop) -> list[dict[str, Any]]:
    plain = median_ms(loop.stops["plain"])
    figures: list[dict[str, Any]] = []
    for kind, name in (
        ("docker", "Docker"),
        ("docker warm", "Docker, once a standby"),
        ("slurm", "Slurm, srun"),
        ("slurm batch", "Slurm, batch"),
    ):
        ours, left, at_once = median_ms(loop.stops[kind]), loop.left[kind], loop.at_once[kind]
        figures.append(
            {
                "name": f"{name}: stop",
                "figure": ours,
                "yardstick": plain,
                "yardstick_name": "a plain local kernel, shutdown_kernel(now=True)",
                "unit": "ms",
                "goal": f"under {STOP_GOAL_MS:.0f} ms, nothing left; here {len(left)} left",
                "met": ours < STOP_GOAL_MS and not left,
                "size": f"{_size(loop)}; containers, folders, jobs and processes counted: {at_once} at the moments of "
                f"return, {len(left)} within {SETTLED_SECONDS_MAX:.0f} s after the last",
            }
        )
    return figures


if __name__ == "__main__":
    for figure in run():
        print(figure)
