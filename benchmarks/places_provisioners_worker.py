"""Runs below the Python that has Gateway Provisioners: one kernel at a time, each order and answer a line of JSON.

An order is ``{"do": "start", "spec": NAME}`` or ``{"do": "stop"}``. It is timed here, as our own kernels are in
the benchmark's process, and it needs nothing of ComputeHub.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from jupyter_client import AsyncKernelManager

REPLY_SECONDS_MAX = 60.0


class Worker:
    """One kernel, by jupyter_client's own asynchronous manager, as Jupyter Server does."""

    def __init__(self) -> None:
        self.manager: Any = None
        self.client: Any = None

    async def start(self, order: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        self.manager = AsyncKernelManager(kernel_name=order["spec"])
        await self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels(hb=False)
        message_id = self.client.execute("6 * 7")
        while True:
            reply = await self.client.get_shell_msg(timeout=REPLY_SECONDS_MAX)
            if reply["parent_header"].get("msg_id") == message_id:
                return {"seconds": time.perf_counter() - started, "id": self.manager.kernel_id}

    async def stop(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.client is not None:
            self.client.stop_channels()
        started = time.perf_counter()
        await self.manager.shutdown_kernel(now=True)
        return {"seconds": time.perf_counter() - started}


async def main() -> None:
    worker, loop = Worker(), asyncio.get_running_loop()
    doing = {"start": worker.start, "stop": worker.stop}
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        try:
            answer = await doing[order["do"]](order)
        except Exception as problem:
            answer = {"problem": f"{type(problem).__name__}: {problem}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
