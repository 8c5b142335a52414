"""Which message of a kernel's shell channel may go on, and which waits. A state machine without I/O.

A kernel takes requests in the order in which they come and can't give one back. So that a switch asked for in one cell
is in time for the next one, at most one ``execute_request`` is with the kernel at a time; what follows waits here, in
order. What Jupyter's kernels promise about a queue still holds: after an error the waiting cells are aborted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

_COMM_TRAFFIC = ("comm_msg", "comm_close")


class Request(Protocol):
    """What the gate looks at in a message."""

    @property
    def msg_id(self) -> str: ...
    @property
    def msg_type(self) -> str: ...
    @property
    def subshell_id(self) -> str | None: ...
    @property
    def comm_id(self) -> str | None: ...
    @property
    def stops_on_error(self) -> bool: ...


M = TypeVar("M", bound=Request)


class Mode(Enum):
    OPEN = "open"
    WAITING = "waiting"
    """A switch was asked for: the running cell goes on, no further one starts."""
    SHUT = "shut"
    """The kernel in place is being left: everything waits."""


@dataclass(frozen=True)
class Finished(Generic[M]):
    """A cell is done; ``aborted`` are the waiting ones that its error takes along."""

    request: M
    aborted: list[M]


class Gate(Generic[M]):
    """One kernel's gate. Callers forward what ``arrive`` lets pass and what ``release`` returns, and nothing else."""

    def __init__(self) -> None:
        self.mode = Mode.OPEN
        self.running: M | None = None
        self._waiting: deque[M] = deque()
        self._waiting_comms: set[str] = set()
        self._failed = False
        self._begun = False

    @property
    def idle(self) -> bool:
        return self.running is None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def waiting_cells(self) -> int:
        return sum(request.msg_type == "execute_request" for request in self._waiting)

    def arrive(self, request: M) -> bool:
        """Take a request in; True means that it goes on now."""
        if self._must_wait(request):
            self._waiting.append(request)
            if request.msg_type == "comm_open" and request.comm_id:
                self._waiting_comms.add(request.comm_id)
            return False
        if request.msg_type == "execute_request" and request.subshell_id is None:
            self._run(request)
        return True

    def _run(self, request: M) -> None:
        self.running, self._failed, self._begun = request, False, False

    def _must_wait(self, request: M) -> bool:
        if self.mode is Mode.SHUT:
            return True
        if request.subshell_id is not None:
            return False
        if request.msg_type in _COMM_TRAFFIC:
            # A running cell may wait for just this answer of a widget; behind the waiting cells it would never get it.
            return bool(self._waiting_comms) and request.comm_id in self._waiting_comms
        if request.msg_type == "execute_request" and (self.running is not None or self.mode is Mode.WAITING):
            return True
        return bool(self._waiting)

    def begun(self, msg_id: str) -> None:
        """The kernel said that it works on this request."""
        if self.running is not None and self.running.msg_id == msg_id:
            self._begun = True

    def failed(self, msg_id: str) -> None:
        """The kernel said that this request raised."""
        if self.running is not None and self.running.msg_id == msg_id:
            self._failed = True

    def finished(self, msg_id: str) -> Finished[M] | None:
        """The kernel is done with this request; None if it is not the one that runs."""
        if self.running is None or self.running.msg_id != msg_id:
            return None
        done, self.running = self.running, None
        aborted = self._take_cells(abortable_only=True) if self._failed and done.stops_on_error else []
        return Finished(done, aborted)

    def release(self) -> list[M]:
        """Return what may go on now, in order."""
        released: list[M] = []
        while self.mode is Mode.OPEN and self._waiting:
            request = self._waiting[0]
            runs = request.msg_type == "execute_request" and request.subshell_id is None
            if runs and self.running is not None:
                break
            self._waiting.popleft()
            if runs:
                self._run(request)
            if request.msg_type == "comm_open" and request.comm_id:
                self._waiting_comms.discard(request.comm_id)
            released.append(request)
        return released

    def take_cells(self) -> list[M]:
        """Remove and return the waiting cells; other requests keep waiting."""
        return self._take_cells(abortable_only=False)

    def _take_cells(self, *, abortable_only: bool) -> list[M]:
        def taken(request: M) -> bool:
            return request.msg_type == "execute_request" and not (abortable_only and request.subshell_id is not None)

        cells = [request for request in self._waiting if taken(request)]
        self._waiting = deque(request for request in self._waiting if not taken(request))
        return cells

    def reset(self) -> list[M]:
        """The kernel is gone: return the cells that it never worked on; the one that it did has no end."""
        unheard = [self.running] if self.running is not None and not self._begun else []
        self.running = None
        return [*unheard, *self.take_cells()]
