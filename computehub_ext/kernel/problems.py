"""What can go wrong at ``%gpu``, as one tree. IPython prints each as a message without a traceback.

    GpuProblem        could not be done: the server refused, nothing is free, something would be lost
    ├── UsageProblem  the words were wrong; says what would be right
    ├── NotConnected  this kernel (or shell) has no ComputeHub to talk to
    └── Declined      the user said no

They are exceptions, not printed text, so that the cell counts as failed and Run All stops behind it: cells that were
meant for a GPU must not run on the CPU.
"""

from __future__ import annotations

from typing import Any


class GpuProblem(Exception):
    """A failure that a person can act on.

    Parameters
    ----------
    message:
        One sentence: what was wrong, and what would be right.
    page:
        More to read (tables, commands to copy), shown beneath the message.
    """

    exit_code = 1

    def __init__(self, message: str, page: Any | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.page = page

    def lines(self) -> list[str]:
        lines = [self.message]
        if self.page is not None:
            lines += ["", *self.page.plain().splitlines()]
        return lines

    def _render_traceback_(self) -> list[str]:  # IPython's hook for exceptions that print themselves
        head, *rest = self.lines()
        return [f"\x1b[0;31m%gpu:\x1b[0m {head}", *rest]


class UsageProblem(GpuProblem):
    exit_code = 2


class NotConnected(GpuProblem):
    pass


class Declined(GpuProblem):
    pass
