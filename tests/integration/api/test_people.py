"""Balance, allowance, approvals and history."""

from __future__ import annotations

from typing import Any

import pytest

from computehub_ext.api.views import moment
from tests.support.api import Api, Hub


def test_a_new_person_finds_the_welcome_grant(hub: Hub) -> None:
    me = hub.as_("alice").get("me").json()
    assert (me["username"], me["display_name"], me["identity"]) == ("alice", "Alice", "person")
    assert me["balance"]["available_microcredits"] == 10_000_000
    assert me["balance"]["by_origin"] == {"granted": 10_000_000, "purchased": 0, "earned": 0}
    [line] = hub.as_("alice").get("history").json()["items"]
    assert (line["kind"], line["amount_microcredits"], line["origin"]) == ("grant", 10_000_000, "granted")


def test_each_sees_themselves_whatever_way_they_come(hub: Hub) -> None:
    for api, name in ((hub.as_("bob"), "bob"), (hub.browser("alice"), "alice"), (hub.as_("chk_alice_1"), "alice")):
        assert api.get("me").json()["username"] == name


def test_the_allowance_is_set_by_its_payer(hub: Hub) -> None:
    for api, amount in ((hub.as_("alice"), 3_000_000), (hub.browser("alice"), 4_000_000)):
        assert api.put("me/allowance", {"per_day_microcredits": amount}).json()["allowance"] == {
            "per_day_microcredits": amount,
            "left_microcredits": amount,
        }
    assert hub.as_("bob").get("me").json()["allowance"]["per_day_microcredits"] == 5_000_000


def test_a_kernel_sets_no_allowance(hub: Hub) -> None:
    before = hub.as_("alice").get("me").json()["allowance"]
    refused = hub.as_("chk_alice_1").put("me/allowance", {"per_day_microcredits": 9_000_000})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert hub.as_("alice").get("me").json()["allowance"] == before


@pytest.mark.parametrize("amount", [-1, 10**13, 1.5, "5", None])
def test_an_allowance_that_is_none_is_refused_by_name(hub: Hub, amount: object) -> None:
    refused = hub.as_("alice").put("me/allowance", {"per_day_microcredits": amount})
    assert (refused.status_code, refused.json()["details"]["field"]) == (422, "per_day_microcredits")


NOTHING_CHOSEN = {"idle_timeout_seconds": None, "duration_seconds": None, "max_rate_microcredits_per_hour": None}


def chosen(api: Api) -> Any:
    return {name: value for name, value in api.get("me/defaults").json().items() if name != "changed_at"}


def test_defaults_are_their_persons_own_and_hold_whatever_way_they_come(hub: Hub) -> None:
    alice = hub.as_("alice")
    assert alice.get("me/defaults").json() == {**NOTHING_CHOSEN, "changed_at": None}
    first = hub.browser("alice").put("me/defaults", {"idle_timeout_seconds": 1500}).json()
    assert first == {**NOTHING_CHOSEN, "idle_timeout_seconds": 1500, "changed_at": moment(hub.clock.now())}
    hub.clock.advance(seconds=1)
    both = alice.put("me/defaults", {"duration_seconds": 1800}).json()
    assert both == {**first, "duration_seconds": 1800, "changed_at": moment(hub.clock.now())}, "the other stays"
    for api in (alice, hub.browser("alice"), hub.as_("chk_alice_1")):
        assert api.get("me/defaults").json() == both == api.get("me").json()["defaults"]
    for api in (hub.as_("bob"), hub.as_("chk_bob")):
        assert api.get("me/defaults").json() == {**NOTHING_CHOSEN, "changed_at": None}
    quoted = hub.as_("chk_alice_1").post("quotes", {"model": "T4"}).json()
    assert quoted["amount_microcredits"] == 500_000
    assert alice.put("me/defaults", {}).json() == both
    assert alice.put("me/defaults", NOTHING_CHOSEN).json() == {**NOTHING_CHOSEN, "changed_at": both["changed_at"]}


