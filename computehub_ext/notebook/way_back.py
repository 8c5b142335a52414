"""The kernel from before a move to a GPU, kept until the new one has shown that it works."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.places import Place

KEPT_SECONDS_MAX = 300.0
"""How long it is kept unless a cell completes on the new one before."""


async def keep(kernel: SwitchableKernelManager, before: Place) -> None:
    """Keep the old kernel until a cell has completed on the new one; then it is ended."""
    completed = asyncio.Event()

    def cell_completed(finished: Any) -> None:
        if not finished.request.content.get("silent"):
            completed.set()

    kernel.traffic.on_finished.append(cell_completed)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(completed.wait(), KEPT_SECONDS_MAX)
    finally:
        kernel.traffic.on_finished.remove(cell_completed)
    if kernel.way_back is before:
        await kernel.drop_way_back()
