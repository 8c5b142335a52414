"""What a backend is asked, what it answers, and the contract between.

A placement is one kernel in one place, named by an id that the caller made and wrote down *before* asking for it. That
id is the label by which a placement is found again after a crash of anybody, and the key by which a repeated ``start``
is recognised.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from computehub_ext.core.errors import Invalid

_PLACEMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


class DeviceLike(Protocol):
    """What a backend needs to know of a device: ``pools.model.Device`` is one."""

    @property
    def index(self) -> int: ...
    @property
    def uuid(self) -> str: ...


@dataclass(frozen=True)
class StartRequest:
    """Everything that a place needs to start one kernel.

    Parameters
    ----------
    placement_id:
        Made by the caller (``core.ids.new_id("placement")``), committed before ``start`` is called.
    kernel_name:
        A kernelspec of the place, ``python3`` for the plain one.
    cwd:
        The notebook's folder. A place that lacks it says so (``Refused``) instead of picking another.
    env:
        Added to the place's own short list; never the server's whole environment.
    devices:
        The devices that the kernel may see; none at all when empty.
    model:
        The devices' model, for the environment of simulated ones.
    simulated:
        Whether the devices are simulated: then no CUDA device is shown, and the kernel is told so.
    session_key:
        The key that the kernel signs its messages with, ASCII.
    username:
        The person for whom it runs; shown in a place's own listings, never decided by.
    paid_until:
        The kernel and all that it started are ended at this moment unless ``renew`` moved it.
    ends_at:
        Until when it may be renewed, for a place that has to set a limit when it starts; None where nobody knows.
    """

    placement_id: str
    kernel_name: str
    cwd: str
    env: Mapping[str, str]
    devices: tuple[DeviceLike, ...]
    model: str
    simulated: bool
    session_key: bytes = field(repr=False)
    username: str
    paid_until: datetime
    ends_at: datetime | None = None

    def __post_init__(self) -> None:
        check_placement_id(self.placement_id)
        if self.paid_until.tzinfo is None:
            raise Invalid("paid_until needs a time zone.", field="paid_until")
        if not self.session_key or not self.session_key.isascii():
            raise Invalid("A kernel without a signing key would run anybody's code.", field="session_key")


def check_placement_id(placement_id: str) -> str:
    """Return the id, or raise ``Invalid``: backends use it as a file's name and as a label."""
    if not _PLACEMENT_ID.fullmatch(placement_id):
        raise Invalid("A placement id is 1 to 80 letters, digits, dots, dashes or underscores.", field="placement_id")
    return placement_id


@dataclass(frozen=True)
class Placed:
    """A kernel that listens.

    ``connection_info`` has Jupyter's names (``transport``, ``ip``, ``shell_port`` …, ``key`` as text,
    ``signature_scheme``); where the messages leave the machine also ``curve_publickey`` and ``curve_secretkey``, Z85
    text, with which its sockets are CurveZMQ servers. ``warm`` tells whether a standby kernel was taken over. ``pid``
    is of this machine, None elsewhere. ``python_version`` is empty for a kernel of another language. ``meeting_dir``
    is a folder that has the same path here and there and that only the kernel's user (and root) enters: sockets made
    in it connect the two. It is None where they share no folder, or are on one machine with nothing between them.
    ``host`` is where other machines reach the kernel's ports, None for this machine. ``details`` are worth keeping
    with the lease, such as an image's digest or a job's number. ``ends_at`` is when the place ends it however long it
    is renewed, None where it does not.
    """

    placement_id: str
    connection_info: dict[str, Any] = field(repr=False)
    warm: bool
    pid: int | None
    python_version: str
    meeting_dir: str | None = None
    host: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    ends_at: datetime | None = None


class LookState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    """A berth: the place is there, its kernel was not asked for yet."""
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """Never started here, or ended so long ago that its record is gone."""


class Ending(StrEnum):
    """Why a placement ended. ``ENDINGS`` has the sentence for a person."""

    EXITED = "exited"
    CRASHED = "crashed"
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    STOPPED = "stopped"
    UNPAID = "unpaid"
    SUPERVISOR_LOST = "supervisor_lost"
    START_FAILED = "start_failed"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_LOST = "node_lost"


ENDINGS: dict[Ending, str] = {
    Ending.EXITED: "The kernel shut down.",
    Ending.CRASHED: "The kernel died of an error.",
    Ending.KILLED: "The kernel was killed, as happens when the machine has no memory left.",
    Ending.OUT_OF_MEMORY: "The kernel needed more main memory (RAM) than there was for it, and was ended.",
    Ending.STOPPED: "The kernel was stopped as asked.",
    Ending.UNPAID: "The time that was paid for ran out.",
    Ending.SUPERVISOR_LOST: "The process that watched over the kernel was killed, and the kernel with it.",
    Ending.START_FAILED: "The kernel could not be started.",
    Ending.PREEMPTED: "The cluster took the GPU for work that goes first.",
    Ending.TIME_LIMIT: "The time that the cluster had set for the job was over.",
    Ending.NODE_LOST: "The machine that the kernel ran on is gone.",
}


