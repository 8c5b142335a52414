"""What a move that came about says: what is otherwise than before is told in its result and on its card."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest

NOTE = "What was on cuda:1 is in main memory: there is no such device here."


async def test_what_restoring_noted_is_in_the_result_and_on_the_card(
    server: JupyterServer, rest: Rest, browser: Browser, kernel_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier = server.app.kernel_manager.carrier
    fetch = carrier.fetch

    async def noting(*given: Any, **more: Any) -> dict[str, Any]:
        return {**await fetch(*given, **more), "notes": [NOTE]}

    monkeypatch.setattr(carrier, "fetch", noting)
    await browser.ran("x = 1")
    switch = await rest.switched("gpu", kernel_id)
    assert switch["state"] == "done", switch["error"]
    assert (switch["result"]["restored"], switch["result"]["notes"]) == (["x"], [NOTE])

    def said(kind: str) -> bool:
        drawn = [m["content"]["data"] for m in browser.messages if m["msg_type"] == "update_display_data"]
        return any(NOTE in each[kind] for each in drawn)

    await browser.until(lambda: said("text/plain") and said("text/html"))


async def test_a_quiet_move_notes_nothing(rest: Rest, browser: Browser, kernel_id: str) -> None:
    await browser.ran("x = 1")
    assert (await rest.switched("gpu", kernel_id))["result"]["notes"] == []
    assert (await rest.switched("cpu", kernel_id, keep="none"))["result"]["notes"] == []
