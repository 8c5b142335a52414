"""The account page, and what only a person in a browser may do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually


def account_page(person: Person, lab: Lab) -> Page:
    tab = person.blank()
    tab.page.goto(f"{lab.url}computehub/?token={lab.users[person.user]}")
    expect(tab.page.get_by_role("heading", name="Your account")).to_be_visible(timeout=30_000)
    return tab.page


def test_a_new_person_finds_the_welcome_grant(lab: Lab, bob: Person) -> None:
    page = account_page(bob, lab)
    expect(page.get_by_role("region", name="Credits")).to_contain_text("10.00")
    expect(page.get_by_role("region", name="History").first).to_contain_text("granted")
    rows = lab.query("SELECT count(*) FROM people WHERE username = 'bob'")
    assert rows == [(1,)]
    expect(page.get_by_role("region", name="Offers").first).to_contain_text("simulated")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_account_page_can_be_read_by_everybody(lab: Lab, alice: Person, scheme: str) -> None:
    page = account_page(alice, lab)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    alice.tabs[-1].screenshot("account" if scheme == "light" else "account-dark")


def test_above_the_allowance_the_browser_is_asked(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    page = account_page(alice, lab)
    page.get_by_label("Credits in any 24 hours").fill("0.2")
    page.get_by_role("button", name="Save").click()
    eventually(
        "the allowance is kept",
        lambda: lab.api("me", user="alice")["allowance"]["per_day_microcredits"] == 200_000,
    )
    name = notebook(
        "import os\nfirst = os.getpid()", "%gpu on T4 --for 30m --yes", "print('there', os.getpid() != first)"
    )
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(2, "Your approval is needed")
    assert lab.place(name)["place"] == "cpu"
    tab.screenshot("approval-wanted")
    page.reload()
    page.get_by_role("button", name="Approve").first.click()
    tab.wait_for_output(3, "there True")
    assert lab.place(name)["place"] == "gpu"
    states = lab.query("SELECT state FROM approvals")
    assert states == [("used",)]
    page.get_by_label("Credits in any 24 hours").fill("5")
    page.get_by_role("button", name="Save").click()
    eventually(
        "the allowance is kept",
        lambda: lab.api("me", user="alice")["allowance"]["per_day_microcredits"] == 5_000_000,
    )


def test_a_declined_request_stops_the_cells(lab: Lab, alice: Person, notebook: Callable[..., str]) -> None:
    page = account_page(alice, lab)
    page.get_by_label("Credits in any 24 hours").fill("0")
    page.get_by_role("button", name="Save").click()
    eventually("the allowance is kept", lambda: lab.api("me", user="alice")["allowance"]["per_day_microcredits"] == 0)
    name = notebook("%gpu on T4 --for 30m --yes", "print('must not run')")
    tab = alice.open(name)
    tab.run_all()
    tab.wait_for_output(1, "Your approval is needed")
    page.reload()
    page.get_by_role("button", name="Decline").first.click()
    tab.wait_for_output(1, "declined")
    tab.wait_for_kernel()
    assert tab.output(2) == ""
    assert lab.place(name)["place"] == "cpu"
    lab.assert_books_agree()


def test_the_running_lease_is_shown_and_can_be_ended(lab: Lab, bob: Person, notebook: Callable[..., str]) -> None:
    name = notebook("%gpu on T4 --for 30m --yes", "print('there')")
    tab = bob.open(name)
    tab.run_all()
    tab.wait_for_output(2, "there")
    page = account_page(bob, lab)
    card = page.get_by_role("region", name="GPUs that you hold now")
    expect(card).to_contain_text(name)
    first = card.locator("[data-running-cost]").inner_text()
    expect(card.locator("[data-running-cost]")).not_to_have_text(first, timeout=20_000)
    bob.tabs[-1].screenshot("account-lease")
    lease = lab.place(name, "bob")["lease"]["id"]
    page.on("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="End now").click()
    eventually("the lease is closed", lambda: lab.api(f"leases/{lease}", user="bob")["state"] == "closed")
    tab.errors.clear()  # the kernel on the GPU is gone, and JupyterLab says so
