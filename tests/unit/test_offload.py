"""The hop from the event loop to threads: bounded, in pools that don't stop each other."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from computehub_ext.core import offload
from computehub_ext.core.errors import Invalid, Unavailable
from computehub_ext.core.offload import Pools


async def test_a_slow_backend_does_not_stop_the_database() -> None:
    pools, go_on = Pools({"database": 1, "backend": 1}), threading.Event()
    slow = asyncio.ensure_future(pools.run("backend", lambda: go_on.wait(10)))
    assert await pools.run("database", lambda: "answer") == "answer"
    go_on.set()
    assert await slow
    pools.close()


async def test_errors_and_context_come_along() -> None:
    pools, name = Pools({"database": 1}), contextvars.ContextVar("name", default="nobody")
    name.set("ada")
    assert await pools.run("database", name.get) == "ada"
    with pytest.raises(Invalid, match="no"):
        await pools.run("database", _fail)
    pools.close()


async def test_a_crowd_is_turned_away_rather_than_queued_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "WAITING_MAX", 2)
    pools, go_on = Pools({"database": 1}), threading.Event()
    crowd = [asyncio.ensure_future(pools.run("database", lambda: go_on.wait(10))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="busy"):
        await pools.run("database", lambda: None)
    go_on.set()
    assert all(await asyncio.gather(*crowd))
    assert await pools.run("database", lambda: "room again") == "room again"
    pools.close()


async def test_a_cancelled_caller_leaves_its_work_running_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "WAITING_MAX", 0)
    pools, go_on, began, done = Pools({"database": 1}), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        assert go_on.wait(10)
        done.set()

    caller = asyncio.ensure_future(pools.run("database", work))
    await asyncio.get_running_loop().run_in_executor(None, began.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    with pytest.raises(Unavailable):
        await pools.run("database", lambda: None)
    go_on.set()
    assert await asyncio.get_running_loop().run_in_executor(None, done.wait, 10)
    pools.close()


async def test_closed_pools_say_so() -> None:
    pools = Pools({"database": 1})
    pools.close()
    with pytest.raises(Unavailable, match="shutting down"):
        await pools.run("database", lambda: None)


def _fail() -> None:
    raise Invalid("no")
