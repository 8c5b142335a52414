"""A hub in the middle of a term: its books as its own services write them, before a server is started on them.

Alice has 200 bookings ahead and 5,000 lines in her history; forty others have bookings too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from computehub_ext.bookings import service as bookings
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import BookingLimits
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.ids import new_id
from computehub_ext.core.timespan import TimeSpan
from computehub_ext.leases import store as leases
from computehub_ext.leases.model import EndReason, Lease, LeaseState
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Origin
from computehub_ext.people import service as people
from computehub_ext.people.model import Person
from computehub_ext.pools import service as pools
from computehub_ext.pools.simulated import specs
from computehub_ext.testing.stores import import_every_store

CREDIT = 1_000_000
BOOKINGS = 200
OTHERS = 40
HISTORY = 5_000
DRAWS = 30
"""Of each lease: one a minute, as the meter writes them."""

LEASES = 160
HOUR = timedelta(hours=1)
LIMITS = BookingLimits(timedelta(minutes=5), timedelta(hours=24), timedelta(days=60), 8)
SMALL = "A100-1g.10gb"
"""The pool with seven places, where bookings side by side fit."""

ENDINGS = (EndReason.RETURNED, EndReason.IDLE, EndReason.TIME_UP, EndReason.KERNEL_DIED)


def write_term(path: Path, *, owner: str = "alice") -> None:
    """Write the database of ``owner``'s hub to a file that does not exist yet.

    Parameters
    ----------
    owner:
        Who has the bookings and the history, by the name that the server knows them by.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    import_every_store()
    database = Database(f"sqlite:///{path}")
    database.migrate()
    term = _Term(datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
    for step in (term.people, term.past, term.ahead):
        database.write(lambda unit, step=step: step(unit, owner))  # type: ignore[misc]
    database.close()


class _Term:
    def __init__(self, now: datetime) -> None:
        self.now = now
        self.calendar = Calendar()
        self.number = 0

    def people(self, unit: Unit, owner: str) -> None:
        pools.sync_pools(unit, specs=specs(), now=self.now)
        bookings.load_calendar(unit, self.calendar, now=self.now)
        self.person(unit, owner)
        for number in range(1, OTHERS + 1):
            self.person(unit, f"student{number:02}")

    def past(self, unit: Unit, owner: str) -> None:
        """Grants and leases that are over, an hour each, from long ago until yesterday."""
        person = self.person(unit, owner)
        first = self.now - timedelta(days=90)
        # One line is the welcome; each lease is charged in parts, and the rest are grants.
        for number in range(HISTORY - 1 - LEASES * DRAWS):
            at = first + number * HOUR
            memo = f"Practical of week {number // 10 + 1}"
            self.grant(unit, person, 10 * CREDIT, at, memo=memo)
        for number in range(LEASES):
            self.leased(unit, person, first + timedelta(hours=13 * number), number)

    def ahead(self, unit: Unit, owner: str) -> None:
        person = self.person(unit, owner)
        for number in range(BOOKINGS):
            # Ten a day, so that a week shows seventy of them.
            start = self.now + timedelta(days=number // 10, hours=1 + number % 10 * 2)
            self.book(unit, person, "T4" if number % 3 else SMALL, start, notebook_path=f"week/{number}.ipynb")
        for number in range(OTHERS):
            other = self.person(unit, f"student{number + 1:02}")
            start = self.now + timedelta(days=number // 8, hours=1 + number % 8)
            self.book(unit, other, SMALL, start)

    def person(self, unit: Unit, username: str) -> Person:
        return people.ensure_person(unit, username=username, display_name=username, now=self.now - timedelta(days=100))

    def grant(self, unit: Unit, person: Person, amount: int, at: datetime, *, memo: str) -> None:
        ledger.grant(unit, account_id=person.account_id, amount_microcredits=amount, origin=Origin.GRANTED,
                     key=f"grant {at}", memo=memo, now=at)  # fmt: skip

    def leased(self, unit: Unit, person: Person, begin: datetime, number: int) -> None:
        path = f"lectures/week {number // 10 + 1}/exercise {number % 10 + 1}.ipynb"
        booking = self.book(unit, person, "T4", begin, now=begin, notebook_path=path)
        bookings.activate(unit, booking_id=booking.id, now=begin)
        for minute in range(DRAWS):
            ledger.draw(unit, hold_id=booking.hold_id, amount_microcredits=CREDIT // 60, memo="1 × T4",
                        key=f"draw {number} {minute}", now=begin + timedelta(minutes=minute))  # fmt: skip
        end = begin + timedelta(minutes=DRAWS)
        ending = ENDINGS[number % len(ENDINGS)]
        lease = Lease(
            new_id("lease"), booking.id, booking.hold_id, person.id, booking.pool_id, booking.model, booking.count,
            booking.rate_microcredits_per_hour, new_id("kernel"), path, LeaseState.CLOSED, begin, booking.span.end_at,
            timedelta(minutes=20), True, started_at=begin, billed_from_at=begin, ended_at=end, end_reason=ending,
            posted_microcredits=DRAWS * (CREDIT // 60),
        )  # fmt: skip
        leases.add_lease(unit, lease)
        bookings.complete(unit, self.calendar, booking_id=booking.id, now=end)

    def book(
        self, unit: Unit, person: Person, model: str, start: datetime, *, now: datetime | None = None, **more: Any
    ) -> Any:
        self.number += 1
        more.setdefault("notebook_path", None)
        return bookings.book(
            unit, self.calendar, person=person, model=model, count=1, span=TimeSpan.starting(start, HOUR),
            key=f"booking {self.number}", now=now or self.now, limits=LIMITS, **more,
        )  # fmt: skip
