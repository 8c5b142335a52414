"""What a lease will probably cost: its rate, and what this notebook's earlier leases of this person came to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from computehub_ext.core.actor import Actor
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.reports import estimate as estimates
from tests.support.plane import CREDIT, Plane, browser

MINUTE, HOUR = 60, 3600


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


def ran(hub: Plane, minutes: float, path: str = "train.ipynb", who: Actor | None = None, **wanted: Any) -> None:
    """A lease of that notebook's from its start to its end."""
    lease = hub.running(who, notebook_path=path, **wanted)
    hub.pass_time(minutes=minutes)
    assert hub.release_lease(lease["id"], "returned")["state"] == "closed"


def estimate(hub: Plane, seconds: int = 2 * HOUR, path: str | None = "train.ipynb", **asked: Any) -> dict[str, Any]:
    asked = {"model": "T4", **asked}
    return hub.estimate(browser(), duration_seconds=seconds, notebook_path=path, **asked)


def usual(told: dict[str, Any]) -> tuple[int, int | None, int | None]:
    return told["runs"], told["usual_duration_seconds"], told["usual_microcredits"]


def test_a_notebook_without_a_past_has_only_its_most(hub: Plane) -> None:
    told = estimate(hub)
    assert (told["most_microcredits"], *usual(told)) == (2 * CREDIT, 0, None, None)


def test_earlier_leases_say_how_long_and_how_dear(hub: Plane) -> None:
    ran(hub, 30)
    assert usual(estimate(hub)) == (1, 30 * MINUTE, CREDIT // 2)
    ran(hub, 12)
    assert usual(estimate(hub)) == (2, 21 * MINUTE, 21 * CREDIT // 60), "the middle of two lies between them"
    ran(hub, 90)
    told = estimate(hub)
    assert usual(told) == (3, 30 * MINUTE, CREDIT // 2), "one long run does not move the middle"
    assert told["most_microcredits"] == 2 * CREDIT


def test_no_more_than_the_asked_time_is_charged(hub: Plane) -> None:
    for minutes in (30, 45, 60):
        ran(hub, minutes)
    told = estimate(hub, 15 * MINUTE)
    assert usual(told) == (3, 45 * MINUTE, CREDIT // 4)
    assert told["most_microcredits"] == CREDIT // 4


def test_the_price_is_that_of_what_is_asked_for(hub: Plane) -> None:
    ran(hub, 30)
    assert usual(estimate(hub, model="V100")) == (1, 30 * MINUTE, 5 * CREDIT // 4)
    assert usual(estimate(hub, count=2)) == (1, 30 * MINUTE, CREDIT)
    cheapest = estimate(hub, model=None)
    assert (cheapest["model"], *usual(cheapest)) == ("T4", 1, 30 * MINUTE, CREDIT // 2)


def test_another_notebook_and_another_person_do_not_count(hub: Plane) -> None:
    ran(hub, 30)
    ran(hub, 60, "other.ipynb")
    ran(hub, 60, who=browser("bob"))
    assert usual(estimate(hub)) == (1, 30 * MINUTE, CREDIT // 2)
    assert usual(estimate(hub, path="other.ipynb")) == (1, HOUR, CREDIT)
    assert usual(estimate(hub, path=None)) == (0, None, None)


def test_one_that_runs_or_never_ran_does_not_count(hub: Plane) -> None:
    ran(hub, 30)
    given_up = hub.take(notebook_path="train.ipynb")
    assert hub.release_lease(given_up["id"], "cancelled")["state"] == "closed"
    assert usual(estimate(hub)) == (1, 30 * MINUTE, CREDIT // 2)
    running = hub.running(notebook_path="train.ipynb")
    hub.pass_time(minutes=60)
    assert usual(estimate(hub)) == (1, 30 * MINUTE, CREDIT // 2)
    hub.release_lease(running["id"], "returned")
    assert usual(estimate(hub)) == (2, 45 * MINUTE, 3 * CREDIT // 4)


def test_nobody_pays_for_a_start_and_none_is_counted(hub: Plane) -> None:
    lease = hub.take(notebook_path="train.ipynb")
    hub.start(lease)
    hub.clock.advance(seconds=40)
    hub.lease_running(lease["id"])
    hub.pass_time(minutes=30)
    hub.release_lease(lease["id"], "returned")
    assert usual(estimate(hub)) == (1, 30 * MINUTE, CREDIT // 2)


def test_only_the_newest_are_looked_at(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "RUNS_LOOKED_AT", 3)
    for minutes in (60, 10, 10, 10):
        ran(hub, minutes)
    assert usual(estimate(hub)) == (3, 10 * MINUTE, CREDIT // 6)
