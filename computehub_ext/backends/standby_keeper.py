"""Keeps standby kernels of a place: started before anybody asks, so that a lease begins within milliseconds.

Nobody is billed for one that nobody leased. They are kept to a target, bounded in memory and age, drained when nobody
comes for them, and each is paid for in advance for half a minute only, so that they end by themselves soon after the
control plane is gone. What a standby is, the place knows; ``standby_rules.py`` says how many of which.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from computehub_ext.core.errors import BackendError, NoCapacity

from . import standby_rules as rules
from .standby_rules import Group

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_NO_ROOM_WAIT_SECONDS = 2.0
_CLOSE_SECONDS_MAX = 30.0
FAILURE_WAIT_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Bounds:
    """What the administrator chose, in seconds; each place's settings say what they mean."""

    lifetime_seconds: float
    age_seconds_max: float
    start_seconds_max: float
    replace_delay_seconds: float
    idle_seconds: float


K = TypeVar("K", bound=Hashable)


@dataclass(eq=False)
class Standby(Generic[K]):
    """One of them. A place adds what it knows it by."""

    kind: K
    started_at: float
    is_ready: bool


S = TypeVar("S", bound="Standby[Any]")


class StandbyKeeper(ABC, Generic[K, S]):
    """Does so from one thread, which starts when there is something to keep.

    Parameters
    ----------
    name:
        The place's, for the log.
    clock:
        Seconds that only go on.
    """

    def __init__(self, name: str, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._bounds, self._clock = name, bounds, clock
        self._groups: tuple[Group[K], ...] = ()
        self._needed_at: dict[Group[K], float] = {}
        self._standbys: list[S] = []
        self._not_before = 0.0
        self._failures = 0
        self._problem = ""
        self._renewed_at = float("-inf")
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    # What a place knows. All but ``_is_there`` are called by the thread, or after it has ended.

    @abstractmethod
    def _start(self, kind: K) -> S:
        """Start one and don't wait for it."""

    @abstractmethod
    def _end(self, standby: S) -> None:
        """End one and remove what is left of it."""

    @abstractmethod
    def _pay(self, standby: S, until: datetime) -> None:
        """Let it live until then. Raises ``OSError`` for one that is gone."""

    @abstractmethod
    def _has_ended(self, standby: S) -> bool:
        """Tell whether it ended by itself."""

    @abstractmethod
    def _is_listening(self, standby: S) -> bool:
        """Tell whether it could be taken now."""

    @abstractmethod
    def _log_tail(self, standby: S) -> str:
        """Return what it said last."""

    def _is_there(self, standby: S) -> bool:
        """Tell at once whether one that was ready still is."""
        return True

    def _leased(self, kinds: Collection[K]) -> Collection[K]:
        """Return those of which somebody's kernel has what they were made for."""
        return ()

    def _amiss(self, standbys: Sequence[S]) -> Iterable[tuple[S, str, bool]]:
        """Name those that have to go, why, and whether that is a failure; called each round."""
        return ()

    def _has_room(self, standbys: Sequence[S]) -> bool:
        """Tell whether one more may use the place's memory."""
        return True

    def _after_round(self) -> None:
        """Clear up."""

    # Whoever starts kernels

    @property
    def ready_count(self) -> int:
        with self._lock:
            return sum(standby.is_ready and self._is_there(standby) for standby in self._standbys)

    def keep(self, groups: Sequence[Group[K]]) -> None:
        """Keep these from now on and let the others go, without waiting for either."""
        with self._lock:
            if self._closed:
                return
            self._groups = tuple(group for group in groups if group.count and group.kinds)
            self._needed_at = dict.fromkeys(self._groups, self._clock())
            if self._thread is None and self._groups:
                name = f"computehub-standby-{self._name}"
                self._thread = threading.Thread(target=self._keep, name=name, daemon=True)
                self._thread.start()
        self._wake.set()

    def expect(self, model: str) -> None:
        """Somebody may want one for this model soon: what went since nobody came is started again. Returns at once."""
        with self._lock:
            self._note_need(model)
        self._wake.set()

    def take(self, model: str, suits: Callable[[S], bool]) -> S | None:
        """Return a ready standby that is from now on the caller's, or None; either way somebody needed one."""
        with self._lock:
            found = next((each for each in self._standbys if self._could_be(each, suits)), None)
            self._note_need(model)
            if found is not None:
                self._standbys.remove(found)
            # The user's first cell runs meanwhile, or the kernel starts that could not be taken.
            if found is not None or self._clock() >= self._not_before:
                self._not_before = self._clock() + self._bounds.replace_delay_seconds
        if found is None:
            self._wake.set()  # it may be at rest
        return found

    def _could_be(self, standby: S, suits: Callable[[S], bool]) -> bool:
        return standby.is_ready and self._is_there(standby) and suits(standby)

    def give_back(self, standby: S) -> None:
        with self._lock:
            self._standbys.append(standby)
        self._wake.set()

    def close(self) -> None:
        with self._lock:
            self._closed, self._groups = True, ()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=_CLOSE_SECONDS_MAX)
        with self._lock:
            standbys, self._standbys = self._standbys, []
        self._end_all(standbys)

    def _end_all(self, standbys: Sequence[S]) -> None:
        for standby in standbys:
            self._end(standby)

    def _note_need(self, model: str) -> None:
        for group in self._groups:
            if model in group.models:
                self._needed_at[group] = self._clock()

    # The thread

    def _keep(self) -> None:
        while not self._closed:
            is_at_rest = False
            try:
                is_at_rest = self.go_round()
            except NoCapacity:  # the image is being pulled, which is logged there
                self._wait_for(_NO_ROOM_WAIT_SECONDS)
            except Exception as problem:
                self._note_problem(problem)
            self._wake.wait(None if is_at_rest else _TICK_SECONDS)
            self._wake.clear()

    def go_round(self) -> bool:
        """Do what is due; tell whether there is nothing to do until somebody comes."""
        now = self._clock()
        if now - self._renewed_at > self._bounds.lifetime_seconds / 3:
            # A third, so that two missed beats are survivable.
            self._renewed_at = now
            self._renew()
        self._look_after_all(now)
        needed = self._needed(now)
        wanted = self._wanted(needed)
        there = self._copy()
        change = rules.change(wanted, [standby.kind for standby in there])
        for position in change.surplus:
            self._drop(there[position], "", failed=False)
        if change.lacking is not None:
            self._start_one(change.lacking, now)
        self._after_round()
        # What is wanted may be none because all of it is leased: nobody wakes this thread when a lease ends.
        return not needed and not self._copy()

    def _renew(self) -> None:
        until = datetime.now(UTC) + timedelta(seconds=self._bounds.lifetime_seconds)
        for standby in self._copy():
            try:
                self._pay(standby, until)
            except OSError:
                pass  # taken or removed in this moment

    def _look_after_all(self, now: float) -> None:
        for standby in self._copy():
            age = now - standby.started_at
            if self._has_ended(standby):
                self._drop(standby, "it ended by itself", failed=not standby.is_ready)
            elif not standby.is_ready:
                if self._is_listening(standby):
                    standby.is_ready, self._failures = True, 0
                elif age > self._bounds.start_seconds_max:
                    self._drop(standby, "it was not ready in time", failed=True)
            elif age > self._bounds.age_seconds_max:
                self._drop(standby, "it is old", failed=False)
        for standby, why, failed in self._amiss(self._copy()):
            self._drop(standby, why, failed=failed)

    def _needed(self, now: float) -> list[Group[K]]:
        with self._lock:
            return [
                group
                for group in self._groups
                if rules.is_needed(self._needed_at[group], now, self._bounds.idle_seconds)
            ]

    def _wanted(self, needed: Sequence[Group[K]]) -> tuple[K, ...]:
        leased = self._leased({kind for group in needed for kind in group.kinds})
        return rules.in_turns(group.wanted(leased) for group in needed)

    def _start_one(self, kind: K, now: float) -> None:
        there = self._copy()
        if any(not standby.is_ready for standby in there):
            return  # one at a time, since a start takes a whole core
        if self._closed or now < self._not_before:
            return
        if not self._has_room(there):
            self._wait_for(FAILURE_WAIT_SECONDS_MAX)
            return
        standby = self._start(kind)
        with self._lock:
            self._standbys.append(standby)  # also when closed meanwhile: close() waits for this thread, then ends all

    def _drop(self, standby: S, why: str, *, failed: bool) -> None:
        with self._lock:
            if standby not in self._standbys:
                return  # taken in this moment
            self._standbys.remove(standby)
        if why:
            tail = self._log_tail(standby) if failed else ""
            log.warning("A standby kernel was dropped: %s. %s", why, tail)
        if failed:
            self._note_failure()
        self._end(standby)

    def _note_problem(self, problem: Exception) -> None:
        """Say why a round failed, and once while the pause lasts that follows: rounds go on meanwhile."""
        is_pause, said = self._clock() < self._not_before, repr(problem)
        if not is_pause or said != self._problem:
            is_known = isinstance(problem, BackendError)
            log.warning(
                "Keeping standby kernels failed; trying again. %s",
                problem if is_known else repr(problem),
                exc_info=None if is_known else problem,
            )
        self._problem = said
        if not is_pause:
            self._note_failure()

    def _note_failure(self) -> None:
        self._failures += 1
        self._wait_for(rules.failure_wait(self._failures, FAILURE_WAIT_SECONDS_MAX))

    def _wait_for(self, seconds: float) -> None:
        self._not_before = max(self._not_before, self._clock() + seconds)

    def _copy(self) -> list[S]:
        with self._lock:
            return list(self._standbys)
