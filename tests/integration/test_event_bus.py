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
        assert ("lease", "running") in {(event["kind"], event["action"]) for event in heard}
        lease_id = next(event["lease_id"] for event in heard if event["kind"] == "lease")
        await asyncio.to_thread(lab.api, f"leases/{lease_id}/end", user="alice", method="POST", body={})
        await listen(("lease", "closed"))
        stream.close()
        for event in heard:
            assert event["occurred_at"].endswith("Z")
            names = {name for name in event if not name.startswith("__")}
            assert names <= {"kind", "schema_id", "timestamp", "version", "action", "occurred_at", "lease_id",
                             "kernel_id", "reason", "switch_id", "booking_id"}  # fmt: skip
            assert "alice" not in json.dumps(event).lower()
