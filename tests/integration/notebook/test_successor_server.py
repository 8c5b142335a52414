"""What a server writes down of a move, and what the server after it makes of that."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.notebook.switch import Switch
from tests.integration.notebook.conftest import TOKEN, arranged, config
from tests.support.fakeplane import FakePlane
from tests.support.jupyter import JupyterServer
from tests.support.notebooks import Browser, Rest


@pytest.fixture
def steps() -> Iterator[type[Switch]]:
    yield Switch
    Switch.before_step = None


def written(folder: Path) -> dict[str, Any]:
    kernels: dict[str, Any] = json.loads((folder / "state" / "kernels.json").read_text())["kernels"]
    return kernels


async def test_a_move_is_written_down_before_it_is_paid_for_and_crossed_out_when_it_fails(
    tmp_path: Path, steps: type[Switch], plane: FakePlane, rest: Rest, browser: Browser, kernel_id: str
) -> None:
    async def hold(switch: Switch, state: Any) -> None:
        if state == "verifying":
            await asyncio.Event().wait()

    steps.before_step = hold  # type: ignore[assignment]
    switch = (await rest.switch("gpu", kernel_id)).json()
    await _until(lambda: (tmp_path / "state" / "kernels.json").exists() and kernel_id in written(tmp_path))
    assert "lease_running" not in plane.calls
    await rest.client.post(f"api/computehub/v1/switches/{switch['id']}/cancel")
    await _until(lambda: kernel_id not in written(tmp_path))


@pytest.mark.parametrize("state", ["running", "provisioning"])
async def test_the_next_server_takes_up_what_is_paid_for_and_gives_up_what_is_not(
    tmp_path: Path, plane: FakePlane, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as first:
        first.app.kernel_manager.kernel_server_url = first.url
        rest = Rest(first.url, TOKEN)
        kernel_id = await rest.start_kernel(name="python3")
        assert (await rest.switched("gpu", kernel_id, keep="none"))["state"] == "done"
        await rest.client.aclose()
        await asyncio.to_thread(first.call, lambda: first.app.kernel_manager.part(end_leases=False))
    (lease,) = plane.leases.values()
    assert lease["state"] == "running"
    lease["state"] = state
    with JupyterServer(tmp_path, arranged(plane), config(tmp_path)) as second:
        rest = Rest(second.url, TOKEN)
        if state == "running":
            browser = await Browser(second.url, TOKEN, kernel_id).open()
            assert (await browser.ran("print('here')")).text == "here\n"
            assert (await rest.kernel(kernel_id))["place"] == "gpu"
            await browser.close()
            await asyncio.to_thread(second.call, lambda: second.app.kernel_manager.part(end_leases=True))
        else:
            await _until(lambda: lease["state"] == "closed")
            assert lease["end_reason"] == "cancelled"
            assert (await rest.client.get("api/kernels")).json() == []
        await rest.client.aclose()
    assert plane.running() == []


async def _until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
