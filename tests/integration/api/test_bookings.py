"""Offers, quotes, estimates, the calendar and bookings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.api import Hub, new_key

HOUR = 3600


@pytest.fixture
def booking(hub: Hub) -> dict[str, Any]:
    wish = {"model": "T4", "starts_at": "2026-03-03T09:00:00Z", "duration_seconds": HOUR, "notebook_path": "a/b.ipynb"}
    made = hub.as_("alice").post("bookings", wish)
    assert made.status_code == 201
    yield made.json()
    hub.as_("alice").post(f"bookings/{made.json()['id']}/cancel")


def test_offers_say_what_is_simulated(hub: Hub) -> None:
    offers = {offer["model"]: offer for offer in hub.as_("alice").get("offers").json()["items"]}
    assert {"T4", "V100", "A100"} <= offers.keys()
    assert all(offer["simulated"] for offer in offers.values())
    assert (offers["T4"]["free_now"], offers["T4"]["rate_microcredits_per_hour"]) == (2, 1_000_000)


def test_a_quote_costs_nothing_and_holds_nothing(hub: Hub) -> None:
    wish = {"model": "t4", "when": "tomorrow 14:00", "time_zone": "Europe/Berlin", "duration_seconds": 2 * HOUR}
    quote = hub.as_("alice").post("quotes", wish, key=None).json()
    assert (quote["starts_at"], quote["ends_at"]) == ("2026-03-03T13:00:00Z", "2026-03-03T15:00:00Z")
    assert (quote["amount_microcredits"], quote["available"], quote["simulated"]) == (2_000_000, True, True)
    assert hub.as_("alice").get("me").json()["balance"]["held_microcredits"] == 0


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"model": "T5"}, "model"),
        ({"model": "T4", "when": "yesterday 14:00"}, "when"),
        ({"model": "T4", "when": "2026-03-29 02:30", "time_zone": "Europe/Berlin"}, "when"),
        ({"model": "T4", "when": "14:00", "time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"model": "T4", "when": "14:00", "starts_at": "2026-03-03T09:00:00Z"}, "when"),
        ({"model": "T4", "starts_at": "2026-03-03T09:00:00"}, "starts_at"),
        ({"model": "T4", "duration_seconds": 0}, "duration_seconds"),
        ({"model": "T4", "modle": "T4"}, "modle"),
    ],
)
@pytest.mark.parametrize("route", ["quotes", "bookings"])
def test_nonsense_is_refused_by_the_name_of_its_field(hub: Hub, route: str, wish: dict[str, Any], field: str) -> None:
    refused = hub.as_("alice").post(route, wish)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert refused.json()["details"]["field"] == field
    assert refused.json()["message"]


def test_an_estimate_needs_no_body(hub: Hub) -> None:
    asked = hub.as_("alice").get("estimates", params={"model": "V100", "duration_seconds": HOUR})
    assert (asked.json()["most_microcredits"], asked.json()["runs"]) == (2_500_000, 0)
    assert hub.as_("alice").get("estimates").status_code == 200
    assert hub.as_("alice").get("estimates", params={"model": "T5"}).json()["details"]["field"] == "model"
    refused = hub.as_("alice").get("estimates?notebook_path=%06a.ipynb")
    assert (refused.status_code, refused.json()["details"]["field"]) == (422, "notebook_path")


def test_the_calendar_of_a_pool(hub: Hub, booking: dict[str, Any]) -> None:
    window = {"start": "2026-03-03T08:00:00Z", "end": "2026-03-03T11:00:00Z", "step_seconds": HOUR}
    calendar = hub.as_("bob").get(f"pools/{booking['pool_id']}/availability", params=window).json()
    assert [slot["free"] for slot in calendar["items"]] == [2, 1, 2]


@pytest.mark.parametrize(
    ("window", "field"),
    [
        ({"start": "2026-03-03T08:00:00Z"}, "end"),
        ({"start": "today", "end": "2026-03-03T08:00:00Z"}, "start"),
        ({"start": "2026-03-03T09:00:00Z", "end": "2026-03-03T08:00:00Z"}, "end"),
        ({"start": "2026-03-03T08:00:00Z", "end": "2026-03-03T08:00:00Z"}, "end"),
        ({"start": "2026-03-03T08:00:00Z", "end": "2036-03-03T08:00:00Z", "step_seconds": 60}, "step_seconds"),
        ({"start": "2026-03-03T08:00:00Z", "end": "2026-03-03T09:00:00Z", "step_seconds": 1}, "step_seconds"),
    ],
)
def test_a_window_that_is_none_is_refused(hub: Hub, window: dict[str, Any], field: str) -> None:
    pool_id = hub.as_("alice").get("offers").json()["items"][0]["pool_id"]
    refused = hub.as_("alice").get(f"pools/{pool_id}/availability", params=window)
    assert (refused.status_code, refused.json()["details"].get("field")) == (422, field)


def test_a_booking_holds_its_price(hub: Hub, booking: dict[str, Any]) -> None:
    assert (booking["state"], booking["amount_microcredits"], booking["notebook_path"]) == (
        "confirmed",
        1_000_000,
        "a/b.ipynb",
    )
    assert hub.as_("alice").get(f"bookings/{booking['id']}").json() == booking
    assert booking in hub.as_("alice").get("bookings").json()["items"]
    assert hub.as_("alice").get("me").json()["balance"]["held_microcredits"] == 1_000_000


def test_where_the_booking_is(hub: Hub) -> None:
    wish = {"model": "T4", "starts_at": "2026-03-04T09:00:00Z", "duration_seconds": HOUR}
    made = hub.as_("alice").post("bookings", wish)
    assert made.headers["Location"] == f"/base/api/computehub/v1/bookings/{made.json()['id']}"
    found = hub.as_("alice").http.get(f"{hub.server.origin}{made.headers['Location']}")
    assert found.json() == made.json()
    hub.as_("alice").post(f"bookings/{made.json()['id']}/cancel")


def test_cancelling_before_the_start_releases_everything(hub: Hub, booking: dict[str, Any]) -> None:
    cancelled = hub.as_("alice").post(f"bookings/{booking['id']}/cancel").json()
    assert cancelled["state"] == "cancelled"
    balance = hub.as_("alice").get("me").json()["balance"]
    assert (balance["held_microcredits"], balance["available_microcredits"]) == (0, 10_000_000)


def test_what_is_taken_is_told_with_what_is_free(hub: Hub) -> None:
    wish = {"model": "V100", "starts_at": "2026-03-06T09:00:00Z", "duration_seconds": HOUR}
    first = hub.as_("alice").post("bookings", wish).json()
    taken = hub.as_("bob").post("bookings", wish)
    assert (taken.status_code, taken.json()["code"]) == (409, "slot_taken")
    assert taken.json()["details"]["earliest"][0]["starts_at"] == "2026-03-06T10:00:00Z"
    assert taken.json()["details"]["alternatives"]
    hub.as_("alice").post(f"bookings/{first['id']}/cancel")


def test_more_than_the_account_has_is_402(hub: Hub) -> None:
    wish = {"model": "A100", "starts_at": "2026-03-06T09:00:00Z", "duration_seconds": 10 * HOUR}
    refused = hub.as_("alice").post("bookings", wish)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_credits")
    assert refused.json()["details"] == {
        "available_microcredits": 10_000_000,
        "needed_microcredits": 40_000_000,
    } | {key: value for key, value in refused.json()["details"].items() if not key.endswith("_microcredits")}


class TestKeys:
    """The same key answers as the first time; with another input it is refused; without one nothing is booked."""

    wish: dict[str, Any] = {"model": "T4", "starts_at": "2026-03-07T09:00:00Z", "duration_seconds": HOUR}  # noqa: RUF012

    def test_a_repeated_request_books_once(self, hub: Hub) -> None:
        key = new_key()
        first = hub.as_("alice").post("bookings", self.wish, key=key)
        again = hub.as_("alice").post("bookings", self.wish, key=key)
        assert "Idempotency-Hit" not in first.headers
        assert again.headers["Idempotency-Hit"] == "true"
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert again.headers["Location"] == first.headers["Location"]
        assert hub.as_("alice").get("me").json()["balance"]["held_microcredits"] == 1_000_000
        other = hub.as_("alice").post("bookings", self.wish | {"duration_seconds": 2 * HOUR}, key=key)
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_mismatch")
        cancel = f"bookings/{first.json()['id']}/cancel"
        assert hub.as_("alice").post(cancel, key=key).json()["code"] == "idempotency_mismatch"
        key = new_key()
        cancelled = hub.as_("alice").post(cancel, key=key)
        assert hub.as_("alice").post(cancel, key=key).json() == cancelled.json()

    def test_a_key_is_its_persons_own(self, hub: Hub) -> None:
        key = new_key()
        made = hub.as_("alice").post("bookings", self.wish, key=key)
        others = hub.as_("bob").post("bookings", self.wish, key=key)
        assert others.status_code == 201
        assert "Idempotency-Hit" not in others.headers
        assert others.json()["id"] != made.json()["id"]
        hub.as_("alice").post(f"bookings/{made.json()['id']}/cancel")
        hub.as_("bob").post(f"bookings/{others.json()['id']}/cancel")

    def test_what_was_refused_may_be_sent_again_with_its_key(self, hub: Hub) -> None:
        key = new_key()
        wish = {"model": "V100", "starts_at": "2026-03-08T09:00:00Z", "duration_seconds": HOUR}
        blocking = hub.as_("bob").post("bookings", wish).json()
        assert hub.as_("alice").post("bookings", wish, key=key).status_code == 409
        hub.as_("bob").post(f"bookings/{blocking['id']}/cancel")
        made = hub.as_("alice").post("bookings", wish, key=key)
        assert made.status_code == 201
        hub.as_("alice").post(f"bookings/{made.json()['id']}/cancel")

    @pytest.mark.parametrize("key", [None, "", "x" * 129, "two words"])
    def test_without_a_key_nothing_is_done(self, hub: Hub, key: str | None) -> None:
        before = hub.as_("alice").get("bookings").json()
        refused = hub.as_("alice").post(
            "bookings", self.wish, key=None, headers={} if key is None else {"Idempotency-Key": key}
        )
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, "Idempotency-Key")
        assert hub.as_("alice").get("bookings").json() == before


def test_bookings_come_in_pages(hub: Hub) -> None:
    days = [f"2026-03-1{day}T09:00:00Z" for day in range(3)]
    made = [
        hub.as_("bob").post("bookings", {"model": "T4", "starts_at": day, "duration_seconds": HOUR}).json()["id"]
        for day in days
    ]
    first = hub.as_("bob").get("bookings", params={"limit": 2}).json()
    assert [item["id"] for item in first["items"]] == [made[2], made[1]]
    second = hub.as_("bob").get("bookings", params={"limit": 1, "cursor": first["next"]}).json()
    assert [item["id"] for item in second["items"]] == [made[0]]
    for booking_id in made:
        hub.as_("bob").post(f"bookings/{booking_id}/cancel")
