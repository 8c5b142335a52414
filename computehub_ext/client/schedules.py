"""The facade's calls that change bookings as a calendar does: move one, book a series, take it all along."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.bookings import moving, series
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.model import Booking
from computehub_ext.bookings.series import Series, SeriesWish, whole_second
from computehub_ext.client.bookings import BookingCalls
from computehub_ext.client.edge import moment
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Invalid
from computehub_ext.leases import service as leases
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import Lease
from computehub_ext.leases.requests import called
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person
from computehub_ext.pools import service as pools
from computehub_ext.reports.ical import as_icalendar

SHOWN_BACK = timedelta(days=30)
SHOWN_MAX = 1000
JUST_NOW = timedelta(minutes=1)
"""People drag to the minute: a start that went by within this is now."""


class ScheduleCalls(BookingCalls):
    async def move_booking(
        self,
        actor: Actor,
        key: str,
        booking_id: str,
        starts_at: str | None = None,
        duration_seconds: int | None = None,
        count: int | None = None,
        approval_id: str | None = None,
    ) -> Json:
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}
        limits = bookings.limits_of(self.settings)
        spend = self._spender(actor, key, approval_id)
        moved_leases: list[str] = []

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            booking = bookings.find(unit, booking_id, person_id=person.id)
            changed = moving.moved(
                booking,
                start_at=None if starts_at is None else _start(starts_at, booking, now),
                duration=None if duration_seconds is None else timedelta(seconds=duration_seconds),
                count=count,
                now=now,
                limits=limits,
            )
            lease = lease_store.lease_of_booking(unit, booking.id)
            if lease is not None and lease.ended_at is None:
                longer = self._move_end_of(unit, actor, person, lease, booking, changed, key, approval_id, now)
                if isinstance(longer, ApprovalWanted):
                    return longer
                moved_leases[:] = [lease.id]  # it may be done twice
                return self._booking_view(unit, bookings.find(unit, booking.id))
            more = changed.amount_microcredits - booking.amount_microcredits
            if actor.via is Via.KERNEL and more > 0:
                purpose = f"booking {booking.id} moved to {views.moment(changed.span.start_at)}"
                outcome = spend(unit, person, more, purpose, booking.notebook_path, now, booking.id)
                if isinstance(outcome, ApprovalWanted):
                    return outcome
            changed = moving.move(
                unit, self._calendar, booking=booking, changed=changed, key=key, now=now, limits=limits
            )
            return self._booking_view(unit, changed)

        answer = await self._once(actor, key, "move_booking", inputs, work)
        for lease_id in moved_leases:
            await self._pools.run("backend", partial(self._operator.tell, lease_id))
        return answer

    def _move_end_of(
        self,
        unit: Unit,
        actor: Actor,
        person: Person,
        lease: Lease,
        booking: Booking,
        changed: Booking,
        key: str,
        approval_id: str | None,
        now: datetime,
    ) -> Lease | ApprovalWanted:
        """A booking in use ends with its lease: money, calendar and the kernel's paid time follow that one's end."""
        self._own_lease(unit, actor, person, lease.id)
        by = changed.span.end_at - booking.span.end_at
        if not by:
            return lease
        earliest = now + self.settings.closing_reserve
        if lease.ends_at + by < earliest:
            raise Invalid(
                f"The lease on it can end at {views.moment(earliest)} at the earliest; end the lease to stop now.",
                field="duration_seconds",
            )
        return leases.change_end(
            unit,
            self._calendar,
            lease_id=lease.id,
            person=person,
            by=by,
            key=key,
            from_kernel=actor.via is Via.KERNEL,
            approval_id=approval_id,
            settings=self.settings,
            now=now,
        )

    async def book_series(
        self,
        actor: Actor,
        key: str,
        model: str,
        time_zone: str,
        duration_seconds: int,
        rrule: str,
        count: int = 1,
        starts_at: str | None = None,
        when: str | None = None,
        notebook_path: str | None = None,
        skip_taken: bool = False,
        approval_id: str | None = None,
    ) -> Json:
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}
        limits = bookings.limits_of(self.settings)
        spend = self._spender(actor, key, approval_id)

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            if starts_at is None and when is None:
                raise Invalid("Say when the first one starts, as `starts_at` or `when`.", field="starts_at")
            span = self._span(person, starts_at, when, time_zone, duration_seconds, now)
            wish = SeriesWish(model, count, whole_second(span.start_at), span.duration, rrule, time_zone)
            outcome = None
            if actor.via is Via.KERNEL:
                # All of them are asked for at once: one approval, or one part of the allowance.
                quote = series.quote_series(unit, self._calendar, wish=wish, now=now, limits=limits)
                times, first_at = len(quote.occurrences or ()), views.moment(wish.start_at)
                purpose = f"{times} bookings of {wish.count} × {called(quote.pool)} from {first_at}"
                outcome = spend(unit, person, quote.amount_microcredits, purpose, notebook_path, now)
                if isinstance(outcome, ApprovalWanted):
                    return outcome
            booked = series.book_series(
                unit,
                self._calendar,
                person=person,
                wish=wish,
                notebook_path=notebook_path,
                skip_taken=skip_taken,
                now=now,
                limits=limits,
            )
            if outcome is not None:
                people.refer_spending(unit, person_id=person.id, key=key, reference=booked.id)
            return self._series_view(unit, booked)

        return await self._once(actor, key, "book_series", inputs, work)

    def _series_view(self, unit: Unit, found: Series) -> Json:
        return views.series(found, items=self._booking_views(unit, found.bookings))

    async def series(self, actor: Actor, series_id: str) -> Json:
        return await self._as_person(
            actor,
            lambda unit, person, now: self._series_view(unit, series.find_series(unit, series_id, person_id=person.id)),
        )

    async def cancel_series(self, actor: Actor, key: str, series_id: str) -> Json:
        def work(unit: Unit, person: Person, now: datetime) -> Json:
            for each in series.cancel_series(
                unit, self._calendar, series_id=series_id, person_id=person.id, now=now
            ):  # what a kernel spent on moving one of them is its own
                people.release_allowance(unit, reference=each.id, amount_microcredits=each.amount_microcredits, now=now)
            found = series.find_series(unit, series_id, person_id=person.id)
            series.release_of_series(unit, found, now=now)
            return self._series_view(unit, found)

        return await self._once(actor, key, "cancel_series", {"series_id": series_id}, work)

    async def bookings_calendar(self, actor: Actor) -> Json:
        """The latest bookings and those to come as iCalendar, under ``text``."""

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            found = bookings.list_by_start(unit, person.id, ends_after=now - SHOWN_BACK, limit=SHOWN_MAX)
            # A pool that is no longer offered still has its bookings.
            simulated = {pool_id: pools.get_pool(unit, pool_id).simulated for pool_id in {b.pool_id for b in found}}
            return {"text": as_icalendar([(each, simulated[each.pool_id]) for each in found], now=now)}

        return await self._as_person(actor, view)


def _start(text: str, booking: Booking, now: datetime) -> datetime:
    at = moment(text, "starts_at")
    # A form sends what it was opened with: the start of what has just begun is no wish for another.
    return now if now - JUST_NOW < at < now and at != booking.span.start_at else at
