"""Who gets in, by which door, and what is refused there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.api.routes import HANDLERS
from tests.support import proof
from tests.support.api import API_PATH, Api, Hub, StrictContract

ROUTES = [(method.upper(), path) for path, method, _ in StrictContract().contract.operations()]
OPERATIONS = [(method, path) for method, path in ROUTES if not path.startswith(("kernels", "switches"))]
"""Those of the notebook wing, which serves the others, are not here."""
THINGS = [(method, path) for method, path in OPERATIONS if "{" in path and not path.startswith("pools")]
"""One person's own: a second one does not find them."""
LISTS = {
    "me": {},
    "me/defaults": {},
    "bookings": {},
    "bookings.ics": {},
    "leases": {},
    "approvals": {},
    "history": {},
    "history.csv": {},
    "offers": {},
    "estimates": {"notebook_path": "train.ipynb"},
    "pools/{pool_id}/availability": {"start": "2026-03-03T08:00:00Z", "end": "2026-03-03T11:00:00Z"},
}
"""What each person sees in their own way, with what is asked of it."""
WISH = {"model": "V100", "starts_at": "2026-03-05T09:00:00Z", "duration_seconds": 3600}
WRITES: dict[str, tuple[str, dict[str, Any]]] = {
    "me/allowance": ("PUT", {"per_day_microcredits": 1_000_000}),
    "me/defaults": ("PUT", {"idle_timeout_seconds": 900, "max_rate_microcredits_per_hour": 2_000_000}),
    "quotes": ("POST", WISH),
    "bookings": ("POST", WISH),
    "booking-series": (
        "POST",
        {**WISH, "starts_at": "2026-03-06T09:00:00Z", "time_zone": "UTC", "rrule": "FREQ=DAILY;COUNT=2"},
    ),
}
"""What a second person may do for themselves."""
PEOPLE = "tests/integration/notebook/test_two_people.py::test_what_one_pays_for_the_other_sees_and_does_not_move"
SHARED = "tests/integration/notebook/test_shared_notebook.py::"
DOCUMENTS = "tests/integration/api/test_doors.py::test_the_contract_and_its_page_come_from_this_server_alone"
TRIED_ELSEWHERE = {
    ("GET", "kernels/{kernel_id}"): PEOPLE,
    ("POST", "kernels/{kernel_id}/keep"): SHARED + "test_who_is_at_the_notebook_keeps_its_gpu_and_a_kernel_does_not",
    ("POST", "switches"): PEOPLE,
    ("POST", "switches/preview"): SHARED + "test_while_a_cell_runs_it_is_busy_and_not_idle",
    ("GET", "switches/{switch_id}"): PEOPLE,
    ("POST", "switches/{switch_id}/cancel"): PEOPLE,
    # The same for everybody.
    ("GET", "openapi.yaml"): DOCUMENTS,
    ("GET", "docs"): DOCUMENTS,
}
"""Where a second person tries the rest."""


