"""The card of a switch: plain text as a golden file would have it, and HTML that is safe and can be read aloud."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from computehub_ext.kernel import card, offered, pages
from computehub_ext.kernel.report import Commands, Facts, Note, Page, Progress, Table, WebLink
from tests.unit.fake_api import M, booking, lease, offer, switch

EVIL = '<script>alert(1)</script><img src=x onerror="x">\x1b[31m'
DONE = {
    "restored": ["x", "data", "train"],
    "lost": [{"name": "file", "type": "TextIOWrapper", "reason": "an open file stays here"}],
    "bytes": 12_300_028,
    "seconds": 0.42,
}
UNDER_WAY = ["requested", "waiting", "checking", "starting", "capturing", "restoring", "verifying", "swapping"]
STATES = [*UNDER_WAY, "done", "failed", "cancelled"]


def plain(*given: Any, **named: Any) -> list[str]:
    return card.render(*given, **named)["text/plain"].splitlines()


def test_under_way() -> None:
    moving = switch(state="capturing", step_message="Collecting the variables", progress=0.5)
    assert plain(moving, lease(), zone="Europe/Berlin") == [
        "Moving to a T4 (simulated)",
        "[##########..........]  50 %  Collecting the variables",
        "Cells after it wait for it. Interrupt the kernel to cancel.",
    ]


def test_a_card_speaks_of_this_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPUTEHUB_TIME_ZONE", "Asia/Tokyo")
    assert "19:45 JST (10:45 UTC)" in card.render(switch(state="done"), lease())["text/plain"]


def test_it_begins_when_the_cell_is_done() -> None:
    assert plain(switch(), {"model": "T4", "count": 2, "simulated": True}) == [
        "Moving to 2 × T4 (simulated)",
        "[....................]   0 %  Asked for",
        "The switch happens as soon as this cell is done. Cells after it wait for it. Interrupt the kernel to cancel.",
    ]


def test_done() -> None:
    assert plain(switch(state="done", result=DONE), lease(cost_microcredits=278), zone="Europe/Berlin") == [
        "This notebook is on a T4 (simulated) now",
        "3 names came along (12.3 MB) in 0.4 s: x, data, train.",
        "",
        "Left behind (1 name)",
        "  Name  Type           Why",
        "  ----  -------------  -----------------------",
        "  file  TextIOWrapper  an open file stays here",
        "",
        "  GPU          T4 (simulated)",
        "  Price        1.00 credits an hour, by the second",
        "  Held for it  1.75 credits",
        "  Ends         Mon 2 Mar 2026, 11:45 CET (10:45 UTC)",
        "  Given back   when no cell has run for 20 min",
        "",
        "  %gpu      what it costs so far and how long it lasts",
        "  %gpu off  back to the CPU with the variables; the rest of the money is released",
    ]


def test_back_on_the_cpu() -> None:
    back = switch(target="cpu", state="done", result={"restored": [], "lost": [], "bytes": 0, "seconds": 0.1})
    assert plain(back, lease(state="closed", cost_microcredits=250_000)) == [
        "This notebook is on the CPU now",
        "No variables to carry.",
        "T4 (simulated) cost 0.2500 credits; the rest is released.",
    ]


def test_failed() -> None:
    error = {"code": "backend_error", "message": "The kernel did not start.", "details": {}}
    assert plain(switch(state="failed", error=error)) == [
        "Not switched to a GPU: the notebook stays where it was",
        "Not done: The kernel did not start.",
        "Nothing was charged. Cells that waited were not run on the CPU.",
    ]


def test_failed_because_something_would_be_lost() -> None:
    preview = {"lost": DONE["lost"], "problems": [{"kind": "package", "message": "torch is not installed there."}]}
    error = {"code": "loss_not_accepted", "message": "1 name would be lost.", "details": None}
    said = "\n".join(plain(switch(state="failed", error=error, preview=preview), command="computehub gpu"))
    assert "file  TextIOWrapper" in said
    assert "Warning: torch is not installed there." in said
    assert "add --yes to `computehub gpu on`" in said


def test_done_says_what_is_otherwise_than_before() -> None:
    moved = "What was on cuda:0 is in main memory: there is no such device here."
    shown = plain(switch(state="done", result={**DONE, "notes": [moved, EVIL]}), lease())
    assert moved in "\n".join(shown)
    assert "\x1b" not in "".join(shown)
    assert "<script" not in card.render(switch(state="done", result={**DONE, "notes": [EVIL]}))["text/html"]
    many = plain(switch(state="done", result={**DONE, "notes": [f"note {n}" for n in range(20)]}), lease())
    assert [line for line in many if "more notes" in line] == ["… and 12 more notes"]


def test_done_says_again_what_the_place_lacks() -> None:
    preview = {"problems": [{"kind": "package", "message": "torch is not installed there."}]}
    assert "Warning: torch is not installed there." in plain(switch(state="done", result=DONE, preview=preview))


def test_cancelled() -> None:
    error = {"code": "cancelled", "message": "Cancelled.", "details": {}}
    assert plain(switch(state="cancelled", error=error)) == [
        "Cancelled: the notebook stays where it was",
        "Nothing was charged. Cells that waited were not run on the CPU.",
    ]


@pytest.mark.parametrize("target", ["gpu", "cpu"])
@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_card_with_or_without_a_lease(state: str, target: str) -> None:
    for of in (None, lease(), lease(count=2, ends_at=None, server_now=None, started_at=None)):
        bundle = card.render(switch(state=state, target=target, step_message=None), of)
        assert set(bundle) == {"text/html", "text/plain"}
        check_html(bundle["text/html"])


def test_a_card_needs_little() -> None:
    check_html(card.render({"id": "s"})["text/html"])
    assert card.display_id({"id": "s"}) == "computehub-s"


def test_rendering_changes_nothing_and_says_the_same_twice() -> None:
    given, of = switch(state="done", result=DONE), lease()
    assert card.render(given, of) == card.render(given, of)
    assert given == switch(state="done", result=DONE)


def test_many_lost_names_are_cut() -> None:
    lost = [{"name": f"v{n}", "type": "T", "reason": "r"} for n in range(100)]
    said = card.render(switch(state="done", result={**DONE, "lost": lost}))["text/plain"]
    assert "Left behind (100 names)" in said
    assert "… and 70 more" in said


class Reader(HTMLParser):
    """Collects what matters: balanced tags, attributes, tables with captions and scopes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_html(html: str) -> None:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    tags = {tag for tag, _ in reader.seen}
    allowed = {"div", "p", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "a"}
    assert tags <= allowed, tags
    for tag, attributes in reader.seen:
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        style = attributes.get("style") or ""
        assert "url(" not in style
        # Every colour is Jupyter's, with a fallback that suits light and dark.
        for colour in re.findall(r"(?:^|;)(?:color|background)\s*:([^;]+)", style):
            assert colour.startswith("var(--jp-"), colour
            assert "," in colour, colour
    assert html.count("<table") == html.count("<caption")


