"""What a server that stops waits for, so that nothing is cut off in the middle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import anyio.to_thread

from computehub_ext.notebook.kernels import files_are_at_rest


def as_a_server_runs(work: Coroutine[Any, Any, None]) -> None:
    """Run in a loop that goes on until it is stopped, as tornado's: anyio treats a task that is run to its end alone
    as the root of all the others and keeps its threads for it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    task.add_done_callback(lambda _: loop.stop())
    try:
        loop.run_forever()
        task.result()
    finally:
        loop.close()


def test_a_save_that_runs_in_a_task_nobody_waits_for_is_let_finish() -> None:
    disk = threading.Event()
    written: list[str] = []

    async def save() -> None:
        await anyio.to_thread.run_sync(disk.wait, 10)
        await anyio.to_thread.run_sync(written.append, "notebook")

    async def stop() -> None:
        saving = asyncio.create_task(save())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stopping = asyncio.create_task(files_are_at_rest())
        await asyncio.sleep(0)
        assert not stopping.done()
        disk.set()
        await stopping
        assert written == ["notebook"]
        assert saving.done()

    as_a_server_runs(stop())


def test_a_save_that_does_not_end_keeps_no_server() -> None:
    disk = threading.Event()

    async def stop() -> None:
        saving = asyncio.create_task(anyio.to_thread.run_sync(disk.wait, 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await files_are_at_rest(within_seconds=0.05)
        went_on = not saving.done()
        disk.set()
        await saving
        assert went_on

    as_a_server_runs(stop())