def filled(path: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.fixture(scope="module")
def ids(hub: Hub) -> dict[str, str]:
    """Things of alice's: a booking, a running lease, and what a kernel of hers asks."""
    wish = {"model": "T4", "starts_at": "2026-03-03T09:00:00Z", "duration_seconds": 3600}
    booking = hub.as_("alice").post("bookings", wish).json()
    wish = {"model": "T4", "starts_at": "2026-03-04T09:00:00Z", "duration_seconds": 3600, "time_zone": "UTC"}
    series = hub.as_("alice").post("booking-series", {**wish, "rrule": "FREQ=DAILY;COUNT=2"}).json()
    asked = hub.as_("chk_alice_1").post("bookings", {"model": "A100", "duration_seconds": 7200}).json()
    return {
        "booking_id": booking["id"],
        "series_id": series["id"],
        "pool_id": booking["pool_id"],
        "lease_id": hub.lease("chk_alice_1")["id"],
        "approval_id": asked["details"]["approval_id"],
        "terminal_name": "one",
    }


def everything(hub: Hub) -> dict[str, Any]:
    alice = hub.as_("alice")
    return {path: alice.get(path).json() for path in ("me", "bookings", "leases", "approvals", "history")}


BODIES = {"extend": {"seconds": 60}, "shorten": {"seconds": 60}, "move": {"duration_seconds": 7200}}


@pytest.mark.parametrize(("method", "path"), THINGS, ids=" ".join)
@pytest.mark.parametrize("who", ["bob", "bob's browser", "chk_bob"])
def test_a_second_person_does_not_get_in(hub: Hub, ids: dict[str, str], method: str, path: str, who: str) -> None:
    """Another's thing is not found, as if it were not there: its being there is nobody else's business."""
    api = hub.browser("bob") if who == "bob's browser" else hub.as_(who)
    before = everything(hub)
    body = BODIES.get(path.rpartition("/")[2])
    refused = api(method, filled(path, ids), **({"json": body} if body else {}))
    decides = path.startswith("approvals") and method == "POST" and who != "bob's browser"
    assert refused.status_code == (403 if decides else 404)
    assert not any(value in refused.text.replace(filled(path, ids), "") for value in ("alice", "Alice"))
    assert everything(hub) == before


@pytest.mark.parametrize("path", LISTS)
def test_a_second_persons_lists_hold_nothing_of_the_first(hub: Hub, ids: dict[str, str], path: str) -> None:
    things = [ids[name] for name in ("booking_id", "series_id", "lease_id", "approval_id")]
    for api in (hub.as_("bob"), hub.browser("bob"), hub.as_("chk_bob")):
        seen = api.get(filled(path, ids), params=LISTS[path])
        assert seen.status_code == 200
        assert not any(value in seen.text for value in (*things, "alice", "Alice"))


@pytest.mark.parametrize("path", WRITES)
def test_what_a_second_person_writes_is_their_own(hub: Hub, ids: dict[str, str], path: str) -> None:
    method, body = WRITES[path]
    before = everything(hub)
    done = hub.as_("bob")(method, path, json=body)
    assert done.status_code in (200, 201), done.text
    assert everything(hub) == before


def test_a_second_person_tries_every_route() -> None:
    """A route that is new has to be put into one of the tables."""
    lists, writes = [("GET", path) for path in LISTS], [(method, path) for path, (method, _) in WRITES.items()]
    tried = [*THINGS, *lists, *writes, *TRIED_ELSEWHERE]
    assert sorted(tried) == sorted(ROUTES)
    assert [test for test in TRIED_ELSEWHERE.values() if not proof.exists(test)] == []


@pytest.fixture(scope="module")
def strangers(hub: Hub) -> Iterator[dict[str, Api]]:
    """Without a token or with one of nobody's, and each with a good XSRF token: it is not for that they are refused."""
    strangers = {}
    for token in ("nobody", "wrong", "chk_of_no_kernel"):
        http = hub.server.client(None if token == "nobody" else token)
        assert http.get("login").status_code == 200
        http.headers["X-XSRFToken"] = http.cookies["_xsrf"]
        strangers[token] = Api(http, hub.contract)
    yield strangers
    for api in strangers.values():
        api.http.close()


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=" ".join)
@pytest.mark.parametrize("token", ["nobody", "wrong", "chk_of_no_kernel"])
def test_nobody_gets_in(ids: dict[str, str], strangers: dict[str, Api], method: str, path: str, token: str) -> None:
    refused = strangers[token](method, filled(path, ids), json={} if method != "GET" else None)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in OPERATIONS if m != "GET"], ids=" ".join)
@pytest.mark.parametrize("token", ["", "forged"])
def test_a_foreign_page_does_nothing_in_a_logged_in_browser(
    hub: Hub, ids: dict[str, str], method: str, path: str, token: str
) -> None:
    before = everything(hub)
    refused = hub.browser("alice")(method, filled(path, ids), json={}, headers={"X-XSRFToken": token})
    assert (refused.status_code, refused.json()["code"]) == (403, "xsrf")
    assert everything(hub) == before


def test_a_page_of_another_origin_is_refused(hub: Hub, ids: dict[str, str]) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    refused = hub.browser("alice").post(f"leases/{ids['lease_id']}/end", headers=origin)
    assert refused.status_code in (403, 404)
    assert hub.as_("alice").get(f"leases/{ids['lease_id']}").json()["state"] == "running"