@dataclass(frozen=True)
class Look:
    """One placement as its backend sees it now.

    ``exit_code`` is negative for a signal, as in ``subprocess``; ``message`` is for a person; ``ended_at`` is when the
    place saw the end, which for a lost supervisor may be long after. ``heard_at`` is for one that counts as running and
    has been silent since then; None says that it runs now. ``machine_answers`` is for a silent one too: whether its
    machine does, so that what keeps it silent may be the person's own code, and no end of its lease is billed less.
    """

    placement_id: str
    state: LookState
    exit_code: int | None = None
    reason: Ending | None = None
    message: str = ""
    ended_at: datetime | None = None
    heard_at: datetime | None = None
    machine_answers: bool = False


@dataclass(frozen=True)
class KernelLimits:
    """What one kernel may use of its machine; None where nothing but the machine, or the cluster, sets an end.

    Parameters
    ----------
    memory_mib:
        Main memory, which is not the GPU's.
    cpus:
        Cores.
    """

    memory_mib: int | None = None
    cpus: float | None = None

    @property
    def memory_in_words(self) -> str:
        """``512 MiB``, ``16 GiB``; nothing where there is no limit."""
        if self.memory_mib is None:
            return ""
        return f"{self.memory_mib / 1024:g} GiB" if self.memory_mib >= 1024 else f"{self.memory_mib} MiB"

    def exceeded(self) -> str:
        """The sentence for a kernel that was ended since it needed more."""
        if self.memory_mib is None:
            return ENDINGS[Ending.OUT_OF_MEMORY]
        return f"The kernel was ended: it needed more than its {self.memory_in_words} of main memory (RAM)."


@dataclass(frozen=True)
class Health:
    """``soon`` says that another answer is likely within seconds, as while an image arrives: it is asked for then."""

    ok: bool
    message: str = ""
    soon: bool = False


class Backend(ABC):
    """A kind of place where kernels run.

    All methods block and are called from the control plane's bounded backend threads, several at once, never from the
    event loop and never inside a database transaction. Failures are ``core.errors.BackendError`` and its kin, the
    provider's own error attached as cause.

    ``testing.backend_contract.BackendContract`` says the same as tests.
    """

    name: str
    """As pools name it: the kind's own, or what the administrator called this place of that kind."""

    @abstractmethod
    def start(self, request: StartRequest) -> Placed:
        """Start the kernel and return once it listens.

        Called by ``leases`` when a lease provisions, after the placement was committed, and again with the same
        request when a crash or a lost answer left in doubt whether the first call arrived: the second call returns
        what the first one started. A placement that was stopped or has ended is never started again.

        Raises
        ------
        Refused
            The place can't start it, and asking again won't help: no such folder or kernelspec, a kernel that dies
            at once, an id that has ended, a ``paid_until`` that has passed.
        NoCapacity
            There is no room now.
        SkipPlace
            It took too long; whatever was begun is stopped.
        Unreachable
            The place does not answer. Whatever was begun is found by ``list_placements`` once it does.
        """

    @abstractmethod
    def look(self, placement_id: str) -> Look:
        """Tell how one placement is. Called by the watch over running leases, about once a second each.

        Raises ``NotHeard`` for one that is out of touch at a place that answers, and ``Unreachable`` for a place that
        does not: then all that runs there is left alone for some seconds.
        """

    @abstractmethod
    def interrupt(self, placement_id: str) -> None:
        """Interrupt the running cell. Called when the user presses stop, and before the closing capture.

        Raises ``NotFound`` for an unknown placement and ``Refused`` for one that has ended.
        """

    @abstractmethod
    def stop(self, placement_id: str, grace_seconds: float = 2.0) -> None:
        """End the kernel and everything that it started; return when all of these processes are gone.

        What a cluster's scheduler notes of the job may take some seconds more.

        Called when a lease closes or its placement moves, and by the reconciler for what nobody owns. Stopping what
        has ended, or what was never started, is fine; the latter keeps a late ``start`` from starting it.

        Raises ``NotYetEnded`` if something resists beyond the grace and a few seconds more.
        """

    @abstractmethod
    def renew(self, placement_id: str, paid_until: datetime) -> None:
        """Move the moment at which the placement is ended unless renewed again, later or earlier.

        Called by the meter well before that moment. Raises ``NotFound`` or, when it has ended, ``Refused``.
        """

    @abstractmethod
    def list_placements(self) -> list[Look]:
        """List every placement that may still hold anything, found by label, whoever started it.

        Called by the reconciler at the start of the control plane and at intervals; it stops what no open lease owns.
        """

    @abstractmethod
    def health(self) -> Health:
        """Tell whether a start has a chance, cheaply. Called before offers are made and by the health page."""

    def close(self) -> None:  # noqa: B027 - a backend without threads has nothing to let go of
        """Let go of threads and of what nobody leased. Running placements go on. Called when the server stops."""
