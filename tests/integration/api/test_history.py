"""The history by lease and as a table, and what a form may ask for."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import pytest

from computehub_ext.api.handlers import history as handlers
from computehub_ext.core.actor import Actor, Via
from computehub_ext.ledger import service as ledger
from computehub_ext.ledger.model import Origin
from computehub_ext.people import service as people
from computehub_ext.reports.history import COLUMNS, as_csv
from tests.support.api import Hub, new_key

FILE = "=cmd.ipynb"


@pytest.fixture(scope="module")
def lease(hub: Hub) -> dict[str, Any]:
    """A lease of ten minutes that is over; its notebook's name looks like a formula."""
    alice = Actor("alice", "Alice", Via.TOKEN)
    lease = hub.call("take_lease", alice, key=new_key(), kernel_id="k", notebook_path=FILE, model="T4")
    where = {"cwd": "/", "kernel_name": "python3", "session_key": b"k", "username": "alice", "env": {}}
    hub.call("start_placement", lease["id"], **where)
    hub.call("lease_running", lease["id"])
    for _ in range(10):
        hub.clock.advance(minutes=1)
        hub.plane._operator.tick()
    return hub.as_("alice").post(f"leases/{lease['id']}/end").json()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_one_line_for_a_lease(hub: Hub, lease: dict[str, Any]) -> None:
    plain = hub.as_("alice").get("history").json()["items"]
    assert len([line for line in plain if line["lease_id"] == lease["id"]]) > 5
    assert {line["lease"] for line in plain} == {None}
    line, welcome = hub.as_("alice").get("history", params={"group": "lease"}).json()["items"]
    assert (line["id"], line["kind"], line["lease_id"]) == (lease["id"], "lease", lease["id"])
    assert line["amount_microcredits"] == -lease["cost_microcredits"] == -166_666
    assert line["memo"] == f"1 × T4 (simulated) for 10 min in {FILE}"
    assert line["lease"] == {
        "model": "T4",
        "count": 1,
        "simulated": True,
        "notebook_path": FILE,
        "started_at": lease["started_at"],
        "ended_at": lease["ended_at"],
        "end_reason": "returned",
        "end_message": "You gave the GPU back.",
    }
    assert (welcome["kind"], welcome["lease"]) == ("grant", None)


def test_groups_come_in_pages(hub: Hub, lease: dict[str, Any]) -> None:
    every = hub.as_("alice").get("history", params={"group": "lease"}).json()
    first = hub.as_("alice").get("history", params={"group": "lease", "limit": 1}).json()
    rest = hub.as_("alice").get("history", params={"group": "lease", "cursor": first["next"]}).json()
    assert (first["items"] + rest["items"], rest["next"]) == (every["items"], None)


def test_a_group_that_is_none(hub: Hub) -> None:
    for path in ("history", "history.csv"):
        refused = hub.as_("alice").get(path, params={"group": "month"})
        assert (refused.status_code, refused.json()["details"]["field"]) == (422, "group")


def test_the_table_has_every_line(hub: Hub, lease: dict[str, Any]) -> None:
    answer = hub.as_("alice").get("history.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="computehub-history.csv"'
    assert answer.text.count("\n") == answer.text.count("\r\n"), "RFC 4180"
    plain = hub.as_("alice").get("history", params={"limit": 200}).json()["items"]
    assert [row["id"] for row in rows(answer.text)] == [line["id"] for line in plain]
    assert tuple(rows(answer.text)[0]) == COLUMNS
    [grouped, welcome] = rows(hub.as_("alice").get("history.csv", params={"group": "lease"}).text)
    assert (grouped["credits"], grouped["microcredits"]) == ("-0.166666", "-166666")
    assert (welcome["credits"], welcome["granted_microcredits"]) == ("10.000000", "10000000")
    assert (grouped["model"], grouped["simulated"], grouped["end_reason"]) == ("T4", "yes", "returned")


def test_no_cell_is_a_formula(hub: Hub, lease: dict[str, Any]) -> None:
    [grouped, _] = rows(hub.as_("alice").get("history.csv", params={"group": "lease"}).text)
    assert grouped["notebook"] == f"'{FILE}"


@pytest.mark.parametrize("memo", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_memo_is_a_formula(memo: str) -> None:
    line = {"at": "", "kind": "grant", "memo": memo, "amount_microcredits": -1, "by_origin": {}, "lease": None}
    [row] = rows(as_csv([{**line, "lease_id": None, "id": "e"}], header=True))
    assert (row["text"], row["credits"], row["microcredits"]) == (f"'{memo}", "-0.000001", "-1")


def test_a_text_with_commas_quotes_and_lines_stays_one_cell() -> None:
    memo = 'a, "b"\r\nc'
    line = {"at": "", "kind": "grant", "memo": memo, "amount_microcredits": 1, "by_origin": {}, "lease": None}
    [row] = rows(as_csv([{**line, "lease_id": None, "id": "e"}], header=True))
    assert row["text"] == memo


def test_a_long_table_is_sent_page_by_page(hub: Hub) -> None:
    """More lines than a page holds, each once; the answer is chunked, so that its length was not known before."""

    def fill(unit: Any) -> None:
        bob = people.ensure_person(unit, username="bob", display_name="Bob", now=hub.clock.now())
        for number in range(450):
            ledger.grant(unit, account_id=bob.account_id, amount_microcredits=1, origin=Origin.EARNED, key=f"{number}",
                         memo=f"line {number}", now=hub.clock.now())  # fmt: skip

    hub.database.write(fill)
    answer = hub.as_("bob").get("history.csv")
    assert answer.headers["Transfer-Encoding"] == "chunked"
    texts = [row["text"] for row in rows(answer.text) if row["text"].startswith("line")]
    assert sorted(texts) == sorted(f"line {number}" for number in range(450))
    assert "alice" not in answer.text


def test_a_form_takes_its_bounds_from_here(hub: Hub) -> None:
    me = hub.as_("alice").get("me").json()
    assert me["limits"] == {
        "default_duration_seconds": 7200,
        "min_duration_seconds": 300,
        "max_duration_seconds": 86400,
        "max_ahead_seconds": 60 * 86400,
        "max_count": 8,
        "idle_timeout_seconds": 1200,
        "idle_timeout_max_seconds": 7200,
        "closing_reserve_seconds": 60,
    }
    assert (me["is_admin"], me["server_version"].count(".")) == (False, 2)


def test_a_table_that_breaks_off_is_no_whole_table(
    hub: Hub, lease: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = hub.plane.history_table

    async def breaks_off(*arguments: Any, cursor: str | None = None, **named: Any) -> Any:
        if cursor is not None:
            raise RuntimeError("the database is gone")
        return await pages(*arguments, **named)

    monkeypatch.setattr(handlers, "_PAGE", 1)
    monkeypatch.setattr(hub.plane, "history_table", breaks_off)
    with pytest.raises(httpx.RemoteProtocolError):
        hub.as_("alice").get("history.csv")
