"""What a calendar asks of the API: moving, series, spans of time, and the same for a calendar program."""

from __future__ import annotations

from typing import Any

import pytest
from icalendar import Calendar

from tests.support.api import Hub, new_key

HOUR = 3600
DAY = "2026-03-04"


@pytest.fixture(autouse=True)
def nothing_booked(hub: Hub) -> Any:
    yield
    for who in ("alice", "bob"):
        for booking in hub.as_(who).get("bookings", params={"state": "upcoming"}).json()["items"]:
            hub.as_(who).post(f"bookings/{booking['id']}/cancel")


def book(hub: Hub, hour: int, *, who: str = "alice", model: str = "T4", **more: Any) -> dict[str, Any]:
    wish = {"model": model, "starts_at": f"{DAY}T{hour:02}:00:00Z", "duration_seconds": HOUR, **more}
    made = hub.as_(who).post("bookings", wish)
    assert made.status_code == 201, made.text
    return made.json()


def move(hub: Hub, booking: dict[str, Any], who: str = "alice", key: str = "", **to: Any) -> Any:
    return hub.as_(who).post(f"bookings/{booking['id']}/move", to, key=key)


def held(hub: Hub) -> int:
    return hub.as_("alice").get("me").json()["balance"]["held_microcredits"]


class TestMoving:
    def test_moves_time_length_and_number_at_once(self, hub: Hub) -> None:
        booking = book(hub, 9)
        moved = move(hub, booking, starts_at=f"{DAY}T11:00:00+01:00", duration_seconds=2 * HOUR, count=2)
        assert moved.status_code == 200
        assert (moved.json()["starts_at"], moved.json()["ends_at"]) == (f"{DAY}T10:00:00Z", f"{DAY}T12:00:00Z")
        assert (moved.json()["count"], moved.json()["amount_microcredits"], held(hub)) == (2, 4_000_000, 4_000_000)
        assert hub.as_("alice").get(f"bookings/{booking['id']}").json() == moved.json()

    def test_a_repeated_request_moves_once(self, hub: Hub) -> None:
        booking, key = book(hub, 9), new_key()
        first = move(hub, booking, key=key, duration_seconds=2 * HOUR)
        again = move(hub, booking, key=key, duration_seconds=2 * HOUR)
        assert again.headers["Idempotency-Hit"] == "true"
        assert again.json() == first.json()
        assert move(hub, booking, key=key, duration_seconds=3 * HOUR).json()["code"] == "idempotency_mismatch"

    def test_what_is_taken_is_told_with_what_is_free(self, hub: Hub) -> None:
        book(hub, 12, who="bob", model="V100")
        booking = book(hub, 9, model="V100")
        taken = move(hub, booking, starts_at=f"{DAY}T12:00:00Z")
        assert (taken.status_code, taken.json()["code"]) == (409, "slot_taken")
        assert taken.json()["details"]["earliest"][0]["starts_at"] == f"{DAY}T13:00:00Z"
        assert hub.as_("alice").get(f"bookings/{booking['id']}").json() == booking

    def test_more_than_the_account_has_is_402(self, hub: Hub) -> None:
        booking = book(hub, 9, model="A100")
        refused = move(hub, booking, duration_seconds=10 * HOUR)
        assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
        assert hub.as_("alice").get(f"bookings/{booking['id']}").json() == booking

    @pytest.mark.parametrize(
        ("to", "field"),
        [
            ({"starts_at": "2026-03-01T09:00:00Z"}, "starts_at"),
            ({"starts_at": "2026-09-01T09:00:00Z"}, "starts_at"),
            ({"starts_at": "2026-03-04T09:00:00"}, "starts_at"),
            ({"duration_seconds": 60}, "duration_seconds"),
            ({"count": 9}, "count"),
            ({"ends_at": "2026-03-04T09:00:00Z"}, "ends_at"),
        ],
    )
    def test_nonsense_is_refused_by_the_name_of_its_field(self, hub: Hub, to: dict[str, Any], field: str) -> None:
        refused = move(hub, book(hub, 9), **to)
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, field)

    def test_in_use_only_its_end_moves_and_the_lease_with_it(self, hub: Hub) -> None:
        lease = hub.lease("chk_alice_1")
        booking = {"id": lease["booking_id"]}
        longer = move(hub, booking, duration_seconds=2 * HOUR)
        assert longer.status_code == 200
        assert hub.as_("alice").get(f"leases/{lease['id']}").json()["ends_at"] == longer.json()["ends_at"]
        started = hub.as_("alice").get(f"bookings/{booking['id']}").json()["starts_at"]
        assert move(hub, booking, starts_at=started, duration_seconds=HOUR).json()["ends_at"] == lease["ends_at"]
        for to, field in (({"count": 2}, "count"), ({"starts_at": f"{DAY}T09:00:00Z"}, "starts_at")):
            refused = move(hub, booking, **to)
            assert (refused.status_code, refused.json()["code"]) == (409, "illegal_move")
            assert refused.json()["details"]["field"] == field
        assert move(hub, booking, duration_seconds=30).json()["details"]["field"] == "duration_seconds"
        hub.as_("alice").post(f"leases/{lease['id']}/end")

    def test_what_has_just_begun_may_be_sent_its_own_start(self, hub: Hub) -> None:
        wish = {"model": "T4", "starts_at": hub.clock.now().isoformat(), "duration_seconds": HOUR}
        booking = hub.as_("alice").post("bookings", wish).json()
        hub.clock.advance(seconds=20)
        moved = move(hub, booking, starts_at=booking["starts_at"], duration_seconds=2 * HOUR, count=1)
        assert (moved.status_code, moved.json()["starts_at"]) == (200, booking["starts_at"])

    def test_a_kernel_spends_its_allowance_on_what_it_costs_more(self, hub: Hub) -> None:
        """5 credits a day: 1 for the booking and 3 more; then 4 more are above it."""
        booking = book(hub, 9, who="chk_alice_1")
        assert move(hub, booking, "chk_alice_1", duration_seconds=4 * HOUR).status_code == 200
        asked = move(hub, booking, "chk_alice_1", duration_seconds=8 * HOUR)
        assert (asked.status_code, asked.json()["code"]) == (403, "needs_approval")
        assert hub.as_("alice").get(f"bookings/{booking['id']}").json()["amount_microcredits"] == 4_000_000
        assert move(hub, booking, "chk_alice_1", starts_at=f"{DAY}T20:00:00Z").status_code == 200, "costs no more"

    def test_is_quoted_with_its_own_slot_free(self, hub: Hub) -> None:
        booking = book(hub, 9, model="V100")
        wish = {"moving_booking_id": booking["id"], "starts_at": f"{DAY}T09:30:00Z", "duration_seconds": 2 * HOUR}
        quote = hub.as_("alice").post("quotes", wish, key=None).json()
        assert (quote["available"], quote["amount_microcredits"]) == (True, 5_000_000)
        assert (quote["change_microcredits"], quote["occurrences"]) == (2_500_000, None)
        del wish["moving_booking_id"]
        plain = hub.as_("alice").post("quotes", {**wish, "model": "V100"}, key=None).json()
        assert (plain["available"], plain["change_microcredits"]) == (False, None)

    @pytest.mark.parametrize(
        ("wish", "status", "field"),
        [
            ({"model": "A100"}, 422, "model"),
            ({"rrule": "FREQ=DAILY;COUNT=2"}, 422, "rrule"),
            ({"starts_at": f"{DAY}T09:00:00Z", "when": "tomorrow 9:00"}, 422, "when"),
        ],
    )
    def test_a_quote_of_a_move_that_makes_no_sense(
        self, hub: Hub, wish: dict[str, Any], status: int, field: str
    ) -> None:
        booking = book(hub, 9)
        refused = hub.as_("alice").post("quotes", {"moving_booking_id": booking["id"], **wish}, key=None)
        assert (refused.status_code, refused.json()["details"]["field"]) == (status, field)

    def test_anothers_booking_is_not_quoted(self, hub: Hub) -> None:
        booking = book(hub, 9)
        refused = hub.as_("bob").post("quotes", {"moving_booking_id": booking["id"]}, key=None)
        assert refused.status_code == 404


