"""The kernel that a notebook is to move to: started, greeted and connected beside the one in place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from computehub_ext.core.errors import BackendError, Refused
from computehub_ext.kernel.bundle import PYTHON_MINIMUM
from computehub_ext.notebook import staging
from computehub_ext.notebook.code import Line
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.places import CpuPlace, LeasedPlace, Place
from computehub_ext.notebook.state import python_version

Answer = TypeVar("Answer")


_NOT_READY = "The new kernel ended before it was ready."


@dataclass
class Successor:
    """``staged`` holds everybody's connections to it until the swap takes them over; ``python`` is its version."""

    place: Place
    line: Line
    staged: staging.Staged | None = None
    python: str = ""

    @classmethod
    async def start(cls, kernel: SwitchableKernelManager, lease_id: str | None) -> Successor:
        """Start a kernel on the lease, or here without one, bring our code into it and connect everybody.

        A failure leaves nothing of it running.
        """
        provisioner = kernel.switchable
        place: Place
        if lease_id is not None:
            place = await provisioner.new_leased_place(lease_id)
        else:
            place = await provisioner.new_cpu_place()
        new = cls(place, Line(kernel.context, place.connection_info, kernel.session))
        greeting = asyncio.ensure_future(new._greet(kernel))
        staged = asyncio.ensure_future(staging.stage(kernel, place, new.line))
        saving = asyncio.ensure_future(new._save(kernel))
        try:
            _, new.staged, _ = await asyncio.gather(greeting, staged, saving)
        except BaseException:
            for task in (greeting, staged, saving):
                task.cancel()
            await asyncio.wait([greeting, staged, saving])
            if not staged.cancelled() and staged.exception() is None:
                staged.result().close()
            new.line.close()
            await place.end()
            raise
        return new

    async def _save(self, kernel: SwitchableKernelManager) -> None:
        if isinstance(self.place, LeasedPlace):
            await kernel.kernels.survival.intend(kernel, self.place)

    async def _greet(self, kernel: SwitchableKernelManager) -> None:
        if isinstance(self.place, LeasedPlace):
            self.python = self.place.python_version
            _refuse_too_old(self.python)
        await self.while_alive(kernel.kernels.greet(self.line), _NOT_READY)
        if not self.python:
            self.python = str(await self.while_alive(self.line.ask(python_version()), _NOT_READY))

    async def while_alive(self, answer: Awaitable[Answer], otherwise: str) -> Answer:
        """Wait for an answer of the new kernel, and no longer than it lives: one that has ended never gives it."""
        awaited = asyncio.ensure_future(answer)
        try:
            while not (await asyncio.wait({awaited}, timeout=1.0))[0]:
                if await self.place.poll() is not None:
                    raise BackendError(self.place.died or otherwise)
            return awaited.result()
        finally:
            awaited.cancel()

    async def discard(self) -> None:
        """It is not needed: disconnect, and end it unless its lease does that."""
        if self.staged is not None:
            self.staged.close()
        self.line.close()
        if isinstance(self.place, CpuPlace):
            await self.place.end()
        elif isinstance(self.place, LeasedPlace):
            self.place.close_door()


def _refuse_too_old(python: str) -> None:
    parts = [int(part) if part.isdigit() else 0 for part in python.split(".")[:2]]
    if python and tuple(parts) < PYTHON_MINIMUM:
        least = ".".join(map(str, PYTHON_MINIMUM))
        raise Refused(
            f"Python is {python} there, and a notebook can move to {least} or newer. Nothing was moved or charged; "
            "the administrator can give the pool a newer image or module."
        )
