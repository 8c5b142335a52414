"""Asks places for bookings ahead of time, keeps what they give, and gives back what is not needed any more.

Its row is committed before a berth is asked for, and before it is given back: a crash in between leaves a row that the
next beat goes on with, or something under our label that no row wants, which the reconciler stops.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from computehub_ext.backends.capabilities import BerthRequest, Berths, Logs
from computehub_ext.backends.model import Backend, LookState
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.model import Booking
from computehub_ext.core.clock import Clock
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import BackendError, ComputeHubError, NoCapacity, NotFound, Unreachable
from computehub_ext.core.ids import new_id
from computehub_ext.core.settings import Settings
from computehub_ext.leases import store
from computehub_ext.leases.berths import Berth, BerthState, Plan, keep_until, kept_from, plan
from computehub_ext.people import service as people
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Pool

log = logging.getLogger(__name__)

STOP_SECONDS = 1.0
ASKED_MAX = 8
"""How many berths are asked for in one beat: each may take seconds, and the leases elsewhere wait to be renewed."""

T = TypeVar("T")


class Ask(Protocol):
    """How the operator asks a place."""

    def __call__(self, name: str, act: Callable[[Backend], T], /) -> T: ...


class BerthKeeper:
    """Keeps berths for bookings on the places that know such.

    Parameters
    ----------
    ask:
        Asks a place by its name; ``Unreachable`` where it does not answer.
    """

    def __init__(
        self, database: Database, backends: Mapping[str, Backend], clock: Clock, settings: Settings, ask: Ask
    ) -> None:
        self._database, self._clock, self._settings, self._ask = database, clock, settings, ask
        self._turn = threading.Lock()
        self._left = ASKED_MAX
        """How many may still be asked for in this beat."""
        self._asked: set[str] = set()
        """Those that this control plane asked for: whether an earlier one was cut off in that, only the place knows."""
        self._missed: set[str] = set()
        """Those that were there once and were not at the last beat."""
        self._berths = {
            name: backend
            for name, backend in backends.items()
            if isinstance(backend, Berths) and backend.berth_lead > timedelta(0)
        }

    def has(self, place: str) -> bool:
        """Whether bookings there are asked for ahead."""
        return place in self._berths

    def kept(self, unit: Unit, booking: Booking) -> datetime | None:
        """Since when a booking's devices have been kept; None while its place has given none."""
        if not self._berths or not self.has(pools.get_pool(unit, booking.pool_id).backend):
            return booking.span.start_at
        return kept_from(booking, store.open_berth_of(unit, booking.id))

    def tick(self) -> None:
        """See how the berths are, and do what is due. One at a time."""
        with self._turn:
            self._left = ASKED_MAX
            self._tick()

    def give_back(self, now: datetime) -> None:
        """Give back what no booking needs any more, and nothing else: who cancels waits for no other place."""
        if not self._database.read(store.open_berths):
            return

        def decide(unit: Unit) -> tuple[Berth, ...]:
            made, _ = self._plan(unit, now)
            for berth in made.give_back:
                store.end_berth(unit, berth.id, BerthState.GIVEN_BACK, now)
            return made.give_back

        for berth in self._database.write(decide):
            self._stop(berth)

    def _tick(self) -> None:
        open_berths = self._database.read(store.open_berths)
        open_ids = {berth.id for berth in open_berths}
        self._asked &= open_ids
        self._missed &= open_ids
        if not self._berths and not open_berths:
            return
        for berth in open_berths:
            try:
                is_there = self._see(berth)
            except ComputeHubError as error:
                log.warning("the berth %s can't be seen: %s", berth.id, error)
                is_there = False
            if is_there:
                self._missed.discard(berth.id)
            elif berth.ready_at is not None:
                self._miss(berth)
        now = self._clock.now()
        if self._database.read(lambda unit: self._plan(unit, now)[0]):
            self._carry_out(now)

    def await_for(self, booking_id: str) -> None:
        """Wait for the booking's berth, if one was asked for, as long as a start would.

        Raises
        ------
        NoCapacity
            It is not there yet, and goes on being asked for. Nothing was started, and nothing is billed.
        """
        berth = self._database.read(lambda unit: store.open_berth_of(unit, booking_id))
        if berth is None or berth.backend not in self._berths:
            return
        try:
            self._await(berth)
        except NoCapacity as error:
            words = f"The booked {berth.model} is not there yet. {error.message} It stays asked for: try again soon."
            raise NoCapacity(f"{words} Nothing is billed until your kernel runs.", **error.details) from error
        except Unreachable:
            raise
        except (BackendError, NotFound) as error:
            self._lose(berth, error.message, self._clock.now())  # a start of the ordinary way is what is left

    def _await(self, berth: Berth) -> None:
        backend = self._berths[berth.backend]
        try:
            self._ask(berth.backend, lambda _: backend.await_berth(berth.id))
        except NotFound:
            # Its row comes first: whoever wrote it has not asked yet, was cut off there, or the place lost its records.
            self._ask_for(berth, self._clock.now())
            self._ask(berth.backend, lambda _: backend.await_berth(berth.id))

    def log(self, booking_id: str) -> str | None:
        """What the booking's berth waits for, as its place tells it; None where it tells nothing."""
        berth = self._database.read(lambda unit: store.open_berth_of(unit, booking_id))
        if berth is None:
            return None

        def read(backend: Backend) -> str | None:
            return backend.log(berth.id) if isinstance(backend, Logs) else None

        try:
            return self._ask(berth.backend, read)
        except NotFound:
            return None

    def give_all_back(self) -> None:
        """The control plane goes for good: nobody would come for what it keeps."""
        for berth in self._database.read(store.open_berths):
            self._give_back(berth, self._clock.now())

    # One berth

    def _see(self, berth: Berth) -> bool:
        """Whether it is there."""
        look = self._ask(berth.backend, lambda backend: backend.look(berth.id))
        now = self._clock.now()  # a look may take seconds, and nothing was there before it was seen
        if look.state is LookState.ENDED:
            log.warning("the berth %s is lost: %s", berth.id, look.message)
            self._lose(berth, look.message, now)
        elif look.state is LookState.READY:
            if berth.ready_at is None:
                self._database.write(lambda unit: store.change_berth(unit, berth.id, ready_at=now))
        elif (look.state is LookState.UNKNOWN or berth.id not in self._asked) and self._left > 0:
            self._ask_for(berth, now)
        return look.state is LookState.READY

    def _miss(self, berth: Berth) -> None:
        """Nobody is charged for what nobody could reach, at its second beat: a blink, or our restart, forgives none."""
        if berth.id in self._missed:
            log.warning("the berth %s is out of reach: it counts as there when it is seen again", berth.id)
            self._database.write(lambda unit: store.change_berth(unit, berth.id, ready_at=None))
        self._missed.add(berth.id)

    def _ask_for(self, berth: Berth, now: datetime) -> None:
        backend = self._berths.get(berth.backend)
        if backend is None or not self._is_open(berth):  # given back or taken, while others were asked
            return
        request = BerthRequest(
            placement_id=berth.id,
            model=berth.model,
            device_count=berth.count,
            username=berth.username,
            kept_until=max(berth.kept_until, now + self._settings.no_show_grace),
            ends_at=berth.ends_at,
        )
        try:
            ends_at = self._ask(berth.backend, lambda _: backend.ask_berth(request))
        except Unreachable as error:
            # It takes nothing from the others in this beat: the place is left alone now.
            log.warning("the berth %s could not be asked for: %s", berth.id, error)
            return
        except ComputeHubError as error:
            log.warning("the berth %s was refused: %s", berth.id, error)
            self._lose(berth, error.message, now)
        else:
            self._asked.add(berth.id)
            self._database.write(
                lambda unit: store.change_berth(
                    unit, berth.id, ends_at=max(ends_at, berth.ends_at), kept_until=request.kept_until
                )
            )
        self._left -= 1

    def _lose(self, berth: Berth, message: str, now: datetime) -> None:
        self._database.write(lambda unit: store.end_berth(unit, berth.id, BerthState.LOST, now, message))

    def _give_back(self, berth: Berth, now: datetime) -> None:
        if self._database.write(lambda unit: store.end_berth(unit, berth.id, BerthState.GIVEN_BACK, now)):
            self._stop(berth)

    def _is_open(self, berth: Berth) -> bool:
        return self._database.read(lambda unit: store.berth_is_open(unit, berth.id))

    def _stop(self, berth: Berth) -> None:
        try:
            self._ask(berth.backend, lambda backend: backend.stop(berth.id, STOP_SECONDS))
        except ComputeHubError as error:
            log.warning("the berth %s is not given back yet: %s", berth.id, error)  # the reconciler tries again

    # All of them

    def _plan(self, unit: Unit, now: datetime) -> tuple[Plan, dict[str, Pool]]:
        found = {pool.id: pool for pool in pools.list_pools(unit)}
        leads = {pool.id: self._berths[pool.backend].berth_lead for pool in found.values() if self.has(pool.backend)}
        soon = now + max(leads.values(), default=timedelta(0))
        near = [each for each in bookings.beginning(unit, now=now, before=soon) if each.pool_id in leads]
        made = plan(
            near,
            store.open_berths(unit),
            store.losses_of(unit, [each.id for each in near]),
            leads=leads,
            settings=self._settings,
            now=now,
        )
        return made, found

    def _carry_out(self, now: datetime) -> None:
        def decide(unit: Unit) -> tuple[Plan, list[Berth]]:
            made, found = self._plan(unit, now)
            for berth in made.give_back:
                store.end_berth(unit, berth.id, BerthState.GIVEN_BACK, now)
            for berth, until in made.keep:
                store.change_berth(unit, berth.id, kept_until=until)
            # The soonest first. What is left over has no row yet, so that the next beat plans it anew.
            wanted = sorted(made.ask, key=lambda each: (each.span.start_at, each.id))[: max(0, self._left)]
            asked = [self._new(unit, booking, found[booking.pool_id].backend, now) for booking in wanted]
            for berth in asked:
                store.add_berth(unit, berth)
            return made, asked

        made, asked = self._database.write(decide)
        for berth in made.give_back:
            self._stop(berth)
        for berth in asked:
            self._ask_for(berth, now)
        for berth, until in made.keep:
            self._keep(berth, until)

    def _keep(self, berth: Berth, until: datetime) -> None:
        def renew(backend: Backend) -> None:
            if self._is_open(berth):  # else a kernel runs in it now, and this moment is none that was paid for
                backend.renew(berth.id, until)

        try:
            self._ask(berth.backend, renew)
        except ComputeHubError as error:
            # The old moment stands there: nothing is kept longer than somebody knows of it.
            log.warning("the berth %s is not kept longer: %s", berth.id, error)
            self._database.write(lambda unit: store.change_berth(unit, berth.id, kept_until=berth.kept_until))

    def _new(self, unit: Unit, booking: Booking, backend: str, now: datetime) -> Berth:
        return Berth(
            id=new_id("pl"),
            booking_id=booking.id,
            backend=backend,
            state=BerthState.ASKED,
            model=booking.model,
            count=booking.count,
            username=people.get_person(unit, booking.person_id).username,
            created_at=now,
            kept_until=keep_until(booking, None, self._settings, now),
            ends_at=booking.span.end_at,
        )
