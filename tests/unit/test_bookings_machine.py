"""Bookings in any order against plain lists: nothing taken is promised, nothing free refused, and the money adds up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from computehub_ext.bookings import moving, service
from computehub_ext.bookings.model import Booking, BookingState
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database, metadata
from computehub_ext.core.errors import InsufficientCredits, SlotTaken
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.testing.stores import import_every_store
from tests.support.hub import CREDIT, LIMITS, open_hub

GRACE = timedelta(minutes=15)
CAPACITY = {"T4": 2, "V100": 1}
quarters = st.integers(0, 24).map(lambda quarter: timedelta(minutes=15 * quarter))
lengths = st.integers(1, 16).map(lambda quarter: timedelta(minutes=15 * quarter))


class Abandoned(Exception):
    """The rest of a request went wrong after the booking was changed."""


def moved(unit: Any, calendar: Any, *, now: datetime, booking_id: str, span: TimeSpan, count: int, key: str) -> Booking:
    """As a request does it: quoted first, which must say what then happens."""
    booking = service.find(unit, booking_id)
    wish = {"start_at": span.start_at, "duration": span.duration, "count": count, "now": now, "limits": LIMITS}
    changed = moving.moved(booking, **wish)
    inputs: dict[str, Any] = {"booking": booking, "changed": changed, "now": now, "limits": LIMITS}
    quoted = moving.quote_move(unit, calendar, **inputs)
    assert quoted.change_microcredits == changed.amount_microcredits - booking.amount_microcredits
    try:
        return moving.move(unit, calendar, key=key, **inputs)
    except SlotTaken:
        assert not quoted.available
        raise
    except InsufficientCredits:
        assert quoted.available
        raise


@dataclass
class Expected:
    """What a booking should have come to; ``charged`` is final once it is over."""

    model: str
    count: int
    span: TimeSpan
    rate: int
    state: str
    since: datetime
    charged: int = 0

    @property
    def amount(self) -> int:
        return rated(self.rate, self.span.duration, self.count)

    @property
    def live(self) -> bool:
        return self.state in ("confirmed", "active")


class Bookings(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        import_every_store()
        self.clock = ManualClock()
        self.database = Database("sqlite://", clock=self.clock)
        self.database.write(lambda unit: metadata.create_all(unit.connection))
        self.hub = open_hub(self.database, self.clock, welcome_microcredits=60 * CREDIT)
        self.expected: dict[str, Expected] = {}

    def teardown(self) -> None:
        self.hub.check()
        self.database.close()

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def free(self, model: str, span: TimeSpan) -> int:
        live = [b for b in self.expected.values() if b.live and b.model == model]
        moments = [span.start_at, *(b.span.start_at for b in live if b.span.start_at in span)]
        return min(CAPACITY[model] - sum(b.count for b in live if moment in b.span) for moment in moments)

    def available(self) -> int:
        return 60 * CREDIT - sum(b.amount if b.live else b.charged for b in self.expected.values())

    def choose(self, data: st.DataObject, *states: str) -> tuple[str, Expected] | None:
        able = [each for each in self.expected.items() if each[1].state in states]
        return data.draw(st.sampled_from(able)) if able else None

    def do(self, verb: Any, fail: bool, **inputs: Any) -> Any:
        """Run a service function, now and then in a request that fails afterwards."""

        def work(unit: Any, calendar: Any, *, now: datetime, **inputs: Any) -> Any:
            answer = verb(unit, calendar, now=now, **inputs)
            if fail:
                raise Abandoned
            return answer

        try:
            return self.hub.do(work, **inputs)
        except Abandoned:
            return None

    @rule(
        model=st.sampled_from([None, "T4", "V100"]),
        start=quarters,
        length=lengths,
        count=st.integers(1, 2),
        fail=st.booleans(),
    )
    def book(self, model: str | None, start: timedelta, length: timedelta, count: int, fail: bool) -> None:
        span = TimeSpan.starting(self.now + start, length)
        able = [name for name in ("T4", "V100") if model in (None, name) and CAPACITY[name] >= count]
        if not able:
            return
        room = next((name for name in able if self.free(name, span) >= count), None)
        rate = CREDIT if room == "T4" else 5 * CREDIT // 2
        self.hub.number += 1
        name = f"{self.hub.number}"
        inputs: dict[str, Any] = {
            "model": model,
            "count": count,
            "span": span,
            "person": self.hub.ada,
            "limits": LIMITS,
        }
        refusal: type[Exception] | None = None
        booking: Booking | None = None
        try:
            booking = self.do(service.book, fail, key=name, notebook_path=name, **inputs)
        except (SlotTaken, InsufficientCredits) as error:
            refusal = type(error)
        if room is None:
            assert refusal is SlotTaken
        elif rated(rate, length, count) > self.available():
            assert refusal is InsufficientCredits
        else:
            assert refusal is None
        if booking is not None:
            assert booking.model == room
            self.expected[booking.id] = Expected(booking.model, count, span, rate, "confirmed", self.now)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), fail=st.booleans())
    def cancel(self, data: st.DataObject, fail: bool) -> None:
        chosen = self.choose(data, "confirmed")
        if chosen and self.now < chosen[1].span.end_at:
            booking_id, expected = chosen
            done = self.do(service.cancel, fail, booking_id=booking_id, person_id=self.hub.ada.id)
            if done:
                self.over(expected, done, "cancelled", self.held(expected))

    @precondition(lambda self: self.expected)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        chosen = self.choose(data, "confirmed")
        if chosen and self.now in chosen[1].span:
            self.database.write(lambda unit: service.activate(unit, booking_id=chosen[0], now=self.now))
            chosen[1].state, chosen[1].since = "active", self.now

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), how=st.sampled_from(["complete", "withdraw", "deactivate"]), fail=st.booleans())
    def stop_using(self, data: st.DataObject, how: str, fail: bool) -> None:
        chosen = self.choose(data, "active")
        if chosen is None:
            return
        booking_id, expected = chosen
        if how == "deactivate":
            self.database.write(lambda unit: service.deactivate(unit, booking_id=booking_id, now=self.now))
            expected.state, expected.since = "confirmed", self.now
        elif done := self.do(getattr(service, how), fail, booking_id=booking_id):
            self.over(expected, done, "completed" if how == "complete" else "cancelled", 0)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), length=lengths, fail=st.booleans())
    def resize(self, data: st.DataObject, length: timedelta, fail: bool) -> None:
        chosen = self.choose(data, "confirmed", "active")
        if chosen is None or self.now >= chosen[1].span.end_at:
            return
        booking_id, expected = chosen
        span = TimeSpan.starting(expected.span.start_at, length)
        if span.end_at <= self.now:
            return
        old = expected.span
        fits = (
            span.end_at <= old.end_at or self.free(expected.model, TimeSpan(old.end_at, span.end_at)) >= expected.count
        )
        affordable = rated(expected.rate, length, expected.count) - expected.amount <= self.available()
        self.hub.number += 1
        refusal: type[Exception] | None = None
        done: Booking | None = None
        try:
            done = self.do(service.resize, fail, booking_id=booking_id, end_at=span.end_at, key=f"{self.hub.number}",
                           limits=LIMITS)  # fmt: skip
        except (SlotTaken, InsufficientCredits) as error:
            refusal = type(error)
        assert refusal is (SlotTaken if not fits else None if affordable else InsufficientCredits)
        if done:
            expected.span = span

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), start=quarters, length=lengths, count=st.integers(1, 2), fail=st.booleans())
    def move(self, data: st.DataObject, start: timedelta, length: timedelta, count: int, fail: bool) -> None:
        chosen = self.choose(data, "confirmed", "active")
        if chosen is None or self.now >= chosen[1].span.end_at:
            return
        booking_id, expected = chosen
        begun = expected.state == "active" or expected.span.start_at <= self.now
        span = TimeSpan.starting(expected.span.start_at if begun else self.now + start, length)
        if begun:
            count = expected.count
        if span.end_at <= self.now:
            return
        self.expected.pop(booking_id)
        wanted = TimeSpan(max(span.start_at, self.now), span.end_at)
        fits = self.free(expected.model, wanted) >= count
        self.expected[booking_id] = expected
        affordable = rated(expected.rate, length, count) - expected.amount <= self.available()
        refusal: type[Exception] | None = None
        done: Booking | None = None
        try:
            done = self.do(moved, fail, booking_id=booking_id, span=span, count=count, key=f"{self.steps()}")
        except (SlotTaken, InsufficientCredits) as error:
            refusal = type(error)
            if refusal is SlotTaken and not begun:
                for each in error.details["earliest"]:
                    offered = TimeSpan(*(datetime.fromisoformat(each[end]) for end in ("starts_at", "ends_at")))
                    self.expected.pop(booking_id)
                    assert self.free(expected.model, offered) >= count, "what is offered instead is free"
                    self.expected[booking_id] = expected
        assert refusal is (SlotTaken if not fits else None if affordable else InsufficientCredits)
        if done:
            expected.span, expected.count = span, count

    def steps(self) -> int:
        self.hub.number += 1
        return self.hub.number

    @rule(minutes=st.integers(1, 90))
    def wait(self, minutes: int) -> None:
        self.clock.advance(minutes=minutes)

    @rule(fail=st.booleans())
    def expire(self, fail: bool) -> None:
        due = {
            booking_id
            for booking_id, b in self.expected.items()
            if b.state == "confirmed"
            and self.now >= b.span.start_at
            and self.now >= min(max(b.span.start_at, b.since) + GRACE, b.span.end_at)
        }
        done = self.do(service.expire_missed, fail, grace=GRACE)
        if done is not None:
            assert {booking.id for booking in done} == due
            for booking in done:
                expected = self.expected[booking.id]
                self.over(expected, booking, "expired", self.held(expected))

    def held(self, expected: Expected) -> int:
        held = max(timedelta(0), min(self.now, expected.span.end_at) - expected.span.start_at)
        return rated(expected.rate, held, expected.count)

    def over(self, expected: Expected, booking: Booking, state: str, charged: int) -> None:
        assert booking.state is BookingState(state)
        expected.state, expected.charged = state, charged

    @invariant()
    def calendar_and_money_agree(self) -> None:
        assert self.hub.money()[1] * CREDIT == self.available()
        for model in CAPACITY:
            pool = self.hub.pool(model)
            span = TimeSpan.starting(self.now, timedelta(hours=12))
            for at, free in service.availability(self.hub.calendar, pool, span=span, step=timedelta(minutes=45)):
                assert free == self.free(model, TimeSpan(at, min(at + timedelta(minutes=45), span.end_at)))


TestBookings = Bookings.TestCase
TestBookings.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
