"""Many at once for what is too little, on a real database: exactly as many get it as there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from computehub_ext.bookings import moving, service
from computehub_ext.bookings.calendar import Calendar
from computehub_ext.bookings.model import Booking
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database, Unit
from computehub_ext.core.errors import ComputeHubError, InsufficientCredits, SlotTaken, Unavailable
from tests.support.databases import EVERY_DATABASE, REAL_DATABASES
from tests.support.hub import CREDIT, LIMITS, Hub, open_hub


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Hub]:
    hub = open_hub(database, clock)
    yield hub
    hub.check()


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What each of ``count`` threads, let go together, got: an answer or a refusal."""
    ready = threading.Barrier(count)

    def run(number: int) -> Any:
        ready.wait(timeout=30)
        try:
            return work(number)
        except ComputeHubError as refusal:
            return refusal

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@REAL_DATABASES
@pytest.mark.parametrize("round", range(5))
def test_two_want_the_last_slot(hub: Hub, round: int) -> None:
    both = [hub.person("bob"), hub.person("cleo")]
    outcomes = at_once(2, lambda n: hub.book("V100", 1, 2, key=f"key {n}", person=both[n]))
    won = [outcome for outcome in outcomes if isinstance(outcome, Booking)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, SlotTaken)]
    assert (len(won), len(lost)) == (1, 1), outcomes
    assert lost[0].details["earliest"][0]["starts_at"] == "2026-03-02T11:00:00Z"
    assert hub.free("V100", 1, 2) == 0


@REAL_DATABASES
def test_twenty_want_two(hub: Hub) -> None:
    people = [hub.person(f"person {n}") for n in range(20)]
    outcomes = at_once(20, lambda n: hub.book("T4", 0.1 * (n % 5), 3, key="key", person=people[n]))
    assert sum(isinstance(outcome, Booking) for outcome in outcomes) == 2
    assert sum(isinstance(outcome, SlotTaken) for outcome in outcomes) == 18


@REAL_DATABASES
def test_one_persons_last_credits(hub: Hub) -> None:
    """Four at 2.5 credits are all that ten pay for, whichever of eight requests come first."""
    outcomes = at_once(8, lambda n: hub.book("V100", n, n + 1, key=f"key {n}"))
    assert sum(isinstance(outcome, Booking) for outcome in outcomes) == 4
    assert sum(isinstance(outcome, InsufficientCredits) for outcome in outcomes) == 4
    assert hub.money() == (10, 0)


@REAL_DATABASES
def test_one_request_sent_eight_times(hub: Hub) -> None:
    outcomes = at_once(8, lambda n: hub.book("T4", 1, 2, key="same"))
    assert len({booking.id for booking in outcomes}) == 1
    assert hub.money() == (10, 9)
    assert hub.free("T4", 1, 2) == 1


@REAL_DATABASES
@pytest.mark.parametrize("round", range(5))
def test_what_a_failing_request_took_is_not_refused_to_others(hub: Hub, round: int) -> None:
    """One takes the last slot and fails; the other, who came while it was taken, gets it."""
    taken, bob = threading.Event(), hub.person("bob")

    def take_and_fail(unit: Any, calendar: Calendar, **inputs: Any) -> None:
        service.book(unit, calendar, person=hub.ada, model="V100", count=1, span=hub.span(1, 2), key="ada",
                     notebook_path=None, limits=LIMITS, **inputs)  # fmt: skip
        taken.set()
        # As long as the other needs to run into it: on PostgreSQL it does, on SQLite it waits for its turn.
        other.join(timeout=0.2)
        raise Unavailable("The rest of the request went wrong.")

    outcomes: list[Booking] = []
    other = threading.Thread(
        target=lambda: taken.wait(30) and outcomes.append(hub.book("V100", 1, 2, key="bob", person=bob))
    )
    other.start()
    with pytest.raises(Unavailable):
        hub.do(take_and_fail)
    other.join(timeout=30)
    assert [booking.person_id for booking in outcomes] == [bob.id]
    assert hub.free("V100", 1, 2) == 0


