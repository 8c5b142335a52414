"""Booking by mouse and by keyboard, by somebody who has read nothing."""

from __future__ import annotations

import re
from datetime import date, timedelta

from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually
from tests.e2e.panel import Panel, bookings, day_of_next_week, moment, seconds_of, starts

CHEAPEST = "A100-1g.10gb"
TUESDAY, WEDNESDAY, THURSDAY = 1, 2, 3


def test_a_newcomer_books_moves_resizes_and_cancels_by_mouse(lab: Lab, alice: Person) -> None:
    tuesday, thursday = day_of_next_week(TUESDAY), day_of_next_week(THURSDAY)
    # Bob has the only V100 on that Thursday, which she finds out by drawing on it.
    taken = {"model": "V100", "starts_at": moment(thursday, "10:00"), "duration_seconds": 7200}
    lab.api("bookings", user="bob", method="POST", body=taken)
    lab.write_notebook("climate.ipynb", ["import numpy as np", "years = np.arange(1850, 2026)"])
    tab = alice.open("climate.ipynb")
    panel = Panel(tab).open()
    expect(panel.section("Credits")).to_contain_text("10.00 credits")
    offers = panel.section("GPUs to use or book")
    for model in ("T4", "V100", "A100"):
        expect(offers.get_by_role("listitem", name=model, exact=True)).to_contain_text("simulated")
    panel.both_looks("panel-sidebar")

    panel.open_calendar("week")
    panel.page.get_by_role("button", name="Next week").click()
    expect(panel.calendar.locator(f'[data-date="{tuesday}"]').first).to_be_visible()
    panel.show_hours_from("08:00")
    panel.draw(tuesday, "10:00", "11:45")
    expect(panel.dialog.get_by_label("Day", exact=True)).to_have_value(str(tuesday))
    expect(panel.dialog.get_by_label("Time", exact=True)).to_have_value(re.compile(r"^10:00"))
    expect(panel.dialog.get_by_label("GPU", exact=True)).to_have_value(CHEAPEST)
    price = panel.dialog.get_by_role("region", name="Price")
    expect(price).to_contain_text("It is free.")
    expect(price).to_contain_text("credits stay for you to spend")
    expect(price).to_contain_text("simulated")
    assert bookings(lab) == [], "a price was shown and nothing booked yet"
    panel.both_looks("calendar-booking")
    panel.answer("Book")
    panel.told(f"Booked: {CHEAPEST}")
    (booking,) = bookings(lab)
    assert starts([booking]) == [f"{tuesday} 10:00"]
    length = seconds_of(booking)
    assert lab.query("SELECT state FROM bookings WHERE id = ?", booking["id"]) == [("confirmed",)]
    held = lab.api("me", user="alice")["balance"]["held_microcredits"]
    assert held == booking["amount_microcredits"] > 0
    expect(panel.section("Credits")).to_contain_text(re.compile(r"On hold\s*1\.40"))
    expect(panel.section("Next bookings").get_by_role("listitem")).to_have_count(1)
    panel.both_looks("calendar-week")

    # She moves it to the Wednesday, and makes it longer.
    wednesday = day_of_next_week(WEDNESDAY)
    panel.show_hours_from("08:00")
    panel.drag(panel.point(tuesday, "10:45"), panel.point(wednesday, "13:45"))
    expect(panel.dialog.get_by_label("Day", exact=True)).to_have_value(str(wednesday))
    expect(panel.dialog).to_contain_text("The same price as before.")
    panel.answer("Move")
    panel.told(f"Changed to: {CHEAPEST}")
    assert starts(bookings(lab)) == [f"{wednesday} 13:00"]
    panel.drag(panel.lower_edge(booking["id"]), panel.point(wednesday, "16:00"))
    expect(panel.dialog).to_contain_text("more than before")
    panel.answer("Move")
    eventually("it is longer", lambda: seconds_of(bookings(lab)[0]) > length)
    assert bookings(lab)[0]["id"] == booking["id"], "one booking all the way"

    # A time that others have says so, with what is free instead, and nothing that was typed is lost.
    panel.page.get_by_role("checkbox", name=re.compile("^V100")).check()
    panel.page.get_by_role("checkbox", name=re.compile(f"^{re.escape(CHEAPEST)}")).uncheck()
    panel.draw(thursday, "10:00", "11:30")
    expect(panel.dialog.get_by_label("GPU", exact=True)).to_have_value("V100")
    expect(panel.dialog).to_contain_text("Others have booked then.")
    expect(panel.dialog.get_by_role("group", name="Next free times").get_by_role("button").first).to_be_visible()
    expect(panel.dialog.get_by_role("button", name="Book", exact=True)).to_have_attribute("aria-disabled", "true")
    panel.both_looks("calendar-taken")
    panel.answer("Close")

    panel.booked(re.compile(f"^{re.escape(CHEAPEST)}, Wed")).click()
    panel.answer("Cancel this booking")
    panel.told(f"Cancelled: {CHEAPEST}")
    assert bookings(lab) == []
    assert lab.query("SELECT state FROM bookings WHERE id = ?", booking["id"]) == [("cancelled",)]
    expect(panel.section("Credits")).to_contain_text("10.00 credits")
    expect(panel.section("Next bookings")).to_contain_text("Nothing is booked.")
    lab.assert_books_agree()


