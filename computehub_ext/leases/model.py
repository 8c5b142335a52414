"""Leases, placements and the orders that they give rise to. Pure: no I/O and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from computehub_ext.core.credits import rated
from computehub_ext.core.errors import IllegalMove
from computehub_ext.core.settings import Settings

METERED_EVERY = timedelta(minutes=1)
ENDS_AT = "ends_at"
"""Among a placement's details: when its place ends it however long it is paid for, in ISO 8601."""


class LeaseState(StrEnum):
    REQUESTED = "requested"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


LIVE = (LeaseState.REQUESTED, LeaseState.PROVISIONING, LeaseState.RUNNING, LeaseState.CLOSING)

_MOVES = {
    LeaseState.REQUESTED: {LeaseState.PROVISIONING, LeaseState.CLOSING},
    LeaseState.PROVISIONING: {LeaseState.RUNNING, LeaseState.CLOSING},
    LeaseState.RUNNING: {LeaseState.CLOSING},
    LeaseState.CLOSING: {LeaseState.CLOSED},
    LeaseState.CLOSED: set(),
}


class EndReason(StrEnum):
    """Why a lease ended; what the person reads stands in ``END_TEXT``."""

    RETURNED = "returned"
    IDLE = "idle"
    TIME_UP = "time_up"
    KERNEL_SHUT_DOWN = "kernel_shut_down"
    KERNEL_DIED = "kernel_died"
    SERVER_STOPPED = "server_stopped"
    UNPAID = "unpaid"
    START_FAILED = "start_failed"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    PREEMPTED = "preempted"
    PLACE_LOST = "place_lost"


END_TEXT = {
    EndReason.RETURNED: "You gave the GPU back.",
    EndReason.IDLE: "No cell ran for a while, so the GPU was given back and the rest of the credits released.",
    EndReason.TIME_UP: "The booked time was over.",
    EndReason.KERNEL_SHUT_DOWN: "The kernel was shut down.",
    EndReason.KERNEL_DIED: "The kernel on the GPU ended by itself.",
    EndReason.SERVER_STOPPED: "The server was stopped.",
    EndReason.UNPAID: "The kernel was ended because nobody renewed the lease in time.",
    EndReason.START_FAILED: "The GPU kernel could not be started; nothing was charged.",
    EndReason.CANCELLED: "The move to the GPU was cancelled; nothing was charged.",
    EndReason.OUT_OF_MEMORY: "The kernel needed more main memory (RAM) than it may use there, and was ended.",
    EndReason.PREEMPTED: "The cluster took the GPU for work that goes first.",
    EndReason.PLACE_LOST: "The machine with the GPU could not be reached any more; billed is what was used before.",
}


IN_VAIN = frozenset({EndReason.START_FAILED, EndReason.CANCELLED})
"""The notebook never moved, and is told that nothing was charged."""


@dataclass(frozen=True)
class Lease:
    """A person's right to ``count`` devices of a pool for a time.

    ``billed_from_at`` is None until there is something to pay for: a lease taken on the spot is billed from the moment
    its kernel runs, one on a booking from the start of the booked slot, since the devices were kept free for it.
    """

    id: str
    booking_id: str
    hold_id: str
    person_id: str
    pool_id: str
    model: str
    count: int
    rate_microcredits_per_hour: int
    kernel_id: str
    notebook_path: str | None
    state: LeaseState
    created_at: datetime
    ends_at: datetime
    idle_timeout: timedelta
    on_the_spot: bool
    started_at: datetime | None = None
    billed_from_at: datetime | None = None
    paid_until: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    end_message: str | None = None
    posted_microcredits: int = 0
    busy: bool = False
    last_activity_at: datetime | None = None
    warned: frozenset[str] = frozenset()

    def moved(self, state: LeaseState) -> Lease:
        if state not in _MOVES[self.state]:
            raise IllegalMove(
                f"The lease is {self.state} and can't become {state}.", lease_id=self.id, state=self.state
            )
        return replace(self, state=state)

    def running(self, now: datetime, horizon: timedelta) -> Lease:
        begun = self.billed_from_at or now
        lease = replace(self.moved(LeaseState.RUNNING), started_at=now, billed_from_at=begun, last_activity_at=now)
        return lease.renewed(now, horizon)

    def renewed(self, now: datetime, horizon: timedelta) -> Lease:
        """Pay ahead to the horizon, never past the end and never back."""
        ahead = min(self.ends_at, now + horizon)
        return replace(self, paid_until=max(ahead, self.paid_until) if self.paid_until else ahead)

    def renewal_due(self, now: datetime, horizon: timedelta) -> bool:
        """Whether to meter and pay ahead now: once a minute, or at a third of a short horizon, so that two missed beats
        are survivable and a lease's books stay short."""
        if self.paid_until is None or self.paid_until >= self.ends_at:
            return now >= self.ends_at
        return self.paid_until - now <= horizon - min(METERED_EVERY, horizon / 3)

    def cost_microcredits(self, now: datetime) -> int:
        """What the lease has cost by ``now``: the whole time rated once, so that roundings never add up."""
        if self.billed_from_at is None:
            return 0
        until = min(self.ended_at or now, self.ends_at)
        return rated(self.rate_microcredits_per_hour, max(timedelta(0), until - self.billed_from_at), self.count)

    def closing_at(self, settings: Settings) -> datetime:
        return self.ends_at - settings.closing_reserve

    @property
    def idle_since(self) -> datetime | None:
        """Since when no cell runs; None while one does, and where nothing ran yet."""
        return None if self.busy or self.state is not LeaseState.RUNNING else self.last_activity_at