class TestSeries:
    wish: dict[str, Any] = {  # noqa: RUF012
        "model": "T4",
        "when": "2026-03-27 14:00",
        "time_zone": "Europe/Berlin",
        "duration_seconds": HOUR,
        "rrule": "FREQ=DAILY;COUNT=3",
    }

    def test_keeps_its_time_of_day(self, hub: Hub) -> None:
        made = hub.as_("alice").post("booking-series", self.wish)
        assert made.status_code == 201
        assert [item["starts_at"] for item in made.json()["items"]] == [
            "2026-03-27T13:00:00Z", "2026-03-28T13:00:00Z", "2026-03-29T12:00:00Z"
        ]  # fmt: skip
        assert {item["series_id"] for item in made.json()["items"]} == {made.json()["id"]}
        assert (made.json()["skipped"], made.json()["notes"], held(hub)) == ([], [], 3_000_000)
        assert made.headers["Location"].endswith(f"/booking-series/{made.json()['id']}")
        assert hub.as_("alice").get(f"booking-series/{made.json()['id']}").json() == made.json()

    def test_a_skipped_hour_is_said(self, hub: Hub) -> None:
        wish = {**self.wish, "when": "2026-03-28 02:30", "rrule": "FREQ=DAILY;COUNT=2"}
        quote = hub.as_("alice").post("quotes", wish, key=None).json()
        made = hub.as_("alice").post("booking-series", wish).json()
        assert made["items"][1]["starts_at"] == quote["occurrences"][1]["starts_at"] == "2026-03-29T01:00:00Z"
        assert made["notes"] == [quote["occurrences"][1]["note"]]

    def test_a_repeated_request_books_once(self, hub: Hub) -> None:
        key = new_key()
        first = hub.as_("alice").post("booking-series", self.wish, key=key)
        again = hub.as_("alice").post("booking-series", self.wish, key=key)
        assert (again.headers["Idempotency-Hit"], again.json()) == ("true", first.json())
        assert held(hub) == 3_000_000

    def test_is_cancelled_together(self, hub: Hub) -> None:
        made = hub.as_("alice").post("booking-series", self.wish).json()
        cancelled = hub.as_("alice").post(f"booking-series/{made['id']}/cancel")
        assert {item["state"] for item in cancelled.json()["items"]} == {"cancelled"}
        assert held(hub) == 0

    def test_what_others_have_is_named_or_left_out(self, hub: Hub) -> None:
        wish = {**self.wish, "model": "V100"}
        blocking = {"model": "V100", "starts_at": "2026-03-28T13:30:00Z", "duration_seconds": HOUR}
        assert hub.as_("bob").post("bookings", blocking).status_code == 201
        quote = hub.as_("alice").post("quotes", wish, key=None).json()
        assert [each["available"] for each in quote["occurrences"]] == [True, False, True]
        assert (quote["available"], quote["amount_microcredits"]) == (False, 5_000_000)
        refused = hub.as_("alice").post("booking-series", wish)
        assert (refused.status_code, refused.json()["code"]) == (409, "slot_taken")
        taken = [{"starts_at": "2026-03-28T13:00:00Z", "ends_at": "2026-03-28T14:00:00Z"}]
        assert refused.json()["details"]["taken"] == taken
        assert held(hub) == 0
        made = hub.as_("alice").post("booking-series", {**wish, "skip_taken": True})
        assert (made.json()["skipped"], len(made.json()["items"])) == (taken, 2)

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"rrule": "FREQ=HOURLY;COUNT=2"}, "rrule"),
            ({"rrule": "FREQ=DAILY"}, "rrule"),
            ({"rrule": "FREQ=DAILY;COUNT=61"}, "rrule"),
            ({"rrule": "FREQ=WEEKLY;COUNT=20"}, "rrule"),
            ({"rrule": None}, "rrule"),
            ({"time_zone": "Europe/Atlantis"}, "time_zone"),
            ({"time_zone": None}, "time_zone"),
            ({"when": None}, "starts_at"),
            ({"when": "yesterday 14:00"}, "when"),
            ({"duration_seconds": 60}, "duration_seconds"),
            ({"model": "T5"}, "model"),
            ({"count": 0}, "count"),
        ],
    )
    def test_nonsense_is_refused_by_the_name_of_its_field(self, hub: Hub, more: dict[str, Any], field: str) -> None:
        refused = hub.as_("alice").post("booking-series", {**self.wish, **more})
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, field)

    def test_a_kernel_asks_once_for_all_of_them(self, hub: Hub) -> None:
        wish = {**self.wish, "rrule": "FREQ=DAILY;COUNT=6"}
        asked = hub.as_("chk_bob").post("booking-series", wish)
        assert (asked.status_code, asked.json()["code"]) == (403, "needs_approval")
        details = asked.json()["details"]
        assert details["needed_microcredits"] == 6_000_000
        hub.browser("bob").post(f"approvals/{details['approval_id']}/approve")
        made = hub.as_("chk_bob").post("booking-series", {**wish, "approval_id": details["approval_id"]})
        assert (made.status_code, len(made.json()["items"])) == (201, 6)

    def test_what_is_cancelled_flows_back_into_the_allowance(self, hub: Hub) -> None:
        def left() -> int:
            return hub.as_("bob").get("me").json()["allowance"]["left_microcredits"]

        before = left()
        made = hub.as_("chk_bob").post("booking-series", self.wish).json()
        assert left() == before - 3_000_000
        hub.as_("bob").post(f"bookings/{made['items'][0]['id']}/cancel")
        assert left() == before - 2_000_000
        hub.as_("bob").post(f"booking-series/{made['id']}/cancel")
        assert left() == before

    def test_one_that_became_dearer_gives_nothing_of_the_others_back(self, hub: Hub) -> None:
        """Or a kernel books, moves and cancels until it holds any number of credits."""

        def left() -> int:
            return hub.as_("bob").get("me").json()["allowance"]["left_microcredits"]

        before = left()
        made = hub.as_("chk_bob").post("booking-series", {**self.wish, "rrule": "FREQ=DAILY;COUNT=2"}).json()
        assert move(hub, made["items"][0], "chk_bob", duration_seconds=3 * HOUR).status_code == 200
        assert left() == before - 4_000_000
        hub.as_("bob").post(f"bookings/{made['items'][0]['id']}/cancel")
        assert left() == before - 1_000_000
        assert move(hub, made["items"][1], "chk_bob", duration_seconds=2 * HOUR).status_code == 200
        hub.as_("bob").post(f"booking-series/{made['id']}/cancel")
        assert left() == before