def test_a_kernel_reads_the_defaults_and_changes_none(hub: Hub) -> None:
    refused = hub.as_("chk_alice_1").put("me/defaults", {"idle_timeout_seconds": 7200})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["details"] == {"allowed_via": ["browser", "token"]}
    assert chosen(hub.as_("chk_alice_1")) == NOTHING_CHOSEN


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("idle_timeout_seconds", 7201, "The idle timeout is between 1 and 120 minutes."),
        ("idle_timeout_seconds", 59, "60"),
        ("idle_timeout_seconds", "20m", "idle_timeout_seconds"),
        ("duration_seconds", 299, "The length is between 5 and 1440 minutes."),
        ("duration_seconds", 86_401, "The length is between 5 and 1440 minutes."),
        ("max_rate_microcredits_per_hour", 0, "1"),
        ("keep", "all", "keep"),
    ],
)
def test_a_default_that_nobody_may_have_is_refused_by_name(hub: Hub, field: str, value: object, said: str) -> None:
    refused = hub.as_("alice").put("me/defaults", {field: value})
    assert (refused.status_code, refused.json()["details"]["field"]) == (422, field)
    assert said in refused.json()["message"]
    assert chosen(hub.as_("alice")) == NOTHING_CHOSEN


@pytest.fixture
def asked(hub: Hub) -> str:
    """The id of an approval that a kernel of alice asked for."""
    wish = {"model": "A100", "starts_at": "2026-03-05T09:00:00Z", "duration_seconds": 7200}
    refused = hub.as_("chk_alice_1").post("bookings", wish)
    assert (refused.status_code, refused.json()["code"]) == (403, "needs_approval")
    return str(refused.json()["details"]["approval_id"])


def test_a_kernel_above_its_allowance_asks_in_the_browser(hub: Hub, asked: str) -> None:
    assert asked in [item["id"] for item in hub.as_("alice").get("approvals").json()["items"]]
    assert hub.as_("alice").get(f"approvals/{asked}").json()["state"] == "pending"
    assert hub.browser("alice").post(f"approvals/{asked}/approve").json()["state"] == "approved"
    wish = {"model": "A100", "starts_at": "2026-03-05T09:00:00Z", "duration_seconds": 7200, "approval_id": asked}
    booked = hub.as_("chk_alice_1").post("bookings", wish)
    assert booked.status_code == 201
    assert hub.as_("alice").get(f"approvals/{asked}").json()["state"] == "used"
    hub.as_("alice").post(f"bookings/{booked.json()['id']}/cancel")


@pytest.mark.parametrize("decision", ["approve", "decline"])
@pytest.mark.parametrize("who", ["alice", "chk_alice_1"])
def test_a_token_decides_nothing(hub: Hub, asked: str, decision: str, who: str) -> None:
    refused = hub.as_(who).post(f"approvals/{asked}/{decision}")
    assert (refused.status_code, refused.json()["details"]) == (403, {"allowed_via": ["browser"]})
    assert hub.as_("alice").get(f"approvals/{asked}").json()["state"] == "pending"
    hub.browser("alice").post(f"approvals/{asked}/decline")


def test_a_browser_that_shows_a_token_as_well_is_a_token(hub: Hub, asked: str) -> None:
    """A page's script that got hold of a token must not become a person by it."""
    browser = hub.browser("alice")
    refused = browser.post(f"approvals/{asked}/approve", headers={"Authorization": "token the-token-of-alice"})
    assert refused.status_code == 403
    refused = browser.post(f"approvals/{asked}/approve", headers={"Authorization": "token chk_alice_1"})
    assert refused.status_code == 403
    hub.browser("alice").post(f"approvals/{asked}/decline")


def test_a_decision_is_made_once(hub: Hub, asked: str) -> None:
    assert hub.browser("alice").post(f"approvals/{asked}/decline").json()["state"] == "declined"
    late = hub.browser("alice").post(f"approvals/{asked}/approve")
    assert (late.status_code, late.json()["code"]) == (409, "illegal_move")


def test_history_comes_in_pages(hub: Hub) -> None:
    lease = hub.lease(seconds=3600)
    hub.clock.advance(minutes=30)
    hub.as_("alice").post(f"leases/{lease['id']}/end")
    every = hub.as_("alice").get("history").json()["items"]
    assert [line["kind"] for line in every][-1] == "grant"
    assert sum(line["amount_microcredits"] for line in every) == 10_000_000 - 500_000
    paged, cursor = [], None
    for _ in range(len(every)):
        page = hub.as_("alice").get("history", params={"limit": 1} | ({"cursor": cursor} if cursor else {})).json()
        paged += page["items"]
        cursor = page["next"]
    assert paged == every
    assert cursor is None


def test_a_made_up_cursor_is_refused(hub: Hub) -> None:
    for cursor in ("abc", "bnVsbA", "W10"):
        refused = hub.as_("alice").get("history", params={"cursor": cursor})
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, "cursor")