def test_nothing_that_a_stranger_wrote_becomes_markup() -> None:
    result = {
        "restored": [EVIL],
        "lost": [{"name": EVIL, "type": EVIL, "reason": EVIL}],
        "bytes": 1,
        "seconds": 0.1,
    }
    error = {"code": "loss_not_accepted", "message": EVIL, "details": {"problems": [{"message": EVIL}]}}
    of = lease(model=EVIL, pool=EVIL, notebook_path=EVIL, billed_as=EVIL, ends_at=EVIL)
    for state in STATES:
        given = switch(state=state, step_message=EVIL, notebook_path=EVIL, result=result, error=error, preview=result)
        bundle = card.render(given, of, zone=EVIL, command=EVIL)
        check_html(bundle["text/html"])
        assert "<script" not in bundle["text/html"]
        assert "<img" not in bundle["text/html"]
        assert "\x1b" not in bundle["text/plain"] + bundle["text/html"]


def test_no_page_lets_markup_through() -> None:
    kernel = {"place": "gpu", "lease": lease(model=EVIL), "switch": switch(state=EVIL, step_message=EVIL)}
    me = {"display_name": EVIL, "username": EVIL, "balance": {"available_microcredits": M}}
    approval = {
        "state": "pending",
        "purpose": EVIL,
        "amount_microcredits": M,
        "notebook_path": EVIL,
        "expires_at": EVIL,
    }
    preview = {"carried": [], "lost": [{"name": EVIL, "type": EVIL, "reason": EVIL}], "problems": [{"message": EVIL}]}
    quote = {"model": EVIL, "amount_microcredits": M, "rate_microcredits_per_hour": M, "ends_at": EVIL}
    line = {"at": EVIL, "kind": EVIL, "amount_microcredits": 1, "memo": EVIL, "origin": EVIL}
    found = [
        pages.status_page(kernel, me, "UTC", "%gpu"),
        pages.balance_page(me),
        pages.allowance_page(me, [approval], "UTC"),
        offered.offers_page([offer(EVIL, 1)], "UTC", "%gpu"),
        pages.bookings_page([booking(id=EVIL, model=EVIL, state="held")], "UTC", "%gpu"),
        pages.booked_page(booking(id=EVIL, model=EVIL), "UTC", "%gpu"),
        pages.history_page([line], "UTC"),
        pages.quote_page(quote, preview, M, "UTC"),
        Page(EVIL, [Note(EVIL, "warning"), Facts(EVIL, ((EVIL, EVIL),)), Table(EVIL, (EVIL,), ((EVIL,),), (EVIL,))]),
        Page("", [Commands(EVIL, ((EVIL, EVIL),)), Progress(EVIL, 7.0), WebLink(EVIL, EVIL, "/a?x=" + EVIL)]),
    ]
    for page in found:
        check_html(page.html())
        assert "<script" not in page.html()
        assert "\x1b" not in page.plain()


@pytest.mark.parametrize("path", ["javascript:alert(1)", "//evil.example/", "data:text/html,x"])
def test_a_link_leads_into_this_server_only(path: str) -> None:
    assert "<a" not in WebLink("Open", "http://x/", path).html()


def test_state_has_a_word_and_not_only_a_colour() -> None:
    assert "Warning:" in Note("careful", "warning").html()
    assert "Not done:" in Note("no", "error").html()
    bar = Progress("half", 0.5).html()
    assert 'role="progressbar"' in bar
    assert 'aria-valuenow="50"' in bar


def test_wide_characters_keep_columns_straight() -> None:
    lines = Table("", ("Name", "Size"), (("数据", "1"), ("abcd", "22")), ("Size",)).plain()
    assert lines[2] == "  数据     1"
    assert lines[3] == "  abcd    22"