class TestLists:
    def test_a_span_holds_what_lies_in_it_soonest_first(self, hub: Hub) -> None:
        made = [book(hub, hour)["id"] for hour in (15, 9, 12)]
        span = {"from": f"{DAY}T09:30:00Z", "to": f"{DAY}T15:00:00Z"}
        found = hub.as_("alice").get("bookings", params=span).json()["items"]
        assert [item["id"] for item in found if item["state"] == "confirmed"] == [made[1], made[2]]
        theirs = hub.as_("bob").get("bookings", params=span).json()["items"]
        assert not {item["id"] for item in theirs} & set(made)

    def test_what_is_to_come_comes_in_pages_soonest_first(self, hub: Hub) -> None:
        made = [book(hub, hour)["id"] for hour in (15, 9, 12)]
        first = hub.as_("alice").get("bookings", params={"state": "upcoming", "limit": 2}).json()
        rest = hub.as_("alice").get("bookings", params={"state": "upcoming", "cursor": first["next"]}).json()
        assert [item["id"] for item in first["items"] + rest["items"]] == [made[1], made[2], made[0]]
        assert rest["next"] is None

    def test_what_is_over_holds_no_time(self, hub: Hub) -> None:
        kept, gone = book(hub, 9)["id"], book(hub, 10)["id"]
        hub.as_("alice").post(f"bookings/{gone}/cancel")
        past = {item["id"] for item in hub.as_("alice").get("bookings", params={"state": "past"}).json()["items"]}
        assert gone in past
        assert kept not in past

    @pytest.mark.parametrize(
        ("window", "field"),
        [
            ({"from": "today"}, "from"),
            ({"to": "2026-03-04T09:00:00"}, "to"),
            ({"from": "2026-03-04T09:00:00Z", "to": "2026-03-04T09:00:00Z"}, "to"),
            ({"state": "open"}, "state"),
        ],
    )
    def test_a_span_that_is_none_is_refused(self, hub: Hub, window: dict[str, str], field: str) -> None:
        refused = hub.as_("alice").get("bookings", params=window)
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, field)

    def test_leases_open_and_closed(self, hub: Hub) -> None:
        lease = hub.lease("chk_bob")["id"]

        def of(state: str) -> set[str]:
            return {item["id"] for item in hub.as_("bob").get("leases", params={"state": state}).json()["items"]}

        assert lease in of("open") - of("closed")
        hub.as_("bob").post(f"leases/{lease}/end")
        assert lease in of("closed") - of("open")
        both = hub.as_("bob").get("leases", params={"state": "closed", "live": "true"})
        assert (both.status_code, both.json()["details"]["field"]) == (422, "state")


def test_a_calendar_program_reads_them(hub: Hub) -> None:
    booking = book(hub, 9, notebook_path="Über; uns,/x.ipynb")
    gone = book(hub, 10)
    hub.as_("alice").post(f"bookings/{gone['id']}/cancel")
    answer = hub.as_("alice").get("bookings.ics")
    assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
    assert all(len(line.encode()) <= 75 for line in answer.text.split("\r\n"))
    events = {str(event["UID"]): event for event in Calendar.from_ical(answer.text).walk("VEVENT")}
    event = events[f"{booking['id']}@computehub"]
    assert event.decoded("dtstart").isoformat() == f"{DAY}T09:00:00+00:00"
    assert (str(event["SUMMARY"]), str(event["STATUS"])) == ("1 × T4 (simulated)", "CONFIRMED")
    assert str(event["DESCRIPTION"]).endswith("for Über; uns,/x.ipynb")
    assert str(events[f"{gone['id']}@computehub"]["STATUS"]) == "CANCELLED"
    assert booking["id"] not in hub.as_("bob").get("bookings.ics").text
