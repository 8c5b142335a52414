"""What some places can do beside running kernels, each a small protocol that a backend has or has not.

The control plane asks with ``isinstance``. ``testing`` has a contract for each, run where the backend has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from .model import DeviceLike, KernelLimits, check_placement_id


class PoolLike(Protocol):
    """What a place needs to know of a pool that stands on it: ``pools.model.PoolSpec`` is one."""

    @property
    def model(self) -> str: ...
    @property
    def simulated(self) -> bool: ...
    @property
    def devices(self) -> Sequence[DeviceLike]:
        """In the order in which leases get those that are free."""


@runtime_checkable
class WarmPool(Protocol):
    """A backend that keeps started kernels ready, as many for each model as its settings say.

    Nobody is billed for those that nobody leased. When nobody comes for a while they go.
    """

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        """Keep kernels ready for these pools from now on, without waiting for them; for none of them, none.

        Called when the control plane has learnt which pools stand on this place.
        """

    def expect(self, model: str) -> None:
        """Somebody may soon want one: start again what went since nobody came.

        Called when somebody looks at a move, and a little before a booking begins. Returns at once.
        """

    @property
    def warm_count(self) -> int:
        """How many could be taken over this moment."""


@runtime_checkable
class Logs(Protocol):
    """A backend that keeps what a kernel wrote outside its channels."""

    def log(self, placement_id: str) -> str:
        """Return the last of it, at most some kilobytes, also of a placement that has ended.

        Raises ``NotFound`` for an unknown placement.
        """


@runtime_checkable
class Limits(Protocol):
    """A backend that can tell what one kernel may use of its machine. One that has no limits says so too."""

    def limits(self) -> KernelLimits:
        """Return what the next kernel may use, from the settings: asked at every look at the offers, so ask nobody."""


@dataclass(frozen=True)
class BerthRequest:
    """A place that is wanted some time before its kernel, as for a booking.

    Parameters
    ----------
    placement_id:
        That of the placement which it becomes when ``start`` is called with it; committed before it is asked for.
    model, device_count, username:
        As the ``StartRequest`` will have them.
    kept_until:
        It is given back at this moment unless ``renew`` moved it or its kernel was started.
    ends_at:
        Until when the kernel is to run.
    """

    placement_id: str
    model: str
    device_count: int
    username: str
    kept_until: datetime
    ends_at: datetime

    def __post_init__(self) -> None:
        check_placement_id(self.placement_id)


@runtime_checkable
class Berths(Protocol):
    """A backend whose machines others use too, so that a booking's place is asked for before the booking starts.

    A berth is a placement without a kernel: ``look`` says STARTING while it waits for room and READY once it is there,
    ``renew`` moves the moment up to which it is kept, ``stop`` gives it back, ``list_placements`` has it, and ``start``
    with its id starts the kernel in it. Nobody is billed for one.
    """

    @property
    def berth_lead(self) -> timedelta:
        """How long before a booking's start to ask; nothing switches it off."""

    def ask_berth(self, request: BerthRequest) -> datetime:
        """Ask for the place without waiting for it; return until when a kernel in it could run at least.

        The same request again changes nothing, and finishes one that was cut off. Raises as ``start`` does.
        """

    def await_berth(self, placement_id: str) -> None:
        """Return once it is READY, or is no berth any more since its kernel was started.

        Called when the booking's kernel is wanted. Raises ``NoCapacity`` if it waited as long as a start would, which
        says in words what for; the berth goes on waiting. Raises ``Refused`` if it has ended, else as ``look`` does.
        """


@dataclass(frozen=True)
class TerminalRequest:
    """A terminal beside a kernel that runs.

    Parameters
    ----------
    placement_id:
        Whose.
    rows, columns:
        How large the window is to begin with.
    devices, model, simulated, username:
        As the kernel was started with, for the environment. What its notebook added to that is not repeated: it may
        hold a token of the kernel's.
    """

    placement_id: str
    rows: int
    columns: int
    devices: tuple[DeviceLike, ...]
    model: str
    simulated: bool
    username: str


class Terminal(Protocol):
    """A shell as a person sees it. One thread reads; the other methods are called from any and don't wait."""

    def read(self, seconds: float) -> bytes | None:
        """Return what it shows now or within so many seconds, perhaps nothing; None once it has ended.

        Who does not read for a while holds the programs up rather than fill anybody's memory.
        """

    def write(self, typed: bytes) -> None:
        """Type. Raises ``Conflict`` where far more is typed than anything there reads."""

    def resize(self, rows: int, columns: int) -> None:
        """Tell how large the window is from now on."""

    def close(self) -> None:
        """End the shell and all that it started, within seconds. May be called again."""


@runtime_checkable
class Terminals(Protocol):
    """A backend that opens terminals beside running kernels."""

    def open_terminal(self, request: TerminalRequest) -> Terminal:
        """Start a shell where the kernel runs: as its user, in its container or job, in its folder, with its GPUs.

        It is never root where the kernel isn't, gains no rights, and ends with ``close``, with the kernel, and when
        whoever opened it is killed. Where there is no shell, the terminal says so and ends.

        Called when the lease's owner opens one, where the administrator allows it. Raises ``NotFound`` for an unknown
        placement and ``Refused``, with why, for one that has ended or where no terminal can be.
        """
