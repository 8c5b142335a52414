"""The account page as the server draws it; tests/e2e/test_account.py uses it in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.core.errors import Unavailable
from tests.support.api import Hub

NASTY = "<script>alert(1)</script>'\"{{7*7}}.ipynb"


def page(hub: Hub, who: str = "alice", where: str = "") -> str:
    answer = hub.browser(who).http.get(f"computehub/{where}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_needs_a_login(hub: Hub) -> None:
    for where in ("computehub/", "computehub/approvals/a"):
        answer = hub.as_("nobody").http.get(where)
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith("/base/login?next=")


def test_an_address_without_its_slash_leads_there(hub: Hub) -> None:
    assert hub.browser("alice").http.get("computehub").headers["Location"] == "/base/computehub/"


def test_each_sees_their_own(hub: Hub) -> None:
    hub.as_("alice").post("bookings", {"model": "T4", "starts_at": "2026-03-03T09:00:00Z", "duration_seconds": 3600})
    assert "Cancel" in page(hub, "alice")
    assert "Cancel" not in page(hub, "bob")
    assert "Alice" not in page(hub, "bob")


def test_what_is_simulated_is_called_so(hub: Hub) -> None:
    lease = hub.lease(model="V100")
    shown = page(hub)
    for part in (f'id="lease-{lease["id"]}"', 'id="booking-', '<th scope="row">A100'):
        assert "simulated" in shown[shown.index(part) :][:800], part
    hub.as_("alice").post(f"leases/{lease['id']}/end")


def test_names_and_paths_are_text_and_nothing_else(hub: Hub) -> None:
    wish = {"model": "T4", "starts_at": "2026-03-04T09:00:00Z", "duration_seconds": 3600, "notebook_path": NASTY}
    assert hub.as_("alice").post("bookings", wish).status_code == 201
    shown = page(hub)
    assert "<script>alert" not in shown
    assert "{{7*7}}" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert re.findall(r"<script[^>]*>", shown) == ['<script src="/base/computehub/static/account.js" defer>']


def test_no_script_runs_but_our_own(hub: Hub) -> None:
    answer = hub.browser("alice").http.get("computehub/")
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert " style=" not in answer.text
    assert " on" not in "".join(re.findall(r"<[^>]+>", answer.text))
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_request_that_is_asked_for_stands_first(hub: Hub) -> None:
    asked = [
        hub.as_("chk_alice_1").post("bookings", {"model": "A100", "starts_at": day, "duration_seconds": 7200})
        for day in ("2026-03-05T09:00:00Z", "2026-03-06T09:00:00Z")
    ]
    first, second = (answer.json()["details"]["approval_id"] for answer in asked)
    for wanted, other in ((first, second), (second, first)):
        shown = page(hub, where=f"approvals/{wanted}")
        assert shown.index(f'id="approval-{wanted}"') < shown.index(f'id="approval-{other}"')
        assert f"There is no request {wanted}" in page(hub, "bob", f"approvals/{wanted}")
    hub.browser("alice").post(f"approvals/{first}/decline")
    assert "is declined already" in page(hub, where=f"approvals/{first}")


def test_a_control_plane_that_does_not_answer_is_told_in_words(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(actor: object) -> None:
        raise Unavailable("The control plane is starting.")

    monkeypatch.setattr(hub.plane, "me", gone)
    answer = hub.browser("alice").http.get("computehub/")
    assert answer.status_code == 503
    assert '<p role="alert">The control plane is starting.</p>' in answer.text


@pytest.fixture
def owned(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path, identity="owner") as hub:
        yield hub


def test_where_everybody_is_the_owner_the_page_says_so(owned: Hub) -> None:
    assert "One account for everybody" in page(owned, "alice")
    assert owned.as_("alice").get("me").json()["username"] == owned.as_("bob").get("me").json()["username"] == "ada"