class TestKernelTokens:
    @pytest.mark.parametrize("path", ["api/kernels", "api/contents", "api/sessions", "api/me", "lab", "computehub/"])
    def test_open_no_other_route_of_the_server(self, hub: Hub, path: str) -> None:
        answer = hub.as_("chk_alice_1").http.get(path)
        assert answer.status_code in (302, 403, 404)
        assert answer.status_code != 302 or "/login" in answer.headers["Location"]

    def test_are_not_taken_from_an_address(self, hub: Hub) -> None:
        """It would end up in logs."""
        refused = hub.as_("nobody").get("me", params={"token": "chk_alice_1"})
        assert refused.status_code == 403

    def test_are_taken_as_bearer_too(self, hub: Hub) -> None:
        seen = hub.as_("nobody").get("me", headers={"Authorization": "Bearer chk_alice_1"})
        assert seen.json()["username"] == "alice"

    def test_count_for_more_than_a_cookie_beside_them(self, hub: Hub) -> None:
        refused = hub.browser("alice").get("me", headers={"Authorization": "token chk_of_no_kernel"})
        assert refused.status_code == 403
        assert hub.browser("alice").get("me", headers={"Authorization": "token chk_bob"}).json()["username"] == "bob"

    def test_set_no_cookie(self, hub: Hub) -> None:
        assert "Set-Cookie" not in hub.as_("chk_alice_1").get("me").headers


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_request"),
        (b"\xff", "application/json", 400, "bad_request"),
        (b'{"model": "\\ud800"}', "application/json", 400, "bad_request"),
        (b'{"count": NaN}', "application/json", 400, "bad_request"),
        (b"[" * 20_000, "application/json", 400, "bad_request"),
        (b'{"count": ' + b"9" * 5_000 + b"}", "application/json", 400, "bad_request"),
        (b"model=T4", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b'{"model": "' + b"x" * 70_000 + b'"}', "application/json", 413, "too_large"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else str(value),
)
def test_a_body_that_is_none(hub: Hub, content: bytes, kind: str, status: int, code: str) -> None:
    refused = hub.as_("alice").post("bookings", content=content, headers={"Content-Type": kind})
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert hub.as_("alice").get("me").status_code == 200, "the connection goes on"


def test_an_address_that_is_none_answers_in_json(hub: Hub) -> None:
    for path in ("", "nothing", "bookings/", "me/nothing", "bookings/%00", "bookings/%2e%2e"):
        assert hub.as_("alice").get(path).json()["code"] == "not_found"
    assert hub.as_("alice").get("bookings/%ff").json()["code"] == "bad_request"
    assert hub.as_("nobody").get("nothing").status_code == 403


def test_a_method_that_an_address_lacks(hub: Hub) -> None:
    refused = hub.as_("alice")("DELETE", "bookings")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, POST, OPTIONS"


def test_a_bug_is_told_by_its_number_and_nothing_else(hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    async def broken(actor: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(hub.plane, "offers", broken)
    with caplog.at_level("ERROR"):
        failed = hub.as_("alice").get("offers")
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert "swordfish" not in failed.text
    assert failed.json()["details"]["request_id"] == failed.headers["X-Request-Id"]


def test_answers_are_kept_in_no_cache(hub: Hub) -> None:
    assert hub.as_("alice").get("me").headers["Cache-Control"] == "no-store"


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Hub]:
    limits = {"read": "1000/minute", "write": "3/minute", "kernel-write": "2/minute"}
    with Hub(tmp_path, rate_limits=limits) as hub:
        yield hub


def test_too_often_is_429_and_says_when_to_come_back(slow: Hub) -> None:
    def quote(who: str) -> Any:
        return slow.as_(who).post("quotes", {"model": "T4"}, key=None)

    assert [quote("alice").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = quote("alice")
    assert refused.json()["code"] == "too_many_requests"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    # One's hurry is nobody else's; a cell that loops leaves its owner's browser alone, and reading goes on.
    assert quote("bob").status_code == 200
    assert [quote("chk_bob").status_code for _ in range(3)] == [200, 200, 429]
    assert quote("bob").status_code == 200
    assert slow.as_("alice").get("me").status_code == 200


def test_the_contract_and_its_page_come_from_this_server_alone(hub: Hub) -> None:
    assert hub.as_("alice").get("openapi.yaml").text.startswith("openapi: 3.1.0")
    page = hub.as_("alice").get("docs").text
    assert "http" not in page.replace("http-equiv", "")
    for address in (
        "computehub/swagger/swagger-ui-bundle.js",
        "computehub/swagger/swagger-ui.css",
        "computehub/static/docs.js",
    ):
        assert f"/base/{address}" in page
        assert hub.as_("nobody").http.get(address).status_code == 200
    document = hub.as_("alice").http.get(f"{API_PATH}/docs/openapi-3.0.json").json()
    assert document["servers"] == [{"url": "/base/api/computehub/v1"}]


def test_static_files_lead_nowhere_else(hub: Hub) -> None:
    for path in (
        "static/../account.py",
        "static/..%2faccount.py",
        "static/%2e%2e/account.py",
        "swagger/../__init__.py",
    ):
        assert hub.as_("alice").http.get(f"computehub/{path}").status_code in (403, 404)


def test_every_handler_names_its_resource() -> None:
    """Jupyter's bare decorator would remember the first request's and let others pass by it."""
    source = "".join(
        Path(module.__file__ or "").read_text()
        for module in {__import__(h.__module__, fromlist=["x"]) for h in HANDLERS}
    )
    assert "jupyter_server.auth" not in source
