"""The account page in a real browser: what is held, asked and booked, by mouse, by keyboard and for a screen reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.browser import Person, Tab
from tests.e2e.lab import Lab, eventually

WCAG = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}


def account(person: Person, where: str = "") -> Tab:
    tab = Tab(person.lab, person.user, person.context, person.context.new_page())
    person.tabs.append(tab)
    tab.page.goto(f"{person.lab.url}computehub/{where}?token={person.lab.users[person.user]}")
    return tab


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options=WCAG)
    assert found.violations_count == 0, found.generate_report()


def says(page: Page, words: str) -> None:
    expect(page.get_by_role("status")).to_have_text(words)


@pytest.fixture
def lease(lab: Lab, notebook: Callable[..., str]) -> dict[str, Any]:
    """A running lease of alice's, for a notebook that nobody has open."""
    name = notebook("x = 1")
    session = {"path": name, "type": "notebook", "name": name, "kernel": {"name": "python3"}}
    kernel = lab.request("api/sessions", user="alice", method="POST", body=session)["kernel"]["id"]
    wish = {"target": "gpu", "kernel_id": kernel, "model": "T4", "duration_seconds": 3600}
    switch = lab.api("switches", user="alice", method="POST", body=wish)["id"]
    eventually("the GPU is taken", lambda: lab.api(f"switches/{switch}", user="alice")["state"] == "done")
    held: dict[str, Any] = lab.api(f"kernels/{kernel}", user="alice")["lease"]
    return held


def test_what_is_there_to_see(lab: Lab, alice: Person, lease: dict[str, Any]) -> None:
    tab = account(alice)
    page = tab.page
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    card = page.locator(f"#lease-{lease['id']}")
    expect(card).to_contain_text("T4 simulated running")
    offers = page.get_by_role("region", name="Offers")
    expect(offers.get_by_role("rowheader", name=re.compile("A100 simulated"))).to_be_visible()
    expect(page.get_by_role("region", name="History").get_by_text("Welcome")).to_be_visible()
    before = float(card.locator("[data-running-cost]").inner_text())
    eventually("the cost goes on", lambda: float(card.locator("[data-running-cost]").inner_text()) > before)
    shown = float(card.locator("[data-running-cost]").inner_text()) * 1_000_000
    counted = lab.api(f"leases/{lease['id']}", user="alice")["cost_microcredits"]
    assert abs(counted - shown) < 3_000, "within ten seconds of the control plane's own figure"
    assert_accessible(page)
    tab.page.emulate_media(color_scheme="light")
    tab.screenshot("account")
    tab.page.emulate_media(color_scheme="dark")
    assert_accessible(page)
    tab.screenshot("account-dark")
    lab.api(f"leases/{lease['id']}/end", user="alice", method="POST", body={})


