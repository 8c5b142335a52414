"""The facade's calls about offers, quotes and bookings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from computehub_ext.api import views
from computehub_ext.api.views import Json
from computehub_ext.bookings import moving
from computehub_ext.bookings import service as bookings
from computehub_ext.bookings import when as words
from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.bookings.series import SeriesWish, find_series, quote_series, release_of_series, whole_second
from computehub_ext.client.edge import Edge, moment, page_size
from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.cursor import read_cursor, write_cursor
from computehub_ext.core.database import Unit
from computehub_ext.core.errors import Invalid
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.leases import store as lease_store
from computehub_ext.leases.model import EndReason
from computehub_ext.leases.requests import called, spend_allowance
from computehub_ext.people import service as people
from computehub_ext.people.model import ApprovalWanted, Person, Spent
from computehub_ext.pools import service as pools
from computehub_ext.reports import estimate as estimates

Spender = Callable[..., Spent | ApprovalWanted]


class BookingCalls(Edge):
    def _booking_view(self, unit: Unit, booking: Booking) -> Json:
        return views.booking(booking, simulated=pools.get_pool(unit, booking.pool_id).simulated)

    def _booking_views(self, unit: Unit, found: Iterable[Booking]) -> list[Json]:
        """Each as above; each pool is looked up once."""
        found = list(found)
        simulated = {pool_id: pools.get_pool(unit, pool_id).simulated for pool_id in {b.pool_id for b in found}}
        return [views.booking(booking, simulated=simulated[booking.pool_id]) for booking in found]

    async def offers(self, actor: Actor) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            return {"items": [views.offer(each) for each in self._offers(unit, now)], "next": None}

        return await self._as_person(actor, view)

    async def quote(
        self,
        actor: Actor,
        model: str | None = None,
        count: int | None = None,
        starts_at: str | None = None,
        when: str | None = None,
        time_zone: str | None = None,
        duration_seconds: int | None = None,
        max_rate_microcredits_per_hour: int | None = None,
        moving_booking_id: str | None = None,
        rrule: str | None = None,
    ) -> Json:
        limits = bookings.limits_of(self.settings)

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            if moving_booking_id is not None:
                if rrule is not None:
                    raise Invalid("One booking is moved at a time: give `moving_booking_id` or `rrule`.", field="rrule")
                booking = bookings.find(unit, moving_booking_id, person_id=person.id)
                if model is not None and model.lower() != booking.model.lower():
                    raise Invalid(f"A booking keeps its model, {booking.model}.", field="model")
                start_at = booking.span.start_at
                if starts_at is not None or when is not None:
                    start_at = self._span(person, starts_at, when, time_zone, None, now).start_at
                changed = moving.moved(
                    booking,
                    start_at=start_at,
                    duration=None if duration_seconds is None else timedelta(seconds=duration_seconds),
                    count=count,
                    now=now,
                    limits=limits,
                )
                return views.quote(
                    moving.quote_move(unit, self._calendar, booking=booking, changed=changed, now=now, limits=limits)
                )
            span = self._span(person, starts_at, when, time_zone, duration_seconds, now)
            if rrule is not None:
                wish = SeriesWish(
                    model=model,
                    count=count or 1,
                    start_at=whole_second(span.start_at),
                    duration=span.duration,
                    rrule=rrule,
                    time_zone=time_zone or "UTC",
                    max_rate_microcredits_per_hour=max_rate_microcredits_per_hour,
                )
                return views.quote(quote_series(unit, self._calendar, wish=wish, now=now, limits=limits))
            quote = bookings.quote(
                unit,
                self._calendar,
                model=model,
                count=count or 1,
                span=span,
                now=now,
                max_rate_microcredits_per_hour=max_rate_microcredits_per_hour,
            )
            return views.quote(quote)

        return await self._as_person(actor, view)

    def _span(
        self,
        person: Person,
        starts_at: str | None,
        said: str | None,
        time_zone: str | None,
        duration_seconds: int | None,
        now: datetime,
    ) -> TimeSpan:
        if starts_at is not None and said is not None:
            raise Invalid("Give either `starts_at` or `when`, not both.", field="when")
        start = now
        if said is not None:
            start = words.parse_when(said, time_zone or "UTC", now)
        elif starts_at is not None:
            start = words.parse_when(starts_at, "UTC", now)
        duration = self._duration(person, duration_seconds)
        if duration <= timedelta(0):
            raise Invalid("A GPU is held for a time above zero.", field="duration_seconds")
        return TimeSpan.starting(start, duration)

    def _duration(self, person: Person, seconds: int | None) -> timedelta:
        return person.duration(self.settings) if seconds is None else timedelta(seconds=seconds)

    async def availability(self, actor: Actor, pool_id: str, start: str, end: str, step_seconds: int) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            pool = pools.get_pool(unit, pool_id)
            begin, stop = moment(start, "start"), moment(end, "end")
            if stop <= begin:
                raise Invalid("`end` must come after `start`.", field="end")
            window = TimeSpan(begin, stop)
            slots = bookings.availability(self._calendar, pool, span=window, step=timedelta(seconds=step_seconds))
            items = [{"starts_at": views.moment(at), "free": free} for at, free in slots]
            return {"pool_id": pool.id, "count": pool.count, "step_seconds": step_seconds, "items": items}

        return await self._as_person(actor, view)

    def _spender(self, actor: Actor, key: str, approval_id: str | None) -> Spender:
        """How what a kernel asks for under this key is counted against its person's allowance."""

        def spend(
            unit: Unit,
            person: Person,
            amount_microcredits: int,
            purpose: str,
            notebook_path: str | None,
            now: datetime,
            reference: str | None = None,
        ) -> Spent | ApprovalWanted:
            return spend_allowance(
                unit,
                person=person,
                amount_microcredits=amount_microcredits,
                purpose=purpose,
                key=key,
                approval_id=approval_id,
                kernel_id=actor.kernel_id,
                notebook_path=notebook_path,
                reference=reference,
                settings=self.settings,
                now=now,
            )

        return spend

    async def book(
        self,
        actor: Actor,
        key: str,
        model: str | None = None,
        count: int = 1,
        starts_at: str | None = None,
        when: str | None = None,
        time_zone: str | None = None,
        duration_seconds: int | None = None,
        notebook_path: str | None = None,
        approval_id: str | None = None,
    ) -> Json:
        inputs = {k: v for k, v in locals().items() if k not in ("self", "actor", "key", "approval_id")}
        spend = self._spender(actor, key, approval_id)

        def work(unit: Unit, person: Person, now: datetime) -> Json | ApprovalWanted:
            span = self._span(person, starts_at, when, time_zone, duration_seconds, now)
            if actor.via is Via.KERNEL:
                quote = bookings.quote(unit, self._calendar, model=model, count=count, span=span, now=now)
                purpose = f"a booking of {count} × {called(quote.pool)} from {span.start_at:%a %d %b %Y, %H:%M} UTC"
                outcome = spend(unit, person, quote.amount_microcredits, purpose, notebook_path, now)
                if isinstance(outcome, ApprovalWanted):
                    return outcome
            booking = bookings.book(
                unit,
                self._calendar,
                person=person,
                model=model,
                count=count,
                span=span,
                key=key,
                notebook_path=notebook_path,
                now=now,
                limits=bookings.limits_of(self.settings),
            )
            if actor.via is Via.KERNEL:
                people.refer_spending(unit, person_id=person.id, key=key, reference=booking.id)
            unit.emit("booking", action="confirmed", booking_id=booking.id)
            return self._booking_view(unit, booking)

        return await self._once(actor, key, "book", inputs, work)

    async def bookings(
        self,
        actor: Actor,
        ends_after: str | None = None,
        starts_before: str | None = None,
        state: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Json:
        """A person's bookings: in the order of their start where a time or what is to come is asked for."""
        limit = page_size(limit)
        begin = None if ends_after is None else moment(ends_after, "from")
        end = None if starts_before is None else moment(starts_before, "to")
        if begin is not None and end is not None and end <= begin:
            raise Invalid("`to` must come after `from`.", field="to")

        def view(unit: Unit, person: Person, now: datetime) -> Json:
            place = read_cursor(cursor)
            by_start = state == "upcoming" or begin is not None or end is not None
            if by_start:
                found = bookings.list_by_start(
                    unit,
                    person.id,
                    ends_after=begin,
                    starts_before=end,
                    upcoming_at=now if state == "upcoming" else None,
                    over_at=now if state == "past" else None,
                    after=place,
                    limit=limit + 1,
                )
            else:
                over_at = now if state == "past" else None
                found = bookings.list_bookings(unit, person.id, before=place, limit=limit + 1, over_at=over_at)
            more, found = len(found) > limit, found[:limit]
            last_at = (found[-1].span.start_at if by_start else found[-1].created_at) if more else now
            return {
                "items": self._booking_views(unit, found),
                "next": write_cursor(last_at, found[-1].id) if more else None,
            }

        return await self._as_person(actor, view)

    async def booking(self, actor: Actor, booking_id: str) -> Json:
        return await self._as_person(
            actor,
            lambda unit, person, now: self._booking_view(unit, bookings.find(unit, booking_id, person_id=person.id)),
        )

    async def cancel_booking(self, actor: Actor, key: str, booking_id: str) -> Json:
        def work(unit: Unit, person: Person, now: datetime) -> Json:
            lease = lease_store.lease_of_booking(unit, booking_id)
            if lease is not None and lease.person_id == person.id and lease.ended_at is None:
                self._own_lease(unit, actor, person, lease.id)
                self._operator.begin_closing(unit, lease.id, EndReason.RETURNED, now=now)
                return self._booking_view(unit, bookings.find(unit, booking_id, person_id=person.id))
            held = bookings.find(unit, booking_id, person_id=person.id)
            if held.state is BookingState.CANCELLED:
                return self._booking_view(unit, held)  # what it cost was settled then; nothing more flows back
            charged = bookings.charged_for(unit, held, self._operator.kept, now)
            booking = bookings.cancel(unit, self._calendar, booking_id=booking_id, person_id=person.id, now=now,
                                      kept=self._operator.kept)  # fmt: skip
            unused = booking.amount_microcredits - charged
            people.release_allowance(unit, reference=booking.id, amount_microcredits=unused, now=now)
            if booking.series_id is not None:
                release_of_series(unit, find_series(unit, booking.series_id, person_id=person.id), now=now)
            unit.emit("booking", action="cancelled", booking_id=booking.id)
            return self._booking_view(unit, booking)

        answer = await self._once(actor, key, "cancel_booking", {"booking_id": booking_id}, work)
        await self._pools.run("backend", self._operator.give_back)
        return answer

    async def estimate(
        self,
        actor: Actor,
        model: str | None = None,
        count: int = 1,
        duration_seconds: int | None = None,
        notebook_path: str | None = None,
    ) -> Json:
        def view(unit: Unit, person: Person, now: datetime) -> Json:
            duration = self._duration(person, duration_seconds)
            return views.estimate(
                estimates.estimate(
                    unit, person=person, model=model, count=count, duration=duration, notebook_path=notebook_path
                )
            )

        return await self._as_person(actor, view)