@REAL_DATABASES
def test_cancelled_twice_at_once(hub: Hub) -> None:
    booking = hub.book("T4", 1, 2)
    outcomes = at_once(4, lambda _: hub.cancel(booking))
    assert {outcome.id for outcome in outcomes} == {booking.id}
    assert hub.money() == (10, 10)
    assert hub.free("T4", 1, 2) == 2


@REAL_DATABASES
def test_taking_and_giving_back_from_many_threads(hub: Hub) -> None:
    people = [hub.person(f"person {n}", welcome_microcredits=50 * CREDIT) for n in range(6)]

    def work(n: int) -> int:
        done = 0
        for turn in range(8):
            try:
                mine = hub.book("T4", turn / 2, turn / 2 + 1.5, key=f"{turn}", person=people[n])
            except SlotTaken:
                continue
            assert hub.free("T4", turn / 2, turn / 2 + 1.5) <= 1
            hub.cancel(mine)
            done += 1
        return done

    outcomes = at_once(6, work)
    assert sum(outcomes) >= 8
    assert hub.free("T4", 0, 12) == 2


@EVERY_DATABASE
def test_the_same_story_on_every_database(hub: Hub) -> None:
    """Store and service alike: what is written is read back as it was."""
    booking = hub.book("T4", 1, 3, count=2, notebook_path="Übung 1/ø.ipynb")
    assert hub.database.read(lambda unit: service.find(unit, booking.id)) == booking
    longer = hub.resize(booking, 4)
    assert hub.database.read(lambda unit: service.list_bookings(unit, hub.ada.id)) == [longer]
    hub.clock.advance(hours=2)
    again = Calendar()
    hub.database.read(lambda unit: service.load_calendar(unit, again, now=hub.clock.now()))
    assert again.of(booking.pool_id).levels()[0] == (hub.start + timedelta(hours=2), 2)
    hub.cancel(longer)
    assert hub.money() == (8, 8)


def move(hub: Hub, booking: Booking, first: float, last: float, key: str) -> Booking:
    def work(unit: Unit, calendar: Calendar, *, now: datetime) -> Booking:
        found = service.find(unit, booking.id)
        span = hub.span(first, last)
        wish = {"start_at": span.start_at, "duration": span.duration, "count": None, "now": now, "limits": LIMITS}
        changed = moving.moved(found, **wish)
        return moving.move(unit, calendar, booking=found, changed=changed, key=key, now=now, limits=LIMITS)

    moved: Booking = hub.do(work)
    return moved


@REAL_DATABASES
@pytest.mark.parametrize("round", range(3))
def test_several_are_moved_to_the_last_slot(hub: Hub, round: int) -> None:
    people = [hub.person(f"person {n}") for n in range(4)]
    own = [hub.book("V100", 2 * n + 1, 2 * n + 2, person=person) for n, person in enumerate(people)]
    outcomes = at_once(4, lambda n: move(hub, own[n], 20, 21, f"{n}"))
    assert sum(isinstance(outcome, Booking) for outcome in outcomes) == 1, outcomes
    assert sum(isinstance(outcome, SlotTaken) for outcome in outcomes) == 3, outcomes
    assert [hub.free("V100", 2 * n + 1, 2 * n + 2) for n in range(4)].count(1) == 1


@REAL_DATABASES
def test_one_is_moved_to_many_places_at_once(hub: Hub) -> None:
    """The calendar and the hold end where the last of them left the booking, which ``hub.check`` looks at."""
    booking = hub.book("V100", 1, 2)
    hub.book("V100", 7, 8, person=hub.person("bob"))
    outcomes = at_once(8, lambda n: move(hub, booking, n + 0.5, n + 2, f"{n}"))
    assert all(isinstance(outcome, Booking | SlotTaken) for outcome in outcomes), outcomes
    moved = hub.database.read(lambda unit: service.find(unit, booking.id))
    assert moved.span in [outcome.span for outcome in outcomes if isinstance(outcome, Booking)]
    assert hub.calendar.of(booking.pool_id).free(moved.span) == 0
    assert hub.money() == (10, 6.25)
