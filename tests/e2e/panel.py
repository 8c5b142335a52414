"""What a person does in the panel, in words: look at the sidebar, draw on the calendar, answer a dialog."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import Locator, expect

from tests.e2e.browser import Tab
from tests.e2e.lab import Lab

BERLIN = ZoneInfo("Europe/Berlin")
NAME = "GPUs and credits"
SLOW_MS = 30_000


class Panel:
    """The sidebar, the calendar and the dialogs of one tab."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.page = tab.page

    # The sidebar

    def open(self) -> Panel:
        """Click on the sidebar's tab and wait for the account."""
        self.page.get_by_role("tab", name=NAME).click()
        expect(self.section("Credits")).to_contain_text("credits", timeout=SLOW_MS)
        return self

    @property
    def sidebar(self) -> Locator:
        return self.page.get_by_role("region", name=NAME, exact=True)

    def section(self, title: str) -> Locator:
        return self.sidebar.get_by_role("region", name=title, exact=True)

    def unfold(self, title: str) -> Locator:
        """Open a folded part of the sidebar."""
        header = self.section(title).get_by_role("button", name=title, exact=True)
        if header.get_attribute("aria-expanded") == "false":
            header.click()
        return self.section(title)

    def execute(self, command: str, **arguments: str) -> None:
        self.page.evaluate(
            "([command, args]) => { void window.jupyterapp.commands.execute(command, args); }", [command, arguments]
        )

    # The notebook's button and the status bar

    def move_button(self, words: str | re.Pattern[str]) -> Locator:
        """The button beside the kernel's name, once it says this."""
        button = self.page.locator(".jp-NotebookPanel:visible .ch-SwitchButton").first
        expect(button).to_contain_text(words, timeout=60_000)
        return button

    def move(self, model: str) -> None:
        """Move the notebook as a person does who takes what is proposed; the result stays on the screen."""
        self.move_button("Move to a GPU").click()
        self.dialog.get_by_role("radio", name=re.compile(rf"^{re.escape(model)} ")).check()
        go = self.dialog.get_by_role("button", name="Move the notebook")
        expect(go).not_to_have_attribute("aria-disabled", "true", timeout=SLOW_MS)
        go.click()
        expect(self.dialog.get_by_text(f"The notebook is on {model} (simulated) now.")).to_be_visible(timeout=60_000)

    @property
    def status(self) -> Locator:
        return self.page.locator("#jp-main-statusbar .ch-StatusItem")

    # The calendar

    @property
    def calendar(self) -> Locator:
        return self.page.locator(".ch-Calendar:visible")

    def open_calendar(self, view: str) -> None:
        self.execute("computehub:open-calendar", view=view)
        expect(self.calendar.locator("td.fc-timegrid-slot-lane").first).to_be_visible(timeout=SLOW_MS)

    def point(self, day: date, at: str) -> tuple[float, float]:
        """Where a quarter of an hour begins on the screen, with a pixel or two in it."""
        hour, minute = at.split(":")
        row = f"{hour}:{'30' if int(minute) >= 30 else '00'}:00"
        column = self.calendar.locator(f'td.fc-timegrid-col[data-date="{day.isoformat()}"]').bounding_box()
        slot = self.calendar.locator(f'td.fc-timegrid-slot-lane[data-time="{row}"]').bounding_box()
        assert column
        assert slot
        return column["x"] + column["width"] / 2, slot["y"] + 2 + slot["height"] * (int(minute) % 30) / 30

    def draw(self, day: date, start: str, end: str) -> None:
        """Draw across free time."""
        x, y = self.point(day, end)
        self.drag(self.point(day, start), (x, y - 5))

    def show_hours_from(self, at: str) -> None:
        slot = self.calendar.locator(f'td.fc-timegrid-slot-lane[data-time="{at}:00"]')
        slot.evaluate("row => row.scrollIntoView({ block: 'start' })")

    def lower_edge(self, booking_id: str) -> tuple[float, float]:
        """Where a booking is taken to make it longer."""
        shown = self.calendar.locator(f'[data-booking="{booking_id}"]')
        expect(shown).to_be_visible()
        shown.hover()  # which scrolls there, and looks again where the calendar is drawn anew
        box = shown.bounding_box()
        assert box
        return box["x"] + box["width"] / 2, box["y"] + box["height"] - 2

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*start)
        mouse.move(*end, steps=12)
        mouse.up()

    def booked(self, words: str | re.Pattern[str]) -> Locator:
        """Own bookings in the calendar, by what is read out of them."""
        return self.calendar.get_by_role("button", name=words)

    # By keyboard

    def tab_to(self, target: Locator, *, presses: int = 60) -> None:
        """Press Tab until the focus is there, as one without a mouse does."""
        expect(target).to_be_visible(timeout=SLOW_MS)
        for _ in range(presses):
            if target.evaluate("node => node === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
            # A key too many goes on inside a date, to a part that takes no digits: wait until this one has been drawn.
            self.page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        focused = self.page.evaluate("() => document.activeElement?.outerHTML.slice(0, 200)")
        raise AssertionError(f"no way by Tab to {target}; the focus is at {focused}")

    # Dialogs and notices

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def answer(self, button: str) -> None:
        """Press a button of the open dialog, once it can be pressed, and wait until the dialog is gone."""
        found = self.dialog.get_by_role("button", name=button, exact=True)
        expect(found).to_be_visible(timeout=SLOW_MS)
        expect(found).not_to_have_attribute("aria-disabled", "true", timeout=SLOW_MS)
        found.click()
        expect(self.dialog).to_have_count(0, timeout=SLOW_MS)

    def told(self, words: str | re.Pattern[str]) -> Locator:
        """Wait for a notification with these words."""
        notice = self.page.locator(".Toastify__toast").filter(has_text=words).first
        expect(notice).to_be_visible(timeout=SLOW_MS)
        return notice

    def both_looks(self, name: str) -> None:
        """Keep a picture of the page in light and in dark."""
        self.tab.screenshot(name)
        self.tab.screenshot(f"{name}-dark", dark=True)


def bookings(lab: Lab, user: str = "alice") -> list[dict[str, Any]]:
    """What is booked and not yet over, as the API says."""
    items: list[dict[str, Any]] = lab.api("bookings?state=upcoming", user=user)["items"]
    return items


def starts(items: list[dict[str, Any]]) -> list[str]:
    """When bookings start, in Berlin: ``2026-11-24 10:00``."""
    moments = [datetime.fromisoformat(item["starts_at"].replace("Z", "+00:00")) for item in items]
    return sorted(moment.astimezone(BERLIN).strftime("%Y-%m-%d %H:%M") for moment in moments)


def seconds_between(lease: dict[str, Any], later: dict[str, Any]) -> float:
    """By how much a lease's end was moved."""
    return seconds_of({"starts_at": lease["ends_at"], "ends_at": later["ends_at"]})


def moment(day: date, at: str) -> str:
    """A time of a day in Berlin as the API takes it."""
    return datetime.fromisoformat(f"{day}T{at}").replace(tzinfo=BERLIN).isoformat()


def day_of_next_week(weekday: int) -> date:
    """A day in the week after this one, which no hour of today can make past; Monday is 0."""
    today = datetime.now(BERLIN).date()
    return today - timedelta(days=today.weekday()) + timedelta(days=7 + weekday)


def seconds_of(booking: dict[str, Any]) -> float:
    start, end = (datetime.fromisoformat(booking[key].replace("Z", "+00:00")) for key in ("starts_at", "ends_at"))
    return (end - start).total_seconds()