def test_a_lease_is_extended_and_ended_by_its_buttons(lab: Lab, alice: Person, lease: dict[str, Any]) -> None:
    page = account(alice).page
    card = page.locator(f"#lease-{lease['id']}")
    card.get_by_role("button", name="1 hour longer").click()
    says(page, "Extended by an hour.")
    expect(card).to_contain_text("1.99 still on hold")
    assert lab.api(f"leases/{lease['id']}", user="alice")["ends_at"] > lease["ends_at"]
    page.once("dialog", lambda dialog: dialog.dismiss())
    card.get_by_role("button", name="End now").click()
    assert lab.api(f"leases/{lease['id']}", user="alice")["state"] == "running", "asked, and answered no"
    page.once("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="End now").click()
    says(page, "Ended; the rest of the credits is released.")
    eventually("it is closed", lambda: lab.api(f"leases/{lease['id']}", user="alice")["state"] == "closed")
    lab.assert_books_agree()


def test_what_a_notebook_may_not_spend_by_itself_is_approved_here(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    ask = '%gpu book A100 "tomorrow 14:00" --for 2h'
    notebook_tab = alice.open(notebook(ask, ask))
    notebook_tab.run_cell(1)
    notebook_tab.wait_for_output(1, re.compile("approve", re.IGNORECASE))
    [asked] = [item for item in lab.api("approvals", user="alice")["items"] if item["state"] == "pending"]
    tab = account(alice, f"approvals/{asked['id']}")
    page = tab.page
    request = page.locator(f"#approval-{asked['id']}")
    expect(request).to_contain_text("8.00 credits")
    expect(page).to_have_title(re.compile(r"^\(1\)"))
    assert_accessible(page)
    tab.screenshot("approval")
    request.get_by_role("button", name="Approve").focus()
    page.keyboard.press("Enter")
    says(page, "Approved. Run the cell again.")
    assert lab.api(f"approvals/{asked['id']}", user="alice")["state"] == "approved"
    expect(request).to_have_count(0)
    page.goto(f"{lab.url}computehub/approvals/{asked['id']}")
    expect(page.get_by_role("alert")).to_contain_text("is approved already")


def test_a_second_person_sees_nothing_of_it(lab: Lab, bob: Person) -> None:
    asked = lab.api("approvals", user="alice")["items"][0]["id"]
    page = account(bob, f"approvals/{asked}").page
    expect(page.get_by_role("alert")).to_have_text(f"There is no request {asked} of yours.")
    expect(page.get_by_text("alice", exact=False)).to_have_count(0)
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)


def test_the_allowance_and_a_booking_by_keyboard(lab: Lab, bob: Person) -> None:
    wish = {"model": "T4", "when": "tomorrow 14:00", "duration_seconds": 3600}
    booking = lab.api("bookings", user="bob", method="POST", body=wish)
    page = account(bob).page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    field = page.get_by_label("Credits in any 24 hours, before they must ask you")
    field.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("2.5")
    page.keyboard.press("Enter")
    says(page, "Saved.")
    expect(page.get_by_text("2.50 of 2.50 left now.")).to_be_visible()
    assert lab.api("me", user="bob")["allowance"]["per_day_microcredits"] == 2_500_000
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel the booking of T4").focus()
    page.keyboard.press("Space")
    says(page, "Cancelled; the credits are released.")
    expect(page.locator(f"#booking-{booking['id']}")).to_have_count(0)
    expect(page.get_by_role("main")).to_be_focused()
    assert lab.api(f"bookings/{booking['id']}", user="bob")["state"] == "cancelled"


def test_what_the_server_refuses_is_said_in_its_words(lab: Lab, bob: Person) -> None:
    wish = {"model": "T4", "when": "tomorrow 16:00", "duration_seconds": 3600}
    booking = lab.api("bookings", user="bob", method="POST", body=wish)
    page = account(bob).page
    lab.api(f"bookings/{booking['id']}/cancel", user="bob", method="POST", body={})
    page.once("dialog", lambda dialog: dialog.accept())
    with page.expect_response(re.compile("/cancel$")) as answer:
        page.get_by_role("button", name="Cancel the booking of T4").click()
    if answer.value.status == 200:
        says(page, "Cancelled; the credits are released.")
    else:
        expect(page.get_by_role("status")).to_contain_text(answer.value.json()["message"])
        bob.tabs[-1].errors.clear()  # the browser itself writes a refused request on its console


def test_somebody_who_is_not_logged_in_is_led_to_the_login(lab: Lab, person: Callable[..., Person]) -> None:
    stranger = person(lab, "alice")
    tab = Tab(lab, "alice", stranger.context, stranger.context.new_page())
    tab.page.goto(f"{lab.url}computehub/")
    expect(tab.page).to_have_url(re.compile(r"/login\?next="))
    tab.page.get_by_label(re.compile("Password|token", re.IGNORECASE)).first.fill(lab.users["alice"])
    tab.page.get_by_role("button", name="Log in").first.click()
    expect(tab.page.get_by_role("heading", name="Your account")).to_be_visible()


def test_the_api_documentation_works_offline(lab: Lab, alice: Person) -> None:
    tab = account(alice)
    outside: list[str] = []
    tab.page.on(
        "request",
        lambda request: outside.append(request.url) if not request.url.startswith((lab.url, "data:")) else None,
    )
    tab.page.get_by_role("link", name="API documentation").click()
    expect(tab.page.get_by_role("heading", name=re.compile("ComputeHub"))).to_be_visible()
    operation = tab.page.locator("#operations-offers-listOffers")
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".responses-table.live-responses-table")).to_contain_text("A100")
    quote = tab.page.locator("#operations-offers-quote")
    quote.get_by_role("button").first.click()
    quote.get_by_role("button", name="Try it out").click()
    quote.get_by_role("button", name="Execute").click()
    expect(quote.locator(".live-responses-table")).to_contain_text("amount_microcredits")
    assert not outside