class PlacementState(StrEnum):
    INTENDED = "intended"
    """Written down and committed; the backend may or may not have started it."""
    STARTED = "started"
    ENDED = "ended"


@dataclass(frozen=True)
class Placement:
    """One try to run a lease's kernel somewhere: first start, restart, later failover."""

    id: str
    lease_id: str
    backend: str
    state: PlacementState
    created_at: datetime
    warm: bool = False
    ended_at: datetime | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def ends_at(self) -> datetime | None:
        """When its place ends it, whatever is paid for."""
        return datetime.fromisoformat(self.details[ENDS_AT]) if ENDS_AT in self.details else None


class OrderKind(StrEnum):
    IDLE_WARNING = "idle_warning"
    IDLE_RELEASE = "idle_release"
    ENDING_10 = "ending_10"
    ENDING_2 = "ending_2"
    CLOSING = "closing"


@dataclass(frozen=True)
class Order:
    """What the notebook's server should do or tell now. Warnings are given once, releases until they happened."""

    lease_id: str
    kernel_id: str
    kind: OrderKind
    message: str


def due_orders(lease: Lease, now: datetime, settings: Settings) -> list[Order]:
    """The orders of one running lease, the most pressing first."""
    if lease.state is not LeaseState.RUNNING:
        return []

    def order(kind: OrderKind, message: str) -> Order:
        return Order(lease.id, lease.kernel_id, kind, message)

    closing_at = lease.closing_at(settings)
    if now >= closing_at:
        return [order(OrderKind.CLOSING, "The booked time is over: the notebook moves back to the CPU.")]
    idle_at = None if lease.busy or lease.last_activity_at is None else lease.last_activity_at + lease.idle_timeout
    if idle_at is not None and now >= idle_at:
        minutes = int(lease.idle_timeout.total_seconds() // 60)
        return [
            order(OrderKind.IDLE_RELEASE, f"No cell ran for {minutes} minutes: the notebook moves back to the CPU.")
        ]
    orders = []
    left = closing_at - now
    length = closing_at - (lease.started_at or lease.created_at)
    for kind, minutes in ((OrderKind.ENDING_2, 2), (OrderKind.ENDING_10, 10)):
        # A lease shorter than its warning would be warned at its first breath, which tells nobody anything.
        if left <= timedelta(minutes=minutes) < length:
            if kind not in lease.warned:
                text = f"The GPU's booked time ends in {_minutes(left)}. `%gpu extend 1h` keeps it longer."
                orders.append(order(kind, text))
            break
    warn_before = min(settings.idle_warning, lease.idle_timeout / 2)
    if idle_at is not None and now >= idle_at - warn_before and OrderKind.IDLE_WARNING not in lease.warned:
        text = (
            f"The GPU is idle: in {_minutes(idle_at - now)} the notebook moves back to the CPU. Run a cell to keep it."
        )
        orders.append(order(OrderKind.IDLE_WARNING, text))
    return orders


def _minutes(left: timedelta) -> str:
    seconds = max(0, int(left.total_seconds()))
    if seconds < 90:
        return f"{seconds} seconds"
    return f"{round(seconds / 60)} minutes"
