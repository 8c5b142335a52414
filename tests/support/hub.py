"""A small installation: two T4 and one V100, and Ada with 10 credits. Hours are counted from its start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from computehub_ext.bookings import service
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Booking, BookingLimits
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.ledger import service as ledger
from computehub_ext.people import service as people
from computehub_ext.people.model import Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.model import DeviceSpec, Pool, PoolSpec

CREDIT = 1_000_000
LIMITS = BookingLimits(min_duration=timedelta(minutes=5), max_duration=timedelta(hours=24))


def spec(model: str, count: int, rate: int, name: str = "") -> PoolSpec:
    devices = tuple(DeviceSpec(number, f"{name}{model}-{number}", model) for number in range(count))
    return PoolSpec(name or f"local {model}", "local", model, count, rate, True, 1024, devices)


@dataclass
class Hub:
    database: Database
    clock: ManualClock
    calendar: Calendar
    start: datetime
    ada: Person
    number: int = 0

    def do(self, verb: Callable[..., Any], **inputs: Any) -> Any:
        return self.database.write(lambda unit: verb(unit, self.calendar, now=self.clock.now(), **inputs))

    def span(self, first: float, last: float) -> TimeSpan:
        return TimeSpan(self.start + timedelta(hours=first), self.start + timedelta(hours=last))

    def book(self, model: str | None, first: float, last: float, count: int = 1, **more: Any) -> Booking:
        self.number += 1
        inputs = {
            "span": self.span(first, last),
            "person": self.ada,
            "key": f"key {self.number}",
            "notebook_path": None,
            "limits": LIMITS,
            **more,
        }
        return self.do(service.book, model=model, count=count, **inputs)

    def quote(self, model: str | None, first: float, last: float, count: int = 1, **more: Any) -> Any:
        return self.do(service.quote, model=model, count=count, span=self.span(first, last), **more)

    def cancel(self, booking: Booking) -> Booking:
        return self.do(service.cancel, booking_id=booking.id, person_id=booking.person_id)

    def resize(self, booking: Booking, last: float, key: str = "resize") -> Booking:
        end_at = self.start + timedelta(hours=last)
        return self.do(service.resize, booking_id=booking.id, end_at=end_at, key=key, limits=LIMITS)

    def activate(self, booking: Booking) -> Booking:
        return self.database.write(lambda unit: service.activate(unit, booking_id=booking.id, now=self.clock.now()))

    def person(self, username: str, **more: Any) -> Person:
        return self.database.write(
            lambda unit: people.ensure_person(unit, username=username, display_name=username, now=self.start, **more)
        )

    def pool(self, model: str) -> Pool:
        return self.database.read(lambda unit: pools.pools_of_model(unit, model))[0]

    def free(self, model: str, first: float, last: float) -> int:
        return self.calendar.of(self.pool(model).id).free(self.span(first, last))

    def money(self) -> tuple[float, float]:
        """Ada's credits: posted, and available."""
        balance = self.database.read(lambda unit: ledger.balance(unit, self.ada.account_id))
        return balance.posted_microcredits / CREDIT, balance.available_microcredits / CREDIT

    def check(self) -> None:
        """The books balance, and the calendar is the one that a restart would build."""
        assert self.database.read(ledger.verify) == []
        rebuilt = Calendar()
        self.database.read(lambda unit: service.load_calendar(unit, rebuilt, now=self.clock.now()))
        for pool in self.database.read(pools.list_pools):
            window = TimeSpan.starting(self.clock.now(), timedelta(days=3))
            step = timedelta(minutes=15)
            ours = service.availability(self.calendar, pool, span=window, step=step)
            assert ours == service.availability(rebuilt, pool, span=window, step=step)


def open_hub(database: Database, clock: ManualClock, **person: Any) -> Hub:
    specs = [spec("T4", 2, CREDIT), spec("V100", 1, 5 * CREDIT // 2)]
    database.write(lambda unit: pools.sync_pools(unit, specs=specs, now=clock.now()))
    calendar = Calendar()
    database.read(lambda unit: service.load_calendar(unit, calendar, now=clock.now()))
    ada = database.write(
        lambda unit: people.ensure_person(unit, username="ada", display_name="Ada", now=clock.now(), **person)
    )
    return Hub(database, clock, calendar, clock.now(), ada)
