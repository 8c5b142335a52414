"""kill -9 of a whole control plane on a real engine and a real cluster, and what its successor makes of it.

All control planes of a place here follow one another on the same books, so that each has in them all that those before
were cut off at.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.docker.recipe import OWNER_LABEL
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster, slurm_cluster
from tests.support import containers
from tests.support import slurm as jobs
from tests.support.own_process import PLACE, RESTART, SHORT, START, STOP, Hub, Site, billed_to_the_second, said

FIRST_SEED = int(os.environ.get("COMPUTEHUB_SEED", "20260302"))
GONE_SECONDS_MAX = 15.0
ENDS_WITHIN = timedelta(seconds=10)
"""After what is paid: a supervisor looks at its clock and ends its kernel, and a job then leaves the queue."""


class Place:
    """A site, and what really runs there for its books: no backend of ours is asked."""

    def __init__(self, site: Site, there: Callable[[bool], list[str]]) -> None:
        self.site, self._there = site, there

    def alive(self) -> list[str]:
        return self._there(True)

    def nothing_but(self, wanted: Iterable[str]) -> None:
        """Wait until these placements are there, and nothing else is: not even what is over."""
        wanted = sorted(wanted)
        wait_for(lambda: sorted(self._there(False)) == wanted, GONE_SECONDS_MAX, f"what is there is not {wanted}")

    @contextmanager
    def opened(self) -> Iterator[Hub]:
        """The next control plane here, in this process; it does nothing by itself but what its opening does."""
        successor = Hub(self.site)
        try:
            yield successor
        finally:
            successor.close()

    @cache  # noqa: B019 - there are two of these
    def seconds(self) -> float:
        """How long a start and a stop take that nobody disturbs."""
        return self.site.seconds()

    def agrees(self) -> list[str]:
        """Return the running leases, when for each of them one kernel runs and nothing else does."""
        placed = self.site.books()
        self.nothing_but(each for ids in placed.values() for each in ids)
        return list(placed)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    cwd = tmp_path_factory.mktemp("docker")
    with docker_engine() as engine, containers.state_folder() as folder:
        yield Place(
            Site(folder, cwd, containers.settings_for(engine, cwd)), lambda alive: _containers(engine, folder, alive)
        )
        assert _containers(engine, folder, alive=False) == []


def _containers(engine: Engine, folder: Path, alive: bool) -> list[str]:
    owner = (folder / f"state/{PLACE}/{PLACE}/backend_id").read_text()
    client = engine.client()
    try:
        found = client.containers.list(all=not alive, filters={"label": f"{OWNER_LABEL}={owner}"})
        return [each.name.removeprefix(f"computehub-{owner[:8]}-") for each in found]
    finally:
        client.close()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("slurm")
    with slurm_cluster() as cluster:
        yield Place(Site(folder, folder, jobs.settings_for(cluster)), lambda alive: _jobs(cluster, folder))
        assert _jobs(cluster, folder) == []


def _jobs(cluster: SlurmCluster, folder: Path) -> list[str]:
    owner = (folder / f"state/{PLACE}/slurm/owner").read_text()
    names = [line.split()[2] for line in jobs.jobs_of(cluster)]
    return [name.removeprefix(f"computehub-{owner}-") for name in names]


KINDS = ("docker", "slurm")
THE_SAME_EVERYWHERE = ("leased", "noted", "ended")
"""Steps at which no place is asked anything, so that one place shows them."""


def each(what: str, values: Iterable[object]) -> pytest.MarkDecorator:
    """Parametrize by place and step."""
    pairs = [(kind, value) for kind in KINDS for value in values]
    shown = [(kind, value) for kind, value in pairs if kind == KINDS[0] or value not in THE_SAME_EVERYWHERE]
    params = [pytest.param(kind, value, marks=pytest.mark.needs(kind)) for kind, value in shown]
    return pytest.mark.parametrize(("place", what), params, indirect=["place"])


@pytest.fixture(params=[pytest.param(kind, marks=pytest.mark.needs(kind)) for kind in KINDS])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@each("step", START)
def test_killed_in_a_start_it_was_not_charged_or_goes_on(place: Place, step: str) -> None:
    began = datetime.now(UTC)
    note = place.site.killed(step)
    with place.opened() as successor:
        is_paid = step in ("paid", "running")
        assert place.agrees() == ([note["lease_id"]] if is_paid else [])
        lease = successor.lease(note["lease_id"])
        if not is_paid:
            assert (lease["state"], lease["end_reason"], lease["started_at"]) == ("closed", "start_failed", None)
            assert (lease["cost_microcredits"], lease["held_microcredits"]) == (0, 0)
            return
        _goes_on(successor, note, lease)
        assert began < datetime.fromisoformat(lease["started_at"])
        ended = successor.returned(note["lease_id"])
        billed_to_the_second(ended)
        assert place.agrees() == []


def _goes_on(successor: Hub, note: dict[str, Any], lease: dict[str, Any]) -> None:
    assert lease["placement_id"] == note["placement_id"]
    assert said(note["connection_info"], "print(x)") == "kept\n"
    assert successor.call(successor.plane.look_placement(note["placement_id"]))["state"] == "running"
    successor.call(successor.plane.interrupt_placement(note["placement_id"]))
    assert said(note["connection_info"], "print(x)") == "kept\n"


@each("step", STOP)
def test_killed_in_a_stop_it_is_settled_as_it_was_and_finished(place: Place, step: str) -> None:
    note = place.site.killed(step)
    with place.opened() as successor:
        assert place.agrees() == []
        lease = successor.lease(note["lease_id"])
        assert (lease["state"], lease["end_reason"]) == ("closed", "returned")
        billed_to_the_second(lease)
        assert lease["cost_microcredits"] > 0
        balance = successor.balance()
        assert balance["posted_microcredits"] == balance["available_microcredits"]


@each("step", RESTART)
def test_killed_in_a_restart_the_kernel_can_be_restarted_again(place: Place, step: str) -> None:
    note = place.site.killed(step)
    with place.opened() as successor:
        place.nothing_but([])
        assert successor.lease(note["lease_id"])["state"] == "running"
        placed = successor.started(note["lease_id"])
        assert said(placed["connection_info"], "print('again')") == "again\n"
        assert place.agrees() == [note["lease_id"]]
        billed_to_the_second(successor.returned(note["lease_id"]))
        assert place.agrees() == []


def test_what_nobody_comes_back_for_ends_with_what_is_paid(place: Place) -> None:
    note = place.site.killed("metered", SHORT)
    paid_until = place.site.lease(note["lease_id"]).paid_until
    assert paid_until is not None
    wait_for(lambda: not place.alive(), 20, "it runs unpaid")
    assert datetime.now(UTC) < paid_until + ENDS_WITHIN
    with place.opened() as successor:
        lease = successor.lease(note["lease_id"])
        assert (lease["state"], lease["end_reason"]) == ("closed", "unpaid")
        assert datetime.fromisoformat(lease["ended_at"]) <= paid_until
        billed_to_the_second(lease)
        assert place.agrees() == []


@each("seed", range(FIRST_SEED, FIRST_SEED + 2))
def test_killed_at_any_moment_of_a_start_and_a_stop(place: Place, seed: int) -> None:
    place.site.killed_after(random.Random(seed).uniform(0.0, 1.1) * place.seconds())
    with place.opened() as successor:
        for lease_id in place.agrees():
            billed_to_the_second(successor.returned(lease_id))
        assert place.agrees() == []
