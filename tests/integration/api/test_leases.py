"""Looking at a lease, moving its end, ending it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Hub, new_key


@pytest.fixture
def lease(hub: Hub) -> Iterator[dict[str, Any]]:
    made = hub.lease(seconds=3600)
    yield made
    hub.as_("alice").post(f"leases/{made['id']}/end")


def test_the_cost_goes_by_the_control_planes_clock(hub: Hub, lease: dict[str, Any]) -> None:
    hub.clock.advance(minutes=6)
    seen = hub.as_("alice").get(f"leases/{lease['id']}").json()
    assert (seen["state"], seen["simulated"], seen["billed_as"]) == ("running", True, "credits")
    assert (seen["cost_microcredits"], seen["held_microcredits"]) == (100_000, 1_000_000)
    assert seen in hub.as_("alice").get("leases", params={"live": "true"}).json()["items"]


def test_the_log_of_its_kernel_is_its_payers(hub: Hub, lease: dict[str, Any]) -> None:
    hub.backend.place.placements[lease["placement_id"]].log = "a library warns"
    assert hub.as_("alice").get(f"leases/{lease['id']}/log").json() == {
        "lease_id": lease["id"],
        "kept": True,
        "text": "a library warns",
    }
    hub.as_("alice").post(f"leases/{lease['id']}/end")
    assert hub.as_("alice").get(f"leases/{lease['id']}/log").json()["text"] == "a library warns"
    assert hub.as_("bob").get(f"leases/{lease['id']}/log").status_code == 404


def test_longer_costs_more_and_shorter_less(hub: Hub, lease: dict[str, Any]) -> None:
    longer = hub.as_("alice").post(f"leases/{lease['id']}/extend", {"seconds": 1800}).json()
    assert longer["held_microcredits"] == 1_500_000
    shorter = hub.as_("alice").post(f"leases/{lease['id']}/shorten", {"seconds": 2700}).json()
    assert shorter["held_microcredits"] == 750_000
    assert shorter["ends_at"] < lease["ends_at"] < longer["ends_at"]


def test_a_kernel_extends_its_own_lease_and_no_other(hub: Hub, lease: dict[str, Any]) -> None:
    assert hub.as_("chk_alice_1").post(f"leases/{lease['id']}/extend", {"seconds": 60}).status_code == 200
    for verb, body in (("extend", {"seconds": 60}), ("shorten", {"seconds": 60}), ("end", None)):
        refused = hub.as_("chk_alice_2").post(f"leases/{lease['id']}/{verb}", body)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_a_repeated_extension_extends_once(hub: Hub, lease: dict[str, Any]) -> None:
    key = new_key()
    first = hub.as_("alice").post(f"leases/{lease['id']}/extend", {"seconds": 1800}, key=key)
    again = hub.as_("alice").post(f"leases/{lease['id']}/extend", {"seconds": 1800}, key=key)
    assert again.headers["Idempotency-Hit"] == "true"
    assert again.json() == first.json()
    assert hub.as_("alice").get(f"leases/{lease['id']}").json()["ends_at"] == first.json()["ends_at"]


def test_ending_settles_and_releases_the_rest(hub: Hub) -> None:
    before = hub.as_("alice").get("me").json()["balance"]["available_microcredits"]
    lease = hub.lease(seconds=3600)
    hub.clock.advance(minutes=15)
    ended = hub.as_("alice").post(f"leases/{lease['id']}/end").json()
    assert (ended["state"], ended["end_reason"]) in {("closed", "returned"), ("closing", "returned")}
    assert ended["end_message"] == "You gave the GPU back."
    balance = hub.as_("alice").get("me").json()["balance"]
    assert (balance["available_microcredits"], balance["held_microcredits"]) == (before - 250_000, 0)
    assert hub.as_("alice").get(f"leases/{lease['id']}").json()["state"] == "closed"
    assert hub.as_("alice").get("leases", params={"live": True}).json()["items"] == []


def test_an_estimate_goes_by_what_this_persons_notebook_did(hub: Hub) -> None:
    lease = hub.lease("chk_bob", seconds=3600)
    hub.clock.advance(minutes=15)
    asked = {"model": "V100", "duration_seconds": 3600, "notebook_path": "train.ipynb"}
    assert hub.as_("bob").get("estimates", params=asked).json()["runs"] == 0, "it still runs"
    hub.as_("bob").post(f"leases/{lease['id']}/end")
    told = hub.as_("bob").get("estimates", params=asked).json()
    assert (told["runs"], told["usual_duration_seconds"], told["usual_microcredits"]) == (1, 900, 625_000)
    assert told["most_microcredits"] == 2_500_000
    assert hub.as_("bob").get("estimates", params={**asked, "notebook_path": "other.ipynb"}).json()["runs"] == 0


@pytest.mark.parametrize("seconds", [0, -60, 10**12, "60", 1.5])
def test_an_extension_that_is_none_is_refused(hub: Hub, lease: dict[str, Any], seconds: object) -> None:
    for verb in ("extend", "shorten"):
        refused = hub.as_("alice").post(f"leases/{lease['id']}/{verb}", {"seconds": seconds})
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, "seconds")


def test_a_lease_is_not_shortened_to_nothing(hub: Hub, lease: dict[str, Any]) -> None:
    refused = hub.as_("alice").post(f"leases/{lease['id']}/shorten", {"seconds": 7200})
    assert refused.status_code in (409, 422)
    assert hub.as_("alice").get(f"leases/{lease['id']}").json()["ends_at"] == lease["ends_at"]
