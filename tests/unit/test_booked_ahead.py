"""Bookings on a place that others use too: asked for ahead, kept, taken, given back, and billed for what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from computehub_ext.backends.capabilities import BerthRequest
from computehub_ext.backends.model import Ending, Look, LookState, StartRequest
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.database import Database
from computehub_ext.core.errors import Invalid, NoCapacity, Refused
from computehub_ext.leases import store
from computehub_ext.leases.berth_keeper import ASKED_MAX, BerthKeeper
from computehub_ext.testing.fake_backend import FakeBackend
from tests.support.plane import CREDIT, SPECS, Plane, browser, kernel, spec

LEAD = timedelta(minutes=10)


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    """It is 9:00, and a place is asked for ten minutes ahead."""
    hub = Plane(database, clock)
    hub.place.berth_lead = LEAD
    hub.restart()
    yield hub
    hub.close()


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 2, hour, minute, tzinfo=UTC)


def book(hub: Plane, hour: int = 10, *, who: str = "ada", hours: float = 1, **wanted: Any) -> dict[str, Any]:
    starts_at = f"2026-03-02T{hour:02}:00:00Z"
    asked = {"model": "T4", "starts_at": starts_at, "duration_seconds": int(hours * 3600), **wanted}
    booked: dict[str, Any] = hub.book(browser(who), hub.key(), **asked)
    return booked


def until(hub: Plane, moment: datetime) -> None:
    hub.pass_time(seconds=(moment - hub.clock.now()).total_seconds())


def held(hub: Plane) -> dict[str, LookState]:
    return {look.placement_id: look.state for look in hub.backend.list_placements()}


def state_of(hub: Plane, booking: dict[str, Any], who: str = "ada") -> str:
    return str(hub.booking(browser(who), booking["id"])["state"])


def ready_at(hub: Plane, booking: dict[str, Any]) -> datetime | None:
    berth = hub.database.read(lambda unit: store.open_berth_of(unit, booking["id"]))
    assert berth is not None
    return berth.ready_at


# -- asking ------------------------------------------------------------------------------------------------------------


def test_a_place_is_asked_for_ahead_and_the_kernel_starts_in_it(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(9, 49))
    assert held(hub) == {}
    until(hub, at(9, 51))
    (berth,) = held(hub)
    assert held(hub) == {berth: LookState.READY}
    until(hub, at(10, 1))
    lease = hub.take(booking_id=booking["id"])
    assert hub.start(lease)["placement_id"] == berth
    assert held(hub) == {berth: LookState.RUNNING}
    hub.lease_running(lease["id"])
    until(hub, at(10, 30))
    assert list(held(hub)) == [berth]
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == CREDIT // 2  # kept since its start
    hub.tick()
    assert held(hub) == {}


def test_being_kept_early_costs_nothing_and_is_not_asked_for_elsewhere(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(9, 59))
    assert len(held(hub)) == 1
    hub.cancel_booking(browser(), hub.key(), booking["id"])
    assert held(hub) == {}  # at once
    assert hub.money() == (10, 10)
    hub.place.berth_lead = timedelta(0)
    hub.restart()
    book(hub, 11)
    until(hub, at(10, 59))
    assert held(hub) == {}


def test_what_is_taken_on_the_spot_is_asked_for_by_nobody_else(hub: Plane) -> None:
    hub.running()
    hub.tick(minutes=1)
    assert list(held(hub).values()) == [LookState.RUNNING]


def test_two_bookings_have_a_place_each(hub: Plane) -> None:
    bookings = [book(hub), book(hub, who="bob")]
    until(hub, at(10))
    assert len(held(hub)) == 2
    started = set()
    for booking, who in zip(bookings, ("ada", "bob"), strict=True):
        lease = hub.take(browser(who), kernel_id=who, booking_id=booking["id"])
        started.add(hub.start(lease)["placement_id"])
    assert started == set(held(hub))


# -- changing and ending -----------------------------------------------------------------------------------------------


def test_a_booking_that_is_moved_away_gives_its_place_back_and_asks_anew(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(9, 55))
    (first,) = held(hub)
    hub.move_booking(browser(), hub.key(), booking["id"], starts_at="2026-03-02T12:00:00Z")
    hub.tick()
    assert held(hub) == {}
    until(hub, at(11, 55))
    (second,) = held(hub)
    assert second != first


def test_a_booking_that_grows_beyond_what_its_place_gives_is_asked_for_anew(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(9, 55))
    (first,) = held(hub)
    hub.move_booking(browser(), hub.key(), booking["id"], duration_seconds=1800)
    hub.tick()
    assert list(held(hub)) == [first]  # it can do more than is wanted now
    hub.move_booking(browser(), hub.key(), booking["id"], duration_seconds=7200)
    hub.tick()
    (second,) = held(hub)
    assert second != first


def test_what_cancelling_cost_does_not_flow_back_when_it_is_cancelled_again(hub: Plane) -> None:
    asked = {"model": "T4", "starts_at": "2026-03-02T10:00:00Z", "duration_seconds": 3600}
    booking = hub.book(kernel(), hub.key(), **asked)
    until(hub, at(10, 12))

    def left() -> int:
        return int(hub.me(browser())["allowance"]["left_microcredits"])

    before = left()
    heard: list[str] = []
    hub.database.listen(lambda event: heard.append(event.payload["action"]), in_background=False)
    hub.database.deliver()
    heard.clear()
    first = hub.cancel_booking(browser(), hub.key(), booking["id"])
    hub.database.deliver()
    assert (left() - before, heard) == (CREDIT * 4 // 5, ["cancelled"])
    assert hub.cancel_booking(browser(), hub.key(), booking["id"]) == first
    hub.database.deliver()
    assert (left() - before, heard) == (CREDIT * 4 // 5, ["cancelled"])
    assert hub.money() == (9.8, 9.8)


def test_nobody_comes_and_the_place_goes_back_when_the_calendar_says_so(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(10, 14))
    assert list(held(hub).values()) == [LookState.READY]
    until(hub, at(10, 16))
    hub.tick()
    assert state_of(hub, booking) == "expired"
    assert held(hub) == {}
    assert hub.money() == (9.75, 9.75)  # as everywhere: a quarter of an hour was kept


def test_after_a_goodbye_for_good_nothing_waits(hub: Plane) -> None:
    book(hub)
    until(hub, at(9, 55))
    hub.plane._operator.end_all("server_stopped", {"somebody's"})  # type: ignore[arg-type]
    assert len(held(hub)) == 1
    hub.plane._operator.end_all("server_stopped")  # type: ignore[arg-type]
    assert held(hub) == {}


# -- what the place does -----------------------------------------------------------------------------------------------


def test_a_place_that_is_late_is_told_costs_from_the_kernel_on_and_stays_asked_for(hub: Plane) -> None:
    hub.place.room = 0
    booking = book(hub)
    until(hub, at(10, 1))
    assert list(held(hub).values()) == [LookState.STARTING]
    lease = hub.take(booking_id=booking["id"])
    with pytest.raises(NoCapacity, match=r"booked T4 is not there yet\. Others are in the way\. .* Nothing is billed"):
        hub.start(lease)
    closed = hub.lease_failed(lease["id"], "start_failed", "no room")
    assert closed["cost_microcredits"] == 0
    (berth,) = held(hub)
    hub.tick()
    assert held(hub) == {berth: LookState.STARTING}  # its place in the queue is not lost
    until(hub, at(10, 40))
    assert state_of(hub, booking) == "confirmed"  # nobody is late for what is not there
    hub.place.room = 1
    hub.tick()
    lease = hub.take(booking_id=booking["id"])
    assert hub.start(lease)["placement_id"] == berth
    hub.lease_running(lease["id"])
    until(hub, at(10, 55))
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == CREDIT // 4
    assert hub.money() == (9.75, 9.75)


@pytest.mark.parametrize("cancels", [True, False])
def test_a_place_that_never_comes_costs_nothing(hub: Plane, cancels: bool) -> None:
    hub.place.room = 0
    booking = book(hub)
    until(hub, at(10, 30))
    if cancels:
        hub.cancel_booking(browser(), hub.key(), booking["id"])
    else:
        until(hub, at(11, 1))
    hub.tick()
    assert state_of(hub, booking) == "cancelled"
    assert held(hub) == {}
    assert hub.money() == (10, 10)


def test_cancelled_late_it_costs_since_it_was_there(hub: Plane) -> None:
    hub.place.room = 0
    booking = book(hub)
    until(hub, at(10, 20))
    hub.place.room = 1
    hub.tick()
    until(hub, at(10, 26))
    hub.cancel_booking(browser(), hub.key(), booking["id"])
    assert hub.money() == (9.9, 9.9)


def test_a_place_is_there_from_when_it_was_seen_and_not_from_when_that_was_asked(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = book(hub)
    until(hub, at(9, 50))
    look = FakeBackend.look

    def slow(backend: FakeBackend, placement_id: str) -> Look:
        hub.clock.advance(seconds=40)
        return look(backend, placement_id)

    monkeypatch.setattr(FakeBackend, "look", slow)
    hub.tick()
    assert ready_at(hub, booking) == at(9, 50) + timedelta(seconds=40)


@pytest.mark.parametrize("how", ["nobody can ask it", "it waits again"])
def test_nobody_missed_a_place_that_nobody_could_reach(hub: Plane, how: str) -> None:
    booking = book(hub)
    until(hub, at(10, 1))
    (berth,) = held(hub)
    placement = hub.place.placements[berth]

    def reach(is_there: bool) -> None:
        if how == "it waits again":
            hub.place.room = 1 if is_there else 0
            placement.look = replace(placement.look, state=LookState.READY if is_there else LookState.STARTING)
        else:
            hub.place.unreachable = not is_there

    reach(False)
    hub.tick(seconds=1)
    assert ready_at(hub, booking) == at(9, 51)  # a blink is forgiven to nobody
    reach(True)
    hub.tick(seconds=11)
    reach(False)
    hub.tick(seconds=1)
    assert ready_at(hub, booking) == at(9, 51)
    hub.tick(seconds=1)
    assert ready_at(hub, booking) is None
    placement.paid_until = at(11)
    until(hub, at(10, 20))
    assert state_of(hub, booking) == "confirmed"
    reach(True)
    until(hub, at(10, 21))
    assert ready_at(hub, booking) == at(10, 21)
    until(hub, at(10, 37))
    assert state_of(hub, booking) == "expired"
    assert hub.money() == (9.75, 9.75)  # from when it was there again


def test_a_place_that_is_taken_away_is_asked_for_again(hub: Plane) -> None:
    book(hub)
    until(hub, at(9, 55))
    (first,) = held(hub)
    hub.backend.end(first, Ending.PREEMPTED)
    hub.tick()
    hub.tick(seconds=5)
    assert held(hub) == {}  # not at once: what took it is still there
    hub.tick(seconds=15)
    (second,) = held(hub)
    hub.backend.end(second, Ending.PREEMPTED)
    hub.tick()
    hub.tick(seconds=16)
    assert held(hub) == {}
    hub.tick(seconds=15)
    assert len(held(hub)) == 1


def test_a_place_that_refuses_is_asked_again_and_a_start_of_the_ordinary_way_is_possible(hub: Plane) -> None:
    booking = book(hub)
    hub.place.refusal = "no"
    until(hub, at(10, 1))
    assert held(hub) == {}
    hub.place.refusal = ""
    lease = hub.take(booking_id=booking["id"])
    hub.start(lease)
    assert list(held(hub).values()) == [LookState.RUNNING]
    hub.lease_running(lease["id"])
    until(hub, at(10, 31))
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == CREDIT // 2


def test_a_place_that_is_lost_as_somebody_comes_does_not_keep_them_from_starting(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(10))
    (berth,) = held(hub)
    hub.backend.end(berth, Ending.PREEMPTED)
    lease = hub.take(booking_id=booking["id"])
    assert hub.start(lease)["placement_id"] != berth


@pytest.mark.parametrize("refusal", ["", "no"])
def test_a_place_that_was_not_asked_yet_as_somebody_comes_is_asked_once(hub: Plane, refusal: str) -> None:
    booking = book(hub)
    until(hub, at(10))
    (berth,) = held(hub)
    del hub.place.placements[berth]  # as between the row and its asking
    hub.place.refusal = refusal
    lease = hub.take(booking_id=booking["id"])

    def then(request: StartRequest) -> None:
        hub.place.refusal = ""

    hub.place.before_start = then
    placed = hub.start(lease)["placement_id"]
    assert (placed == berth) is (refusal == "")
    assert held(hub) == {placed: LookState.RUNNING}


def test_a_start_that_fails_in_it_has_another_one_asked_for(hub: Plane) -> None:
    booking = book(hub)
    until(hub, at(10))
    (first,) = held(hub)

    def fail(request: StartRequest) -> None:
        raise Refused("There is no such folder.")

    hub.place.before_start = fail
    lease = hub.take(booking_id=booking["id"])
    with pytest.raises(Refused):
        hub.start(lease)
    assert held(hub) == {}
    hub.lease_failed(lease["id"], "start_failed", "no such folder")
    hub.place.before_start = lambda request: None
    hub.tick()
    (second,) = held(hub)
    assert second != first


def test_what_the_place_ends_by_itself_is_not_extended_beyond_it(hub: Plane) -> None:
    hub.place.berth_ends_at = at(12)
    booking = book(hub)
    until(hub, at(10))
    lease = hub.take(booking_id=booking["id"])
    hub.start(lease)
    hub.lease_running(lease["id"])
    before = hub.money()
    with pytest.raises(Invalid, match=r"until 12:00 UTC .* by at most 1 h\."):
        hub.extend_lease(browser(), hub.key(), lease["id"], 3660)
    assert hub.money() == before
    assert hub.extend_lease(browser(), hub.key(), lease["id"], 3600)["ends_at"] == "2026-03-02T12:00:00Z"
    with pytest.raises(Invalid, match="can't be extended"):
        hub.extend_lease(browser(), hub.key(), lease["id"], 300)
    hub.shorten_lease(browser(), hub.key(), lease["id"], 300)


# -- crashes -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The control plane is gone, with no goodbye."""


