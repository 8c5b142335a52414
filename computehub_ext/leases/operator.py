"""What the control plane does to the places where kernels run: start, stop, renew, reconcile.

Each step is: write the intent and commit; act; write down what came of it. A crash between any two leaves a row that
``reconcile`` finds, and at worst a kernel that its supervisor ends at ``paid_until``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from computehub_ext.backends.capabilities import Logs, Terminal, TerminalRequest, Terminals
from computehub_ext.backends.model import ENDINGS, Backend, Ending, KernelLimits, Look, LookState, StartRequest
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Booking
from computehub_ext.core.clock import Clock
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import BackendError, ComputeHubError, NotFound, Refused
from computehub_ext.core.settings import Settings
from computehub_ext.leases import service, store
from computehub_ext.leases.asking import Places
from computehub_ext.leases.berth_keeper import BerthKeeper
from computehub_ext.leases.endings import Sight, end_of, sight_of, still_ahead, waits_for_restart
from computehub_ext.leases.model import ENDS_AT, EndReason, Lease, LeaseState, Placement, PlacementState
from computehub_ext.leases.starts import KernelRequest, StartedPlacement
from computehub_ext.leases.warm_places import WarmPlaces
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import Device, Pool

log = logging.getLogger(__name__)

STOP_GRACE = timedelta(seconds=5)

T = TypeVar("T")


class LeaseOperator:
    """Runs leases on backends. Synchronous; called from the edge's thread pools and from the ticker.

    Parameters
    ----------
    backends:
        By name, as pools name them.
    """

    def __init__(
        self,
        database: Database,
        calendar: Calendar,
        backends: Mapping[str, Backend],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._database = database
        self._calendar = calendar
        self._places = Places(backends, clock)
        self._clock = clock
        self._settings = settings
        self._seen_at: dict[str, datetime] = {}
        """When each placement was last seen to run, since this control plane started."""
        self._starting: set[str] = set()
        """The placements that are being started here, from before their intent is committed."""
        self._unseen: dict[str, bool] = {}
        """The running leases of which no kernel was seen to run when that was last tried, and whether each is merely
        silent on a machine that answers."""
        self._keeper = BerthKeeper(database, backends, clock, settings, self._places.watch)
        self.warm = WarmPlaces(database, backends)

    def start(self, lease_id: str, wanted: KernelRequest) -> StartedPlacement:
        """Start a kernel for the lease. After a failure nothing runs and the lease still stands: the caller decides."""
        self._keeper.await_for(self._database.read(lambda unit: service.find(unit, lease_id)).booking_id)
        now = self._clock.now()

        def intend(unit: Unit) -> tuple[Lease, Placement, list[Device], Pool]:
            pool = pools.get_pool(unit, service.find(unit, lease_id).pool_id)
            lease, placement, devices = service.intend_placement(
                unit, lease_id=lease_id, backend=pool.backend, now=now, has_berths=self._keeper.has(pool.backend)
            )
            unit.on_rollback(lambda: self._starting.discard(placement.id))
            self._starting.add(placement.id)
            return lease, placement, devices, pool

        lease, placement, devices, pool = self._database.write(intend)
        request = StartRequest(
            placement_id=placement.id,
            kernel_name=wanted.kernel_name,
            cwd=wanted.cwd,
            env=dict(wanted.env),
            devices=tuple(devices),
            model=pool.model,
            simulated=pool.simulated,
            session_key=wanted.session_key,
            username=wanted.username,
            # Until the lease runs nobody pays, so a start that is forgotten ends by itself soon. As does one that comes
            # when the paid time went by without a kernel.
            paid_until=still_ahead(lease.paid_until, now) or now + self._settings.start_timeout,
            ends_at=lease.ends_at,
        )
        try:
            placed = self._places.ask(pool.backend, lambda backend: backend.start(request))
            details = {**placed.details, **({ENDS_AT: placed.ends_at.isoformat()} if placed.ends_at else {})}
            self._database.write(
                lambda unit: store.placement_started(unit, placement.id, warm=placed.warm, details=details)
            )
        except ComputeHubError:
            self._end_placement(placement)
            raise
        finally:
            self._starting.discard(placement.id)
        return StartedPlacement(placement, placed, tuple(devices))

    def run(self, lease_id: str) -> Lease:
        """The notebook moved: bill from now, and tell the supervisor how long is paid."""
        lease = self._database.write(
            lambda unit: service.mark_running(unit, lease_id=lease_id, settings=self._settings, now=self._clock.now())
        )
        self._renew([lease])
        return lease

    def end(self, lease_id: str, reason: EndReason, message: str | None = None) -> Lease:
        """Settle the lease now, then stop what runs for it. May be called again after a failure of the second half.

        That its kernel died is somebody's word; what the place says of the end goes before it, with its moment.
        """
        now = self._clock.now()
        if reason is EndReason.KERNEL_DIED and (look := self._death(lease_id)) is not None:
            self._settle_dead(self._database.read(lambda unit: service.find(unit, lease_id)), look, now)
            return self._database.read(lambda unit: service.find(unit, lease_id))
        self._database.write(lambda unit: self.begin_closing(unit, lease_id, reason, message, now=now))
        return self._finish(lease_id)

    def begin_closing(
        self, unit: Unit, lease_id: str, reason: EndReason, message: str | None = None, *, now: datetime
    ) -> Lease:
        """Settle the lease in the caller's transaction, whoever ends it: what nobody saw run is not billed."""
        return service.begin_closing(
            unit,
            self._calendar,
            lease_id=lease_id,
            reason=reason,
            message=message,
            now=now,
            billed_until=self._last_seen(unit, service.find(unit, lease_id), now),
        )

    def _last_seen(self, unit: Unit, lease: Lease, now: datetime) -> datetime | None:
        """Until when a lease is billed that ends while its place is out of sight; None where the place is in sight."""
        is_silent = self._unseen.get(lease.id)
        if is_silent is None or lease.paid_until is None:
            return None
        placements = store.placements_of(unit, lease.id)
        known = [self._seen_at[p.id] for p in placements if p.id in self._seen_at]
        if not known and not any(p.state is PlacementState.STARTED for p in placements):
            known = [p.ended_at for p in placements if p.ended_at is not None]
        if is_silent:
            known = [now]  # it may be so by its own code
        return max(min(max(known, default=now), lease.paid_until), lease.started_at or now)

    def _death(self, lease_id: str) -> Look | None:
        started = [each for each in self._placements(lease_id) if each.state is PlacementState.STARTED]
        try:
            looks = [self._look(each) for each in started]
        except ComputeHubError:
            return None
        return looks[0] if len(looks) == 1 and looks[0].state is LookState.ENDED else None

    def _finish(self, lease_id: str) -> Lease:
        for placement in self._placements(lease_id):
            if placement.state is not PlacementState.ENDED and not self._end_placement(placement):
                return self._database.read(lambda unit: service.find(unit, lease_id))
        return self._database.write(lambda unit: service.finish_closing(unit, lease_id=lease_id, now=self._clock.now()))

    def end_placement(self, placement_id: str) -> None:
        """Stop one placement of a lease that goes on elsewhere: a restart, or the loser of a failed move."""
        placement = self._database.read(lambda unit: store.placement(unit, placement_id))
        if placement is not None and placement.state is not PlacementState.ENDED:
            self._end_placement(placement)

    def _end_placement(self, placement: Placement, at: datetime | None = None) -> bool:
        """Stop it and say so in the books; False when the backend could not yet, and the reconciler tries again."""
        try:
            self._places.watch(
                placement.backend, lambda backend: backend.stop(placement.id, STOP_GRACE.total_seconds())
            )
        except BackendError as error:
            log.warning("placement %s is not ended yet: %s", placement.id, error)
            return False
        self._database.write(lambda unit: store.placement_ended(unit, placement.id, at or self._clock.now()))
        return True

    def look(self, placement_id: str) -> Look:
        return self._look(self._placement(placement_id))

    def interrupt(self, placement_id: str) -> None:
        self._with_backend(placement_id, lambda backend: backend.interrupt(placement_id))

    def log(self, placement_id: str) -> str | None:
        """The end of what a placement's kernel wrote outside its channels; None where its place keeps no log of it."""

        def read(backend: Backend) -> str | None:
            return backend.log(placement_id) if isinstance(backend, Logs) else None

        try:
            return self._with_backend(placement_id, read)
        except NotFound:
            return None  # it ended long ago, or never came about

    def log_of_booking(self, booking_id: str) -> str | None:
        """What a booking that is to be used waits for, where its place was asked for it ahead."""
        return self._keeper.log(booking_id)

    def open_terminal(self, request: TerminalRequest) -> Terminal:
        """A shell beside a placement's kernel. Whether somebody may have one was decided before."""

        def begin(backend: Backend) -> Terminal:
            if not isinstance(backend, Terminals):
                raise Refused("There are no terminals at this place.")
            return backend.open_terminal(request)

        return self._with_backend(request.placement_id, begin)

    def _with_backend(self, placement_id: str, act: Callable[[Backend], T]) -> T:
        return self._places.ask(self._placement(placement_id).backend, act)

    def _placement(self, placement_id: str) -> Placement:
        placement = self._database.read(lambda unit: store.placement(unit, placement_id))
        if placement is None:
            raise NotFound(f"There is no placement {placement_id}.", placement_id=placement_id)
        return placement

    def unwell(self) -> dict[str, str]:
        """The places where a start would fail, by name, and why; as of a moment ago."""
        return self._places.unwell()

    def limits(self, place: str) -> KernelLimits:
        """What one kernel may use there."""
        return self._places.limits(place)

    def _look(self, placement: Placement) -> Look:
        look = self._places.watch(placement.backend, lambda backend: backend.look(placement.id))
        if look.reason is Ending.OUT_OF_MEMORY and look.message == ENDINGS[Ending.OUT_OF_MEMORY]:
            return replace(look, message=self.limits(placement.backend).exceeded())
        return look

    def _placements(self, lease_id: str) -> list[Placement]:
        return self._database.read(lambda unit: store.placements_of(unit, lease_id))

    def tell(self, lease_id: str) -> None:
        """Tell the lease's supervisor how long is paid, now: a shortened lease must not run on unpaid."""
        self._renew([self._database.read(lambda unit: service.find(unit, lease_id))])

    def _renew(self, leases: list[Lease]) -> None:
        for lease in leases:
            for placement in self._placements(lease.id):
                if placement.state is not PlacementState.STARTED or lease.paid_until is None:
                    continue
                try:
                    self._renew_at(placement, lease.paid_until)
                except ComputeHubError as error:
                    # Unrenewed it ends at the old paid_until: nobody is billed past what was told to the supervisor.
                    log.warning("placement %s was not renewed: %s", placement.id, error)

    def _renew_at(self, placement: Placement, paid_until: datetime) -> None:
        self._places.watch(placement.backend, lambda backend: backend.renew(placement.id, paid_until))

    def tick(self) -> None:
        """Meter, pay ahead, end what is over, mend what a crash left: what the control plane does every few seconds."""
        self._places.check_health(self._clock.now())
        seen_at = self._clock.now()
        unseen = self.reconcile()  # first, so that nobody pays on for a kernel that has ended
        renewed = self._database.write(
            lambda unit: service.renew_and_meter(unit, settings=self._settings, except_for=unseen, now=seen_at)
        )
        self._renew(renewed)
        now = self._clock.now()
        for lease in self._database.read(lambda unit: store.in_states(unit, [LeaseState.RUNNING])):
            if now >= lease.ends_at:
                self.end(lease.id, EndReason.TIME_UP)
        self.warm.tick(now)
        self._keep_berths()  # after all that leases need; before anybody is charged for what was kept
        self._database.write(
            lambda unit: bookings.expire_missed(
                unit, self._calendar, grace=self._settings.no_show_grace, now=now, kept=self._keeper.kept
            )
        )

    def _keep_berths(self) -> None:
        try:
            self._keeper.tick()
        except Exception:
            log.exception("what is kept for bookings could not be seen after; the next beat tries again")

    def give_back(self) -> None:
        """What no booking needs any more goes back at once, whatever the beat is at; then as ``reconcile``."""
        self._keeper.give_back(self._clock.now())
        self.reconcile()

    def kept(self, unit: Unit, booking: Booking) -> datetime | None:
        """Since when a booking's devices have been kept; None while its place has given none."""
        return self._keeper.kept(unit, booking)

    def reconcile(self, *, after_restart: bool = False) -> set[str]:
        """Make the books and the places agree; return the running leases of which no kernel was seen to run.

        Parameters
        ----------
        after_restart:
            The control plane has just started: a lease whose start was under way has lost the switch that asked for it.
        """
        now = self._clock.now()
        live = self._database.read(store.in_states)
        if after_restart:
            self._tell_the_new(live, now)
        unseen = set()
        for lease in live:
            if lease.state is LeaseState.CLOSING:
                self._finish(lease.id)
            elif lease.state is LeaseState.RUNNING:
                sight = self._check_running(lease, now)
                if sight is Sight.SEEN:
                    self._unseen.pop(lease.id, None)
                else:
                    unseen.add(lease.id)
                    self._unseen[lease.id] = sight is Sight.SILENT
            elif after_restart or now - lease.created_at > self._settings.start_timeout:
                self.end(lease.id, EndReason.START_FAILED)
        for lease_id in self._unseen.keys() - {lease.id for lease in live}:
            self._unseen.pop(lease_id, None)
        self._stop_strays()
        return unseen

    def _tell_the_new(self, live: list[Lease], now: datetime) -> None:
        """Tell supervisors what was paid first, which nobody may have: they give a kernel the time of a start alone."""
        self._renew([each for each in live if not each.posted_microcredits and still_ahead(each.paid_until, now)])

    def _check_running(self, lease: Lease, now: datetime) -> Sight:
        """Settle the lease if its kernel has ended; tell whether its kernel was seen."""
        placements = self._placements(lease.id)
        started = [p for p in placements if p.state is PlacementState.STARTED]
        self._end_abandoned(p for p in placements if p.state is PlacementState.INTENDED)
        if not started:
            # A restart is between two placements; it may take as long as a start may.
            last = max((p.ended_at or p.created_at for p in placements), default=lease.created_at)
            self._unseen[lease.id] = False  # so that the time without a kernel is not billed, should none come
            if now - last > self._settings.start_timeout:
                self.end(lease.id, EndReason.KERNEL_DIED)
            return Sight.NONE
        sight = Sight.SEEN
        for placement in started:
            try:
                look = self._look(placement)
                if look.state is LookState.UNKNOWN:  # a place that lost its records can't say that anything runs
                    raise NotFound("the place knows nothing of it")
            except ComputeHubError as error:
                log.warning("placement %s can't be seen: %s", placement.id, error)
                sight = Sight.NONE
                self._give_up_unseen(lease, placement, now)
                continue
            if look.state is not LookState.ENDED:
                seen_at = look.heard_at or now
                # Never back: what was seen may be billed by now, and a silence counts from the last word.
                self._seen_at[placement.id] = max(seen_at, self._seen_at.get(placement.id, seen_at))
                sight = min(sight, sight_of(look))
                continue
            sight = Sight.NONE
            if not waits_for_restart(look, now):
                self._settle_dead(lease, look, now)
        return sight

    def _end_abandoned(self, intended: Iterable[Placement]) -> None:
        """End what nobody starts any more: its control plane was killed, or could not end a start that had failed."""
        for placement in intended:
            if placement.id not in self._starting and self._is_intended(placement.id):
                self._end_placement(placement, at=placement.created_at)

    def _is_intended(self, placement_id: str) -> bool:
        """Whether it still is: a start may have been done since its placement was read."""
        found = self._database.read(lambda unit: store.placement(unit, placement_id))
        return found is not None and found.state is PlacementState.INTENDED

    def _give_up_unseen(self, lease: Lease, placement: Placement, now: datetime) -> None:
        """Close a lease on a place that was not seen until all that is paid for is over: unrenewed, its supervisor has
        ended the kernel. Billed is what the user had of it for sure. Its devices stay taken until the place says that
        nothing runs there any more."""
        if lease.paid_until is None or now < lease.paid_until:
            return
        seen_at = self._seen_at.get(placement.id, lease.paid_until)
        lost = Look(
            placement.id, LookState.ENDED, reason=Ending.NODE_LOST, message=ENDINGS[Ending.NODE_LOST], ended_at=seen_at
        )
        self._settle_dead(lease, lost, now)

    def _settle_dead(self, lease: Lease, look: Look, now: datetime) -> None:
        end = end_of(lease, look, seen_at=self._seen_at.get(look.placement_id), now=now)
        self._database.write(
            lambda unit: service.begin_closing(
                unit,
                self._calendar,
                lease_id=lease.id,
                reason=end.reason,
                message=end.message,
                now=now,
                billed_until=end.billed_until,
            )
        )
        for placement in self._placements(lease.id):
            self._seen_at.pop(placement.id, None)
        self._finish(lease.id)

    def _stop_strays(self) -> None:
        """End what runs under our label without a row that says it may."""
        for name in self._places.backends:
            try:
                running = self._places.watch(name, lambda backend: backend.list_placements())
            except BackendError as error:
                log.warning("place %s can't be listed: %s", name, error)
                continue
            # Read after listing: intents are committed before a start, so what was listed has its row by now.
            wanted = self._database.read(store.wanted_ids)
            for look in running:
                if look.placement_id not in wanted and look.state is not LookState.ENDED:
                    log.warning("placement %s runs without a lease: stopping it", look.placement_id)
                    self._stop_stray(name, look.placement_id)

    def _stop_stray(self, name: str, placement_id: str) -> None:
        try:
            self._places.watch(name, lambda backend: backend.stop(placement_id, STOP_GRACE.total_seconds()))
        except BackendError as error:
            log.warning("placement %s is not ended yet: %s", placement_id, error)

    def end_all(self, reason: EndReason, kernel_ids: Collection[str] | None = None) -> None:
        """Close every live lease, or each of these kernels: the demo's Ctrl-C, or an administrator's stop."""
        for lease in self._database.read(store.in_states):
            if kernel_ids is None or lease.kernel_id in kernel_ids:
                self.end(lease.id, reason)
        if kernel_ids is None:
            self._keeper.give_all_back()
