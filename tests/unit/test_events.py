"""What was committed is told on Jupyter's bus: hints alone."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import closing
from typing import Any

import pytest
from jupyter_events import EventLogger

from computehub_ext.api.events import KINDS, SCHEMAS, Events
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from tests.architecture.source import ROOT, files
from tests.support.plane import Plane


@pytest.fixture
def logger() -> EventLogger:
    return EventLogger()


def heard(logger: EventLogger) -> list[tuple[str, dict[str, Any]]]:
    """A listener, without which the logger checks nothing."""
    events: list[tuple[str, dict[str, Any]]] = []

    async def listen(logger: EventLogger, schema_id: str, data: dict[str, Any]) -> None:
        events.append((schema_id, data))

    logger.add_listener(listener=listen)
    return events


async def test_an_event_obeys_its_schema_and_says_when_it_was_committed(
    logger: EventLogger, clock: ManualClock
) -> None:
    events = Events(logger)
    told = heard(logger)
    events.emit("lease", occurred_at=clock.now(), action="running", lease_id="lease_1", kernel_id="k")
    await logger.gather_listeners()
    [(schema_id, data)] = told
    assert schema_id == "urn:computehub:event:lease:v1"
    assert {key: value for key, value in data.items() if not key.startswith("__")} == {
        "action": "running",
        "lease_id": "lease_1",
        "kernel_id": "k",
        "occurred_at": "2026-03-02T09:00:00Z",
    }


async def test_what_the_schema_does_not_name_stays_here(logger: EventLogger) -> None:
    events = Events(logger)
    told = heard(logger)
    events.emit("approval", action="asked", approval_id="a", person_id="p", amount_microcredits=8_000_000)
    await logger.gather_listeners()
    assert not {"person_id", "amount_microcredits"} & told[0][1].keys()


async def test_an_event_that_breaks_its_schema_is_a_bug(logger: EventLogger) -> None:
    events = Events(logger)
    heard(logger)
    with pytest.raises(Exception, match="exploded"):
        events.emit("lease", action="exploded", lease_id="lease_1", kernel_id="k")


async def test_the_outbox_is_followed_from_any_thread(logger: EventLogger, database: Database) -> None:
    events = Events(logger)
    told = heard(logger)
    events.follow(lambda listener: database.listen(listener, in_background=False))
    database.write(lambda unit: unit.emit("nonsense", action="none"))
    database.write(lambda unit: unit.emit("booking", action="confirmed", booking_id="book_1"))
    delivering = threading.Thread(target=database.deliver)
    delivering.start()
    await asyncio.to_thread(delivering.join)
    deadline = asyncio.get_running_loop().time() + 5
    while not told and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    assert [data["booking_id"] for _, data in told] == ["book_1"], "one that can't be told stops none after it"


def test_every_kind_that_is_emitted_has_a_schema_that_knows_its_action(logger: EventLogger) -> None:
    Events(logger)
    emitted = re.compile(r'unit\.emit\(\s*"(\w+)",\s*action="(\w+)"')
    found = [match for path in files() for match in emitted.findall(path.read_text())]
    assert found
    for kind, action in found:
        schema = logger.schemas.get(f"urn:computehub:event:{kind}:v1")
        assert action in schema.properties["action"]["enum"], f"{kind} {action}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_promises_no_more_than_a_hint(kind: str) -> None:
    text = (SCHEMAS / kind / "v1.yaml").read_text()
    assert "Limitations:" in text
    assert "personal-data: true" in text
    assert not re.search(r"^  \w*(credits|amount|balance|username|name)\w*:", text, re.M)


def test_the_schemas_are_shipped() -> None:
    assert {path.parent.name for path in SCHEMAS.glob("*/v1.yaml")} == set(KINDS)
    assert SCHEMAS.is_relative_to(ROOT / "computehub_ext")


def test_a_notice_goes_out_once_for_each_warning(logger: EventLogger, database: Database, clock: ManualClock) -> None:
    """Through the whole control plane: what is ordered of the notebook's server is told to front ends too."""
    told: list[Any] = []
    database.listen(told.append, in_background=False)
    with closing(Plane(database, clock)) as plane:
        plane.running(kernel_id="k1")
        clock.advance(minutes=19)
        assert [order["kind"] for order in plane.orders(["k1"])] == ["idle_warning"]
        assert plane.orders(["k1"]) == []
    database.deliver()
    notices = [event.payload for event in told if event.kind == "notice"]
    assert [(notice["action"], notice["kernel_id"]) for notice in notices] == [("idle_warning", "k1")]
    Events(logger)
    logger.schemas.get("urn:computehub:event:notice:v1").validate({**notices[0], "occurred_at": "2026-03-02T09:00:00Z"})