@pytest.mark.parametrize("step", ["before the place is asked", "before the answer is written down", "waiting"])
def test_killed_while_asking_its_successor_has_one_place(
    hub: Plane, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = book(hub)
    ask = FakeBackend.ask_berth

    def dying(backend: FakeBackend, request: BerthRequest) -> datetime:
        if step != "before the place is asked":
            ask(backend, request)
        raise Killed

    if step != "waiting":
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(FakeBackend, "ask_berth", dying)
            until(hub, at(9, 55))
    until(hub, at(9, 56))
    hub.restart()
    (berth,) = held(hub)
    until(hub, at(10))
    assert hub.start(hub.take(booking_id=booking["id"]))["placement_id"] == berth


def test_killed_before_it_gave_back_what_nobody_needs_its_successor_does(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = book(hub)
    until(hub, at(9, 55))

    def dying(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FakeBackend, "stop", dying)
        hub.cancel_booking(browser(), hub.key(), booking["id"])
    assert len(held(hub)) == 1
    hub.restart()
    assert held(hub) == {}


def test_killed_between_taking_a_place_and_starting_in_it_nothing_is_left(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = book(hub)
    until(hub, at(10))
    (first,) = held(hub)

    def dying(*_: object) -> None:
        raise Killed

    lease = hub.take(booking_id=booking["id"])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FakeBackend, "start", dying)
        hub.plane._operator.start(lease["id"], _wanted())
    hub.restart()
    # The move died with the plane that made it; the booking is the person's still, and has a place again.
    (second,) = held(hub)
    assert second != first
    assert state_of(hub, booking) == "confirmed"


def _wanted() -> Any:
    from computehub_ext.leases.starts import KernelRequest

    return KernelRequest("/", "python3", b"k", "ada", {})


def test_a_place_out_of_reach_is_asked_when_it_is_back(hub: Plane) -> None:
    book(hub)
    until(hub, at(9, 48))
    hub.place.unreachable = True
    until(hub, at(9, 55))
    hub.place.unreachable = False
    until(hub, at(9, 57))
    assert list(held(hub).values()) == [LookState.READY]


def test_it_is_kept_by_itself_no_longer_than_somebody_may_come(hub: Plane) -> None:
    book(hub)
    until(hub, at(9, 55))
    hub.clock.advance(hours=1)  # and nobody is there to keep it
    assert held(hub) == {}
    kept = [each.look.ended_at for each in hub.place.placements.values()]
    assert kept == [at(10, 16)]
    assert replace(hub.settings).no_show_grace == timedelta(minutes=15)


# -- what it costs the leases elsewhere --------------------------------------------------------------------------------


def test_what_is_kept_for_bookings_is_seen_after_when_the_leases_are_renewed(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.running(kernel_id="k2", model="V100")
    book(hub)
    until(hub, at(9, 55))
    order: list[str] = []

    def note(name: str) -> None:
        done = getattr(FakeBackend, name)

        def noted(backend: FakeBackend, *args: Any) -> Any:
            order.append(name)
            return done(backend, *args)

        monkeypatch.setattr(FakeBackend, name, noted)

    book(hub, who="bob")
    for name in ("renew", "ask_berth"):
        note(name)
    hub.tick(minutes=6)
    assert order[0] == "renew"
    assert "ask_berth" in order


def test_what_goes_wrong_with_berths_keeps_no_lease_from_being_paid_on(
    hub: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease = hub.running(kernel_id="k2", model="V100")

    def broken(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(BerthKeeper, "tick", broken)
    before = hub.again(lease)["paid_until"]
    hub.tick(minutes=6)
    assert hub.again(lease)["paid_until"] > before
    assert "nobody foresaw this" in caplog.text


def test_a_beat_asks_for_some_berths_and_the_next_one_for_the_rest(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.plane.SPECS", [*SPECS, spec("A10", 20, 1000)])
    hub.restart()
    for number in range(ASKED_MAX + 3):
        book(hub, model="A10", notebook_path=f"{number}.ipynb")
    until(hub, at(9, 49))
    hub.tick(minutes=2)
    assert len(held(hub)) == ASKED_MAX
    hub.tick(seconds=5)
    assert len(held(hub)) == ASKED_MAX + 3
    asked: list[str] = []
    ask = FakeBackend.ask_berth

    def noted(backend: FakeBackend, request: BerthRequest) -> datetime:
        asked.append(request.placement_id)
        return ask(backend, request)

    monkeypatch.setattr(FakeBackend, "ask_berth", noted)
    hub.place.room = 0
    for placement in hub.place.placements.values():
        placement.look = replace(placement.look, state=LookState.STARTING)
    hub.restart()  # what an earlier one asked for is asked for again
    assert len(asked) == ASKED_MAX
    hub.tick(seconds=5)
    assert sorted(asked) == sorted(held(hub))


def test_who_cancels_waits_for_nobody_elses_berth(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = book(hub)
    until(hub, at(9, 55))
    book(hub, who="bob")
    asked: list[BerthRequest] = []
    monkeypatch.setattr(FakeBackend, "ask_berth", lambda _, request: asked.append(request))
    hub.cancel_booking(browser(), hub.key(), booking["id"])
    assert held(hub) == {}
    assert asked == []


# -- races -------------------------------------------------------------------------------------------------------------


def before(monkeypatch: pytest.MonkeyPatch, step: str, act: Callable[[], Any]) -> None:
    """Have something come in between, right before a step of the keeper's, once."""
    go_on = getattr(BerthKeeper, step)
    acts = [act]

    def stepped(*args: Any) -> Any:
        while acts:
            acts.pop()()
        return go_on(*args)

    monkeypatch.setattr(BerthKeeper, step, stepped)


def test_a_kernel_that_starts_meanwhile_is_not_told_what_was_for_its_place(
    hub: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = book(hub)
    until(hub, at(9, 55))
    (berth,) = held(hub)
    hub.move_booking(browser(), hub.key(), booking["id"], starts_at="2026-03-02T10:02:00Z", duration_seconds=1800)
    hub.clock.advance(minutes=8)
    lease = hub.take(booking_id=booking["id"])
    before(monkeypatch, "_keep", lambda: hub.start(lease))
    hub.tick()
    assert held(hub) == {berth: LookState.RUNNING}
    assert hub.place.placements[berth].paid_until == hub.clock.now() + hub.settings.start_timeout


def test_a_kernel_that_starts_meanwhile_is_not_given_back(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = book(hub)
    until(hub, at(10))
    lease = hub.take(booking_id=booking["id"])
    before(monkeypatch, "_give_back", lambda: hub.start(lease))
    hub.plane._operator._keeper.give_all_back()
    assert list(held(hub).values()) == [LookState.RUNNING]


def test_what_is_cancelled_meanwhile_is_asked_for_no_more(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    booking = book(hub)
    before(monkeypatch, "_ask_for", lambda: hub.cancel_booking(browser(), hub.key(), booking["id"]))
    asked: list[BerthRequest] = []
    monkeypatch.setattr(FakeBackend, "ask_berth", lambda _, request: asked.append(request))
    until(hub, at(9, 55))
    assert state_of(hub, booking) == "cancelled"
    assert asked == []
