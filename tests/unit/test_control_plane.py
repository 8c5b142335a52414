"""Leases from the first wish to the last microcredit, through the facade, on a place that keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from computehub_ext.backends.model import Ending, StartRequest
from computehub_ext.core.clock import ManualClock
from computehub_ext.core.credits import rated
from computehub_ext.core.database import Database
from computehub_ext.core.errors import (
    BackendError,
    ComputeHubError,
    Conflict,
    Forbidden,
    IdempotencyMismatch,
    InsufficientCredits,
    Invalid,
    NeedsApproval,
    NoCapacity,
    NotFound,
    Refused,
    SlotTaken,
)
from computehub_ext.core.replayed import Replayed
from computehub_ext.core.settings import Settings
from computehub_ext.leases.model import EndReason
from tests.support.plane import CREDIT, Plane, browser, kernel


@pytest.fixture
def hub(database: Database, clock: ManualClock) -> Iterator[Plane]:
    hub = Plane(database, clock)
    yield hub
    hub.close()


# -- the way there and back --------------------------------------------------------------------------------------------


def test_an_hour_on_a_gpu_costs_an_hour(hub: Plane) -> None:
    lease = hub.take()
    assert (lease["state"], lease["cost_microcredits"]) == ("requested", 0)
    assert hub.money() == (10, 8)
    hub.start(lease)
    hub.clock.advance(seconds=20)  # nobody pays for a start
    assert hub.lease_running(lease["id"])["state"] == "running"
    hub.pass_time(minutes=60)
    assert hub.money() == (9, 8)
    closed = hub.release_lease(lease["id"], "returned")
    assert (closed["state"], closed["end_reason"], closed["cost_microcredits"]) == ("closed", "returned", CREDIT)
    assert hub.money() == (9, 9)
    assert (hub.in_place(), hub.free()) == (0, 2)


def test_without_a_length_it_takes_what_the_money_lasts_for(hub: Plane) -> None:
    hub.take(kernel_id="other", model="V100", duration_seconds=3 * 3600)  # 7.5 of 10 credits
    lease = hub.take(duration_seconds=None, model="T4", count=2)
    assert lease["held_microcredits"] == 2_500_000
    assert hub.money() == (10, 0)
    with pytest.raises(SlotTaken):
        hub.take(kernel_id="third", model="T4")


def test_money_for_less_than_asked_is_refused_and_holds_nothing(hub: Plane) -> None:
    with pytest.raises(InsufficientCredits):
        hub.take(model="V100", duration_seconds=5 * 3600)
    assert hub.money() == (10, 10)
    assert hub.free("V100") == 1


def test_a_dearer_model_than_the_cap_is_not_taken(hub: Plane) -> None:
    with pytest.raises(ComputeHubError):
        hub.take(model="V100", max_rate_microcredits_per_hour=CREDIT)
    assert hub.money() == (10, 10)


def test_when_nothing_is_free_the_refusal_names_the_next_slot_and_another_model(hub: Plane) -> None:
    hub.running(model="V100", duration_seconds=3600)
    with pytest.raises(SlotTaken) as refusal:
        hub.take(browser("bob"), "k2", model="V100", duration_seconds=3600)
    details = refusal.value.details
    assert details["earliest"][0]["starts_at"] == "2026-03-02T10:00:00Z"
    assert [other["model"] for other in details["alternatives"]] == ["T4"]


def test_a_kernel_holds_one_lease(hub: Plane) -> None:
    hub.running()
    with pytest.raises(Conflict, match="%gpu off"):
        hub.take()


def test_the_same_key_takes_one_lease(hub: Plane) -> None:
    first = hub.take_lease(browser(), "same", kernel_id="k1", model="T4", duration_seconds=3600)
    again = hub.take_lease(browser(), "same", kernel_id="k1", model="T4", duration_seconds=3600)
    assert isinstance(again, Replayed)
    assert again["id"] == first["id"]
    assert hub.money() == (10, 9)
    with pytest.raises(IdempotencyMismatch):
        hub.take_lease(browser(), "same", kernel_id="k1", model="V100", duration_seconds=3600)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["start_failed", "cancelled"])
@pytest.mark.parametrize("came", ["nowhere", "to a kernel", "to its swap"])
def test_a_move_that_came_to_nothing_costs_nothing(hub: Plane, reason: str, came: str) -> None:
    lease = hub.take()
    if came != "nowhere":
        hub.start(lease)
    if came == "to its swap":
        hub.lease_running(lease["id"])
    hub.clock.advance(minutes=3)
    closed = hub.lease_failed(lease["id"], reason, "the cable was out")
    assert (closed["state"], closed["end_reason"], closed["end_message"]) == ("closed", reason, "the cable was out")
    assert closed["cost_microcredits"] == 0
    assert hub.money() == (10, 10)
    assert (hub.in_place(), hub.free()) == (0, 2)
    assert hub.running()["state"] == "running"  # the kernel may try again


def test_what_was_metered_is_charged_whatever_the_reason_of_its_end(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=30)
    assert hub.lease_failed(lease["id"], "start_failed")["cost_microcredits"] == CREDIT // 2
    assert hub.money() == (9.5, 9.5)


@pytest.mark.parametrize("when", ["before_start", "after_start"])
def test_a_start_that_fails_leaves_nothing_running(hub: Plane, when: str) -> None:
    def fail(request: StartRequest) -> None:
        raise Refused("no")

    lease = hub.take()
    setattr(hub.place, when, fail)
    with pytest.raises(Refused):
        hub.start(lease)
    assert hub.in_place() == 0
    setattr(hub.place, when, lambda request: None)
    hub.start(lease)  # the devices were given back: another try has room
    assert hub.in_place() == 1


def test_an_unexpected_failure_of_a_place_says_nothing_of_its_insides(hub: Plane) -> None:
    def fail(request: StartRequest) -> None:
        raise RuntimeError("password=hunter2")

    lease = hub.take()
    hub.place.before_start = fail
    with pytest.raises(BackendError) as failure:
        hub.start(lease)
    assert "hunter2" not in str(failure.value)


def test_a_device_serves_one_placement_at_a_time(hub: Plane) -> None:
    hub.running(model="V100", duration_seconds=3600)
    hub.pass_time(minutes=30)
    hub.end_lease(browser(), "end", hub.leases(browser())["items"][0]["id"])
    lease = hub.take(model="V100", duration_seconds=3600)
    hub.start(lease)
    with pytest.raises(NoCapacity, match="moving out"):
        hub.start(lease)


def test_ending_twice_settles_once(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(hours=1)
    hub.release_lease(lease["id"], "returned")
    hub.pass_time(hours=1)
    assert hub.release_lease(lease["id"], "idle")["end_reason"] == "returned"
    assert hub.money() == (9, 9)


# -- time --------------------------------------------------------------------------------------------------------------


def test_at_the_end_of_its_time_the_control_plane_ends_it_whoever_sleeps(hub: Plane) -> None:
    lease = hub.running(duration_seconds=3600)
    for _ in range(59):
        hub.tick(minutes=1)
    assert hub.again(lease)["state"] == "running"
    hub.tick(minutes=1)
    assert (hub.again(lease)["state"], hub.again(lease)["end_reason"]) == ("closed", "time_up")
    assert hub.money() == (9, 9)


def test_orders_come_in_time_and_warnings_once(hub: Plane) -> None:
    hub.running(duration_seconds=3600)
    hub.report_activity("k1", busy=True)
    told = []
    for _ in range(60):
        told += [(order["kind"]) for order in hub.orders(["k1"])]
        hub.tick(minutes=1)
    assert told == ["ending_10", "ending_2", "closing"]


def test_idle_time_counts_from_the_last_cell(hub: Plane) -> None:
    hub.running(idle_timeout_seconds=600)
    hub.report_activity("k1", busy=True)
    hub.clock.advance(minutes=30)
    assert hub.orders(["k1"]) == []
    hub.report_activity("k1", busy=False)
    hub.clock.advance(minutes=8)
    assert [order["kind"] for order in hub.orders(["k1"])] == ["idle_warning"]
    hub.report_activity("k1", busy=False)
    hub.clock.advance(minutes=9)
    assert [order["kind"] for order in hub.orders(["k1"])] == ["idle_warning"]
    hub.clock.advance(minutes=1)
    assert [order["kind"] for order in hub.orders(["k1"])] == ["idle_release"]


def test_an_idle_time_out_of_bounds_is_refused(hub: Plane) -> None:
    with pytest.raises(Invalid) as refusal:
        hub.take(idle_timeout_seconds=86_400)
    assert refusal.value.details["field"] == "idle_timeout_seconds"


def test_a_persons_idle_time_holds_where_the_wish_has_none(hub: Plane) -> None:
    hub.set_defaults(browser(), idle_timeout_seconds=900)
    assert hub.take(kernel())["idle_timeout_seconds"] == 900, "in a cell too"
    assert hub.take(browser(), "k2", model="V100", idle_timeout_seconds=600)["idle_timeout_seconds"] == 600
    assert hub.take(browser("bob"), "k3")["idle_timeout_seconds"] == 1200, "bob's is the administrator's"


def test_a_lower_maximum_of_the_administrators_caps_it_also_later(hub: Plane) -> None:
    hub.set_defaults(browser(), idle_timeout_seconds=3600, duration_seconds=4 * 3600)
    hub.settings = Settings(idle_timeout_max=timedelta(minutes=30), max_duration=timedelta(hours=3))
    hub.restart()
    seen = hub.defaults(kernel())
    assert (seen["idle_timeout_seconds"], seen["duration_seconds"]) == (1800, 3 * 3600)
    lease = hub.take(duration_seconds=None)
    assert lease["idle_timeout_seconds"] == 1800
    assert lease["ends_at"] == "2026-03-02T12:00:00Z"
    # What these bounds no longer allow is no reason to refuse another change.
    assert hub.set_defaults(browser(), duration_seconds=3600)["duration_seconds"] == 3600
    hub.settings = Settings()
    hub.restart()
    assert hub.defaults(browser())["idle_timeout_seconds"] == 3600, "what was chosen is still known"


def test_a_persons_length_holds_where_the_wish_has_none_as_far_as_the_money_lasts(hub: Plane) -> None:
    hub.set_defaults(browser(), duration_seconds=1800)
    assert hub.quote(browser(), model="T4")["amount_microcredits"] == CREDIT // 2
    assert hub.estimate(browser(), model="T4")["duration_seconds"] == 1800
    assert hub.book(browser(), "b", model="T4", when="tomorrow 14:00")["ends_at"] == "2026-03-03T14:30:00Z"
    assert hub.take(duration_seconds=None)["ends_at"] == "2026-03-02T09:30:00Z"
    assert hub.quote(browser("bob"), model="T4")["amount_microcredits"] == 2 * CREDIT
    hub.set_defaults(browser(), duration_seconds=24 * 3600)
    assert hub.take(browser(), "k2", model="V100", duration_seconds=None)["ends_at"] == "2026-03-02T12:36:00Z"


def test_a_persons_price_limit_holds_on_the_spot_where_the_wish_has_none(hub: Plane) -> None:
    hub.set_defaults(browser(), max_rate_microcredits_per_hour=CREDIT)
    with pytest.raises(Invalid, match=r"above your maximum of 1\.00") as refusal:
        hub.take(model="V100", duration_seconds=600)
    assert refusal.value.details["field"] == "max_rate_microcredits_per_hour"
    dear = {"model": "V100", "duration_seconds": 600, "max_rate_microcredits_per_hour": 3 * CREDIT}
    lease = hub.take(**dear)
    assert lease["model"] == "V100"
    hub.release_lease(lease["id"], "returned")
    hub.set_defaults(browser("bob"), max_rate_microcredits_per_hour=CREDIT)
    slot = {"when": "2026-03-02T09:00:00Z", "duration_seconds": 3600}
    hub.book(browser("bob"), "b", model="V100", **slot)
    assert hub.take(browser("bob"), "k2", model=None)["model"] == "V100", "what is booked was chosen by its price"


def test_a_kernel_does_not_set_its_owners_defaults(hub: Plane) -> None:
    with pytest.raises(Forbidden):
        hub.set_defaults(kernel(), idle_timeout_seconds=7200)
    assert hub.defaults(kernel())["idle_timeout_seconds"] is None


def test_extending_and_shortening_move_the_money(hub: Plane) -> None:
    lease = hub.running(duration_seconds=3600)
    longer = hub.extend_lease(browser(), "e1", lease["id"], 3600)
    assert longer["ends_at"] == "2026-03-02T11:00:00Z"
    assert hub.money() == (10, 8)
    assert hub.extend_lease(browser(), "e1", lease["id"], 3600)["ends_at"] == longer["ends_at"]
    assert hub.money() == (10, 8)
    shorter = hub.shorten_lease(browser(), "s1", lease["id"], 5400)
    assert shorter["ends_at"] == "2026-03-02T09:30:00Z"
    assert hub.money() == (10, 9.5)
    with pytest.raises(Invalid, match="at most"):
        hub.shorten_lease(browser(), "s2", lease["id"], 1800)


def test_extending_into_another_persons_booking_is_refused(hub: Plane) -> None:
    lease = hub.running(model="V100", duration_seconds=3600)
    hub.book(browser("bob"), "b", model="V100", starts_at="2026-03-02T10:30:00Z", duration_seconds=3600)
    with pytest.raises(SlotTaken) as refusal:
        hub.extend_lease(browser(), "e", lease["id"], 3600)
    assert refusal.value.details["free_until"] == "2026-03-02T10:30:00Z"
    assert hub.money() == (10, 7.5)


def test_a_lease_on_a_booking_costs_from_the_start_of_its_slot(hub: Plane) -> None:
    booking = hub.book(browser(), "b", model="T4", starts_at="2026-03-02T10:00:00Z", duration_seconds=3600)
    with pytest.raises(Conflict, match="not come yet"):
        hub.take(booking_id=booking["id"])
    hub.clock.advance(minutes=70)
    lease = hub.running(duration_seconds=None)  # the booking is found without its id
    assert lease["booking_id"] == booking["id"]
    hub.pass_time(minutes=20)
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == CREDIT // 2
    assert hub.money() == (9.5, 9.5)


def test_a_failed_start_on_a_booking_keeps_the_slot_for_another_try(hub: Plane) -> None:
    booking = hub.book(browser(), "b", model="T4", starts_at="2026-03-02T10:00:00Z", duration_seconds=3600)
    hub.clock.advance(minutes=61)
    lease = hub.take()
    hub.lease_failed(lease["id"], "start_failed")
    assert hub.booking(browser(), booking["id"])["state"] == "confirmed"
    assert hub.money() == (10, 9)
    assert hub.running()["booking_id"] == booking["id"]


def test_cancelling_the_booking_of_a_running_lease_ends_it(hub: Plane) -> None:
    lease = hub.running(duration_seconds=3600)
    hub.pass_time(minutes=30)
    hub.cancel_booking(browser(), "c", lease["booking_id"])
    assert hub.again(lease)["state"] == "closed"
    assert hub.money() == (9.5, 9.5)
    assert hub.in_place() == 0


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(beats=st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_however_often_the_meter_runs_the_sum_is_the_time(beats: list[int]) -> None:
    from computehub_ext.testing.stores import import_every_store

    import_every_store()
    clock = ManualClock()
    with Database("sqlite://", clock=clock) as database:
        database.create_all()
        hub = Plane(database, clock)
        lease = hub.running(model="V100", duration_seconds=7200)
        for seconds in beats:
            hub.tick(seconds=seconds)
        closed = hub.release_lease(lease["id"], "returned")
        assert closed["cost_microcredits"] == rated(5 * CREDIT // 2, timedelta(seconds=sum(beats)))
        assert round((10 - hub.money()[0]) * CREDIT) == closed["cost_microcredits"]
        hub.close()


# -- who may -----------------------------------------------------------------------------------------------------------

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("lease", {}),
    ("extend_lease", {"key": "x", "seconds": 60}),
    ("shorten_lease", {"key": "x", "seconds": 60}),
    ("end_lease", {"key": "x"}),
]


@pytest.mark.parametrize(("call", "more"), CALLS)
def test_another_person_finds_no_such_lease(hub: Plane, call: str, more: dict[str, Any]) -> None:
    lease = hub.running()
    with pytest.raises(NotFound):
        getattr(hub, call)(browser("bob"), lease_id=lease["id"], **more)
    assert hub.again(lease)["state"] == "running"


@pytest.mark.parametrize(("call", "more"), CALLS)
def test_another_kernel_of_the_same_person_may_not_touch_it(hub: Plane, call: str, more: dict[str, Any]) -> None:
    lease = hub.running()
    with pytest.raises(Forbidden):
        getattr(hub, call)(kernel("k2"), lease_id=lease["id"], **more)


def test_a_kernel_takes_no_lease_for_another_kernel(hub: Plane) -> None:
    with pytest.raises(Forbidden):
        hub.take(kernel("k2"), "k1")


def test_another_persons_booking_can_be_neither_seen_used_nor_cancelled(hub: Plane) -> None:
    booking = hub.book(browser(), "b", model="T4", starts_at="2026-03-02T09:00:00Z", duration_seconds=3600)
    for call in (
        lambda: hub.booking(browser("bob"), booking["id"]),
        lambda: hub.cancel_booking(browser("bob"), "c", booking["id"]),
        lambda: hub.take(browser("bob"), "k9", booking_id=booking["id"]),
    ):
        with pytest.raises(NotFound):
            call()
    assert hub.money() == (10, 9)


def test_a_kernel_spends_its_allowance_and_then_asks_the_browser(hub: Plane) -> None:
    lease = hub.running(kernel(), duration_seconds=3 * 3600)
    with pytest.raises(NeedsApproval) as asked:
        hub.extend_lease(kernel(), "e", lease["id"], 3 * 3600)
    approval_id = asked.value.details["approval_id"]
    assert hub.money() == (10, 7)
    with pytest.raises(Forbidden):
        hub.decide_approval(kernel(), approval_id, True)
    with pytest.raises(NotFound):
        hub.decide_approval(browser("bob"), approval_id, True)
    assert hub.decide_approval(browser(), approval_id, True)["state"] == "approved"
    assert hub.extend_lease(kernel(), "e", lease["id"], 3 * 3600)["ends_at"] == "2026-03-02T15:00:00Z"
    assert hub.money() == (10, 4)


def test_what_a_kernel_did_not_use_flows_back_to_its_allowance(hub: Plane) -> None:
    lease = hub.running(kernel(), duration_seconds=4 * 3600)
    assert hub.me(browser())["allowance"]["left_microcredits"] == CREDIT
    hub.pass_time(hours=1)
    hub.release_lease(lease["id"], "returned")
    assert hub.me(browser())["allowance"]["left_microcredits"] == 4 * CREDIT


def test_a_kernel_does_not_set_its_own_allowance(hub: Plane) -> None:
    with pytest.raises(Forbidden):
        hub.set_allowance(kernel(), 100 * CREDIT)
    assert hub.set_allowance(browser(), 0)["allowance"]["per_day_microcredits"] == 0
    with pytest.raises(NeedsApproval):
        hub.take(kernel())


# -- crashes -----------------------------------------------------------------------------------------------------------


def test_a_running_lease_goes_on_after_a_crash(hub: Plane) -> None:
    lease = hub.running()
    hub.clock.advance(minutes=5)
    hub.restart()
    assert hub.again(lease)["state"] == "running"
    assert (hub.in_place(), hub.free()) == (1, 1)
    hub.tick(minutes=5)
    hub.tick(minutes=5)
    hub.tick(minutes=5)
    assert hub.release_lease(lease["id"], "returned")["cost_microcredits"] == rated(CREDIT, timedelta(minutes=20))


@pytest.mark.parametrize("started", [False, True])
def test_a_crash_before_the_lease_ran_leaves_nothing_and_costs_nothing(hub: Plane, started: bool) -> None:
    lease = hub.take()
    if started:
        hub.start(lease)
    hub.restart()
    assert (hub.again(lease)["state"], hub.again(lease)["end_reason"]) == ("closed", "start_failed")
    assert hub.in_place() == 0
    assert hub.money() == (10, 10)


def test_a_crash_between_starting_and_writing_it_down_is_found_by_label(hub: Plane) -> None:
    class Crash(BaseException):
        """Nothing catches a SIGKILL."""

    def crash(request: StartRequest) -> None:
        raise Crash

    lease = hub.take()
    hub.place.after_start = crash
    with pytest.raises(Crash):
        hub.start(lease)
    assert hub.in_place() == 1
    hub.place.after_start = lambda request: None
    hub.restart()
    assert hub.in_place() == 0
    assert hub.money() == (10, 10)


def test_a_control_plane_that_stays_away_is_paid_until_the_horizon_and_no_longer(hub: Plane) -> None:
    lease = hub.running()
    hub.clock.advance(hours=1)
    hub.restart()
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", "unpaid")
    assert closed["cost_microcredits"] == rated(CREDIT, hub.settings.paid_horizon)
    assert hub.in_place() == 0


def test_a_kernel_that_died_is_billed_until_then(hub: Plane) -> None:
    lease = hub.running()
    placement_id = lease["placement_id"]
    hub.clock.advance(minutes=6)
    hub.backend.end(placement_id, Ending.KILLED)
    hub.tick(seconds=10)
    assert hub.again(lease)["state"] == "running"  # its server may restart it on the same lease
    hub.tick(seconds=31)
    closed = hub.again(lease)
    assert (closed["state"], closed["end_reason"]) == ("closed", "kernel_died")
    assert closed["end_message"]
    assert hub.free() == 2


def test_a_restart_on_the_same_lease_takes_a_new_placement(hub: Plane) -> None:
    lease = hub.running()
    hub.backend.end(lease["placement_id"], Ending.KILLED)
    hub.end_placement(lease["placement_id"])
    hub.start(lease)
    hub.tick(minutes=2)
    now = hub.again(lease)
    assert now["state"] == "running"
    assert now["placement_id"] != lease["placement_id"]


def test_what_a_place_says_for_moves_is_not_shown(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    start = hub.backend.start
    said = {"node": "gpu-3", "state_port": "30106:32768"}
    monkeypatch.setattr(hub.backend, "start", lambda request: replace(start(request), details=said))
    assert hub.again(hub.running())["place"]["details"] == {"node": "gpu-3"}


def test_what_runs_without_a_row_is_stopped(hub: Plane) -> None:
    lease = hub.running()
    request = hub.place.placements[lease["placement_id"]].request
    assert request is not None
    hub.backend.start(replace(request, placement_id="stray"))
    assert hub.in_place() == 2
    hub.tick(seconds=1)
    assert hub.in_place() == 1
    assert hub.again(lease)["state"] == "running"


def test_a_place_that_can_not_be_reached_is_asked_again(hub: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    from computehub_ext.core.errors import Unreachable

    lease = hub.running()
    hub.clock.advance(minutes=6)

    def unreachable(*args: object) -> None:
        raise Unreachable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(hub.backend, "stop", unreachable)
        assert hub.release_lease(lease["id"], "returned")["state"] == "closing"
        hub.tick(seconds=5)
        assert hub.again(lease)["state"] == "closing"
    cost = hub.again(lease)["cost_microcredits"]
    hub.tick(seconds=5)
    assert hub.again(lease)["state"] == "closed"
    assert hub.again(lease)["cost_microcredits"] == cost == rated(CREDIT, timedelta(minutes=6))


def test_everything_is_ended_when_the_demo_is(hub: Plane) -> None:
    lease = hub.running()
    hub.clock.advance(minutes=6)
    hub.plane._operator.end_all(EndReason.SERVER_STOPPED)
    assert hub.again(lease)["end_reason"] == "server_stopped"
    assert hub.in_place() == 0
    assert hub.money() == (9.9, 9.9)


def test_a_booking_missed_is_charged_for_its_grace_and_freed(hub: Plane) -> None:
    hub.book(browser(), "b", model="V100", starts_at="2026-03-02T10:00:00Z", duration_seconds=7200)
    hub.clock.advance(hours=1)
    assert hub.free("V100") == 0
    hub.tick(minutes=15)
    assert hub.free("V100") == 1
    assert hub.money() == (9.375, 9.375)


def test_the_history_says_which_lease_each_charge_paid_for(hub: Plane) -> None:
    lease = hub.running()
    hub.pass_time(minutes=2)
    hub.release_lease(lease["id"], "returned")
    lines = hub.history(browser())["items"]
    assert {(line["kind"], line["lease_id"]) for line in lines} == {("draw", lease["id"]), ("grant", None)}
    assert sum(line["amount_microcredits"] for line in lines) == hub.money()[0] * CREDIT


def test_the_supervisor_hears_of_a_shortened_lease_at_once(hub: Plane) -> None:
    lease = hub.running(duration_seconds=3600)
    hub.shorten_lease(browser(), "s", lease["id"], 3600 - 120)
    assert hub.place.placements[lease["placement_id"]].paid_until == hub.clock.now() + timedelta(seconds=120)


def test_the_books_of_a_lease_stay_short(hub: Plane) -> None:
    hub.running(duration_seconds=7200)
    for _ in range(12 * 10):
        hub.tick(seconds=5)
    assert len(hub.history(browser())["items"]) <= 1 + 10


# -- two at one notebook -----------------------------------------------------------------------------------------------


def told(hub: Plane) -> list[tuple[str, str]]:
    heard: list[tuple[str, str]] = []
    hub.database.listen(lambda event: heard.append((event.kind, event.payload["action"])), in_background=False)
    hub.database.deliver()
    heard.clear()
    return heard


def test_who_says_that_they_are_here_starts_the_idle_time_again(hub: Plane) -> None:
    lease = hub.running(idle_timeout_seconds=600)
    heard = told(hub)
    hub.clock.advance(minutes=9)
    assert [order["kind"] for order in hub.orders(["k1"])] == ["idle_warning"]
    hub.keep_lease(lease["id"])
    seen = hub.lease_seen(browser("bob"), lease["id"])
    assert seen["idle"]["since_at"] == seen["lease"]["server_now"]
    hub.clock.advance(minutes=9)
    assert [order["kind"] for order in hub.orders(["k1"])] == ["idle_warning"], "warned again"
    hub.database.deliver()
    assert heard == [("notice", "idle_warning"), ("lease", "changed"), ("notice", "idle_warning")]
    hub.release_lease(lease["id"], "returned")
    with pytest.raises(Conflict):
        hub.keep_lease(lease["id"])


def test_a_cell_is_news_only_where_somebody_was_warned(hub: Plane) -> None:
    hub.running(idle_timeout_seconds=600)
    heard = told(hub)
    for busy in (True, False):
        hub.report_activity("k1", busy=busy)
    hub.database.deliver()
    assert heard == []
    hub.clock.advance(minutes=9)
    hub.orders(["k1"])
    hub.report_activity("k1", busy=True)
    hub.database.deliver()
    assert heard == [("notice", "idle_warning"), ("lease", "changed")]
    assert hub.lease_seen(browser(), hub.lease_of_kernel("k1")["id"])["idle"] == {
        "since_at": None,
        "gives_back_at": None,
    }


def test_a_move_that_is_tried_out_leaves_nothing(hub: Plane) -> None:
    tried = hub.try_lease(browser(), kernel_id="k1", model="T4", count=2, duration_seconds=7200)
    assert (tried["held_microcredits"], tried["on_the_spot"]) == (4 * CREDIT, True)
    assert (hub.money(), hub.free(), hub.leases(browser())["items"], hub.bookings(browser())["items"]) == (
        (10, 10),
        2,
        [],
        [],
    )
    with pytest.raises(InsufficientCredits):
        hub.try_lease(browser(), kernel_id="k1", model="V100", duration_seconds=5 * 3600)
    with pytest.raises(NeedsApproval) as refusal:
        hub.try_lease(kernel(), kernel_id="k1", model="V100", duration_seconds=4 * 3600)
    assert set(refusal.value.details) == {"needed_microcredits", "left_microcredits"}
    assert hub.approvals(browser())["items"] == [], "nobody is asked for what was only looked at"
    with pytest.raises(Forbidden):
        hub.try_lease(kernel(), kernel_id="k2", model="T4")
    assert hub.me(browser())["allowance"]["left_microcredits"] == 5 * CREDIT
    hub.running(duration_seconds=3600)
    with pytest.raises(Conflict, match="%gpu off"):
        hub.try_lease(browser(), kernel_id="k1", model="T4")
    with pytest.raises(SlotTaken):
        hub.try_lease(browser("bob"), kernel_id="k2", model="T4", count=2, duration_seconds=3600)
