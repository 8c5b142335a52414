"""A backend that keeps records and runs nothing: near-instant, on a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from computehub_ext.backends.capabilities import BerthRequest, PoolLike
from computehub_ext.backends.model import (
    ENDINGS,
    Backend,
    Ending,
    Health,
    KernelLimits,
    Look,
    LookState,
    Placed,
    StartRequest,
    check_placement_id,
)
from computehub_ext.core.clock import Clock
from computehub_ext.core.errors import NoCapacity, NotFound, Refused, Unreachable

_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_INSIDE = (LookState.READY, LookState.RUNNING)
_HELD = (LookState.STARTING, *_INSIDE)


@dataclass
class FakePlacement:
    look: Look
    request: StartRequest | None = None
    placed: Placed | None = None
    paid_until: datetime | None = None
    interrupts: int = 0
    log: str = ""
    berth: BerthRequest | None = None


@dataclass
class FakePlace:
    """What outlives a backend, as a machine outlives the server that uses it. Tests look into it and break it."""

    placements: dict[str, FakePlacement] = field(default_factory=dict)
    room: int | None = None
    """How many may run at once; None for no end of room."""
    refusal: str = ""
    """If set, starts are refused with it."""
    berth_lead: timedelta = timedelta(0)
    """How long before a booking its place is asked for; nothing for a place where only the calendar counts."""
    berth_ends_at: datetime | None = None
    """When the place ends what was asked for as a berth, whatever was wanted."""
    healthy: bool = True
    unreachable: bool = False
    """Nobody can ask the place anything; what runs there goes on as it is paid."""
    before_start: Callable[[StartRequest], None] = lambda request: None
    """Called before anything is written down; raise here to lose the call on its way."""
    after_start: Callable[[StartRequest], None] = lambda request: None
    """Called when the kernel runs; raise here to lose the answer."""
    limits: KernelLimits = field(default_factory=KernelLimits)
    ports_used: int = 20_000
    warm: int = 0
    warm_wanted: int = 0
    expected: list[str] = field(default_factory=list)
    """The models that somebody might want soon, as the place was told."""
    lock: threading.RLock = field(default_factory=threading.RLock)


class FakeBackend(Backend):
    """Obeys the contract as far as something can that runs no code.

    Parameters
    ----------
    clock:
        Decides when a placement is unpaid.
    place:
        Shared with a second backend, it is what a restarted server finds.
    """

    name = "fake"

    def __init__(self, clock: Clock, place: FakePlace | None = None) -> None:
        self.clock = clock
        self.place = place or FakePlace()

    def start(self, request: StartRequest) -> Placed:
        if request.paid_until <= self.clock.now():
            raise Refused("The time that was paid for has passed before the kernel was started.")
        self._ask()
        self.place.before_start(request)
        with self.place.lock:
            self._end_the_unpaid()
            found = self.place.placements.get(request.placement_id)
            if found is None:
                found = self._place(request)
            elif found.look.state is LookState.READY:
                found = self._place(request, found.berth)
            elif found.look.state is LookState.STARTING:
                self._end(found, Ending.START_FAILED, None, self.clock.now())
                raise NoCapacity("There is no room on this machine now.")
            elif found.placed is None or found.look.state is LookState.ENDED:
                raise Refused(found.look.message)
        self.place.after_start(request)
        assert found.placed is not None
        return found.placed

    def _place(self, request: StartRequest, berth: BerthRequest | None = None) -> FakePlacement:
        if self.place.refusal:
            raise Refused(self.place.refusal)
        if berth is None and not self._has_room():
            raise NoCapacity("There is no room on this machine now.")
        ports = {name: self.place.ports_used + number for number, name in enumerate(_PORTS)}
        self.place.ports_used += len(_PORTS)
        warm = self.place.warm > 0
        self.place.warm -= warm
        info = {
            "transport": "tcp",
            "ip": "127.0.0.1",
            **ports,
            "key": request.session_key.decode("ascii"),
            "signature_scheme": "hmac-sha256",
        }
        placement = FakePlacement(
            look=Look(request.placement_id, LookState.RUNNING),
            request=request,
            placed=Placed(
                request.placement_id,
                info,
                warm=warm,
                pid=None,
                python_version="3.11.0",
                ends_at=self.place.berth_ends_at if berth else None,
            ),
            paid_until=request.paid_until,
            berth=berth,
        )
        self.place.placements[request.placement_id] = placement
        return placement

    def look(self, placement_id: str) -> Look:
        self._ask()
        with self.place.lock:
            self._end_the_unpaid()
            found = self.place.placements.get(check_placement_id(placement_id))
            return Look(placement_id, LookState.UNKNOWN) if found is None else found.look

    def interrupt(self, placement_id: str) -> None:
        self._ask()
        with self.place.lock:
            self._running(placement_id).interrupts += 1

    def stop(self, placement_id: str, grace_seconds: float = 2.0) -> None:
        self._ask()
        self.end(placement_id, Ending.STOPPED, None)

    def renew(self, placement_id: str, paid_until: datetime) -> None:
        self._ask()
        with self.place.lock:
            self._running(placement_id).paid_until = paid_until

    def list_placements(self) -> list[Look]:
        self._ask()
        with self.place.lock:
            self._end_the_unpaid()
            return [found.look for found in self.place.placements.values() if found.look.state in _HELD]

    @property
    def berth_lead(self) -> timedelta:
        return self.place.berth_lead

    def ask_berth(self, request: BerthRequest) -> datetime:
        self._ask()
        if request.kept_until <= self.clock.now():
            raise Refused("The time up to which it was to be kept has passed.")
        with self.place.lock:
            found = self.place.placements.get(request.placement_id)
            if found is None:
                if self.place.refusal:
                    raise Refused(self.place.refusal)
                look = Look(request.placement_id, LookState.STARTING)
                found = FakePlacement(look, paid_until=request.kept_until, berth=request)
                self.place.placements[request.placement_id] = found
                self._let_in()
            elif found.look.state is LookState.ENDED:
                raise Refused(found.look.message)
        return self.place.berth_ends_at or request.ends_at

    def await_berth(self, placement_id: str) -> None:
        self._ask()
        with self.place.lock:
            if self._running(placement_id).look.state is LookState.STARTING:
                raise NoCapacity("Others are in the way.")

    def log(self, placement_id: str) -> str:
        self._ask()
        found = self.place.placements.get(placement_id)
        if found is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        return found.log

    def limits(self) -> KernelLimits:
        return self.place.limits

    def health(self) -> Health:
        return Health(self.place.healthy, "" if self.place.healthy else "The machine is not well.")

    def prepare(self, pools: Sequence[PoolLike]) -> None:
        self.place.warm = self.place.warm_wanted if pools else 0

    def expect(self, model: str) -> None:
        self.place.expected.append(model)

    @property
    def warm_count(self) -> int:
        return self.place.warm

    def end(self, placement_id: str, reason: Ending, exit_code: int | None = -9) -> None:
        """End a placement as something else than ``stop`` would: for tests of what happens when a kernel dies."""
        with self.place.lock:
            self._end_the_unpaid()
            empty = FakePlacement(Look(check_placement_id(placement_id), LookState.UNKNOWN))
            found = self.place.placements.setdefault(placement_id, empty)
            if found.look.state is not LookState.ENDED:
                self._end(found, reason, exit_code, self.clock.now())

    def _end(self, found: FakePlacement, reason: Ending, exit_code: int | None, at: datetime) -> None:
        found.look = replace(
            found.look,
            state=LookState.ENDED,
            exit_code=exit_code,
            reason=reason,
            message=ENDINGS[reason],
            ended_at=at.astimezone(UTC),
        )

    def _has_room(self) -> bool:
        inside = sum(found.look.state in _INSIDE for found in self.place.placements.values())
        return self.place.room is None or inside < self.place.room

    def _let_in(self) -> None:
        for found in self.place.placements.values():
            if found.look.state is LookState.STARTING and self._has_room():
                found.look = replace(found.look, state=LookState.READY)

    def _end_the_unpaid(self) -> None:
        self._let_in()
        for found in self.place.placements.values():
            runs = found.look.state in _HELD
            if runs and found.paid_until is not None and found.paid_until <= self.clock.now():
                self._end(found, Ending.UNPAID, -15, found.paid_until)

    def _ask(self) -> None:
        if self.place.unreachable:
            raise Unreachable("The machine does not answer.")

    def _running(self, placement_id: str) -> FakePlacement:
        self._end_the_unpaid()
        found = self.place.placements.get(placement_id)
        if found is None:
            raise NotFound("There is no such placement here.", placement_id=placement_id)
        if found.look.state not in _HELD:
            raise Refused(found.look.message)
        return found
