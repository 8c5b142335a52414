"""What a front end hears of a notebook's way to a GPU and back, on a real server's event stream."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from tests.e2e.lab import Lab, running_lab


def take_and_return(lab: Lab) -> None:
    kernel: str = lab.request("api/kernels", user="alice", method="POST", body={})["id"]
    wish = {"target": "gpu", "kernel_id": kernel, "model": "T4", "duration_seconds": 3600}
    lab.api("switches", user="alice", method="POST", body=wish)


async def test_others_hear_that_something_changed_and_nothing_more(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        url = f"ws://127.0.0.1:{lab.port}/api/events/subscribe"
        stream = await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {lab.users['bob']}"}))
        await asyncio.to_thread(take_and_return, lab)
        heard: list[dict[str, Any]] = []

        async def listen(until: tuple[str, str]) -> None:
            async with asyncio.timeout(30):
                while (heard[-1]["kind"], heard[-1]["action"]) != until if heard else True:
                    event = json.loads(await stream.read_message())
                    if match := re.fullmatch(r"urn:computehub:event:(\w+):v1", event["schema_id"]):
                        heard.append({"kind": match[1], **event})

        await listen(("switch", "done"))
        if ("lease", "running") not in {(event["kind"], event["action"]) for event in heard}:
            await listen(("lease", "running"))  # it comes by way of the database
        lease_id = next(event["lease_id"] for event in heard if event["kind"] == "lease")
        await asyncio.to_thread(lab.api, f"leases/{lease_id}/end", user="alice", method="POST", body={})
        await listen(("lease", "closed"))
        await _closed(stream)
        for event in heard:
            assert event["occurred_at"].endswith("Z")
            names = {name for name in event if not name.startswith("__")}
            assert names <= {"kind", "schema_id", "timestamp", "version", "action", "occurred_at", "lease_id",
                             "kernel_id", "reason", "switch_id", "booking_id"}  # fmt: skip
            assert "alice" not in json.dumps(event).lower()


async def test_a_second_server_on_the_same_data_tells_it_too(tmp_path: Path) -> None:
    """Its control plane is the first one's, so what is committed there has to reach the second's own bus."""
    with running_lab(tmp_path / "first") as first:
        second = Lab(tmp_path / "second", first.users, environment={"COMPUTEHUB_TEST_DATA": str(first.data)})
        try:
            second.start()
            await asyncio.to_thread(second.api, "me", user="bob")
            url = f"ws://127.0.0.1:{second.port}/api/events/subscribe"
            headers = {"Authorization": f"token {second.users['bob']}"}
            stream = await websocket_connect(HTTPRequest(url, headers=headers))
            heard = asyncio.ensure_future(_next(stream, "booking"))
            booked = []
            async with asyncio.timeout(30):
                while not heard.done():  # what comes before it listens is missed
                    booked.append(await asyncio.to_thread(_book_and_cancel, first))
                    await asyncio.wait({heard}, timeout=0.5)
            assert heard.result()["booking_id"] in booked
            await _closed(stream)
        finally:
            second.stop()
            assert not second.end_what_is_left()
        assert first.api("me", user="alice")["username"] == "alice"


async def _closed(stream: Any) -> None:
    """Close it and wait for the other side: the event loop ends right after the test."""
    stream.close()
    while await stream.read_message() is not None:
        pass


async def _next(stream: Any, kind: str) -> dict[str, Any]:
    while True:
        event: dict[str, Any] = json.loads(await stream.read_message())
        if event["schema_id"] == f"urn:computehub:event:{kind}:v1":
            return event


def _book_and_cancel(lab: Lab) -> str:
    wish = {"model": "T4", "when": "tomorrow 14:00", "duration_seconds": 3600}
    booking: str = lab.api("bookings", user="alice", method="POST", body=wish)["id"]
    lab.api(f"bookings/{booking}/cancel", user="alice", method="POST")
    return booking