def test_everything_that_dragging_does_goes_by_keyboard_and_a_weekly_series(lab: Lab, bob: Person) -> None:
    tuesday, thursday = day_of_next_week(TUESDAY), day_of_next_week(THURSDAY)
    lab.write_notebook("reading.ipynb", ["print('hello')"])
    panel = Panel(bob.open("reading.ipynb")).open()
    page, keys = panel.page, panel.page.keyboard

    def type_date(day: date, hour: str) -> None:
        """As a person types it into the browser's own fields, in the browser's order of day and month."""
        keys.type(f"{day:%m%d%Y}")
        panel.tab_to(panel.dialog.get_by_label("Time", exact=True))
        keys.type(hour)

    panel.tab_to(panel.section("Next bookings").get_by_role("button", name="Book a GPU…"))
    keys.press("Enter")
    model = panel.dialog.get_by_label("GPU", exact=True)
    expect(model, "the form begins at its first field").to_be_focused()
    keys.type("T4")
    expect(model).to_have_value("T4")
    expect(panel.dialog.get_by_role("region", name="Price"), "what is filled in has a price").to_contain_text("credits")
    day = panel.dialog.get_by_label("Day", exact=True)
    panel.tab_to(day)
    type_date(tuesday, "0900AM")
    expect(day).to_have_value(str(tuesday))
    panel.tab_to(panel.dialog.get_by_label("Hours", exact=True))
    keys.type("1")
    panel.tab_to(panel.dialog.get_by_label("Repeat", exact=True))
    keys.type("Every week")
    panel.tab_to(panel.dialog.get_by_label("How many times", exact=True))
    keys.press("Control+A")
    keys.type("3")
    each = panel.dialog.get_by_role("list", name="Each time")
    expect(each.get_by_role("listitem")).to_have_count(3)
    expect(panel.dialog.get_by_role("region", name="Price")).to_contain_text("All 3 are free.")
    panel.both_looks("calendar-series")
    panel.tab_to(panel.dialog.get_by_role("button", name="Book", exact=True))
    keys.press("Enter")
    panel.told("Booked 3 times.")
    made = bookings(lab, "bob")
    assert starts(made) == [f"{tuesday + timedelta(weeks=week)} 09:00" for week in range(3)]
    assert len({booking["series_id"] for booking in made}) == 1
    assert lab.query("SELECT count(*) FROM bookings WHERE state = 'confirmed'")[0][0] == 3

    # The list has all that the grid shows; from it one is moved, then those to come are cancelled together.
    panel.execute("computehub:open-calendar", view="list")
    table = page.get_by_role("region", name="Your bookings")
    expect(table.get_by_role("row")).to_have_count(4)
    panel.tab_to(table.get_by_role("button", name=re.compile("^Move ")).first)
    keys.press("Enter")
    panel.tab_to(panel.dialog.get_by_label("Day", exact=True))
    type_date(thursday, "0230PM")
    expect(panel.dialog).to_contain_text("The same price as before.")
    panel.tab_to(panel.dialog.get_by_role("button", name="Move", exact=True))
    keys.press("Enter")
    panel.told("Changed to: T4")
    assert f"{thursday} 14:30" in starts(bookings(lab, "bob"))
    expect(table).to_contain_text("2:30")
    panel.both_looks("calendar-list")

    panel.tab_to(table.get_by_role("button", name=re.compile("^Cancel ")).first)
    keys.press("Enter")
    expect(panel.dialog).to_contain_text("It costs nothing")
    panel.tab_to(panel.dialog.get_by_role("button", name="Cancel the booking"))
    keys.press("Enter")
    eventually("one is cancelled", lambda: len(bookings(lab, "bob")) == 2)
    panel.tab_to(table.get_by_role("button", name=re.compile("^Move ")).first)
    keys.press("Enter")
    panel.tab_to(panel.dialog.get_by_role("button", name="Cancel all of the series to come"))
    keys.press("Enter")
    panel.told("Those of the series that had not begun are cancelled.")
    assert bookings(lab, "bob") == []
    expect(panel.section("Credits")).to_contain_text("10.00 credits")
    lab.assert_books_agree()
