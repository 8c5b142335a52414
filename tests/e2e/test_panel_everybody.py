"""Every view of the panel for everybody: themes, high contrast, zoom, a narrow sidebar, right to left, the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import Person, Tab
from tests.e2e.lab import ROOT, Lab, eventually, running_lab
from tests.e2e.panel import Panel
from tests.support.term import write_term

SERIOUS = ("serious", "critical")
LIGHT, DARK, CONTRAST = "JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast"
NARROW_PIXELS = 200

# JupyterLab's own sidebars stop at 250 pixels; those of other front ends need not.
NARROWER = f"""
document.addEventListener('DOMContentLoaded', () => {{
  const style = document.createElement('style');
  style.textContent = ':root {{ --jp-sidebar-min-width: {NARROW_PIXELS}px !important; }}';
  document.head.append(style);
}});
"""
# What of ours is wider than its place, or cut at an edge with nothing that says so; scrolled tables and hidden text are
# what they are on purpose.
CUT = """
selector => {
  const bad = [];
  for (const root of document.querySelectorAll(selector)) {
    if (!root.getClientRects().length) continue;
    const style = getComputedStyle(root);
    if (root.scrollWidth > root.clientWidth + 1 && style.overflowX !== 'visible') {
      bad.push(`${root.className} scrolls sideways: ${root.scrollWidth} in ${root.clientWidth}`);
    }
    for (const node of root.querySelectorAll('*')) {
      const own = getComputedStyle(node);
      const isText = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
      if (!isText || !node.getClientRects().length) continue;
      if (node.closest('.ch-visually-hidden, .fc, .ch-BookingList')) continue;
      const cut = own.overflowX === 'hidden' && node.scrollWidth > node.clientWidth + 1
        && own.textOverflow !== 'ellipsis';
      const outside = node.getBoundingClientRect().right > root.getBoundingClientRect().right + 1
        || node.getBoundingClientRect().left < root.getBoundingClientRect().left - 1;
      if (cut || outside) {
        bad.push(`${node.className || node.tagName}: ${node.textContent.trim().slice(0, 40)}`);
      }
    }
  }
  return bad;
}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("term")
    write_term(folder / "data" / "computehub.sqlite")
    with running_lab(folder) as lab:
        yield lab


def assert_everybody_can_use(page: Page, selector: str, view: str) -> None:
    found = Axe().run(page, context=selector)
    serious = [each for each in found.response["violations"] if each["impact"] in SERIOUS]
    told = [f"{each['id']}: {node['html'][:200]}" for each in serious for node in each["nodes"]]
    assert not told, f"{view}:\n" + "\n".join(told)


def moved(lab: Lab, name: str) -> None:
    wish = {"target": "gpu", "kernel_id": lab.kernel_of(name), "model": "A100", "duration_seconds": 3600}
    switch = lab.api("switches", user="alice", method="POST", body=wish)
    eventually("the move is done", lambda: lab.api(f"switches/{switch['id']}", user="alice")["state"] == "done")


def everything_unfolded(panel: Panel) -> None:
    for title in ("Credits", "Running GPUs", "GPUs to use or book", "Next bookings", "History"):
        panel.unfold(title)
    charts = panel.section("Running GPUs").locator('button[aria-expanded="false"]')
    while charts.count():
        charts.first.click()
    expect(panel.section("Running GPUs").get_by_role("timer")).to_be_visible(timeout=30_000)
    expect(panel.page.locator(".ch-Skeleton:visible")).to_have_count(0, timeout=30_000)


def close_dialog(panel: Panel) -> None:
    panel.page.keyboard.press("Escape")
    expect(panel.dialog).to_have_count(0)


def prepared(lab: Lab, person: Person, names: tuple[str, str]) -> tuple[Tab, Panel]:
    """A tab whose notebook is on a GPU, with another notebook behind it that is not."""
    cpu, gpu = names
    tab = person.open(gpu)
    moved(lab, gpu)
    panel = Panel(tab).open()
    everything_unfolded(panel)
    panel.page.evaluate("path => void window.jupyterapp.commands.execute('docmanager:open', { path })", cpu)
    panel.move_button("Move to a GPU")
    return tab, panel


def views(panel: Panel, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Bring each view before the eyes, one after the other: its name, and what of the page belongs to it."""
    yield "sidebar", ".ch-Sidebar"
    panel.open_calendar("week")
    yield "calendar-week", ".ch-Calendar"
    panel.open_calendar("day")
    yield "calendar-day", ".ch-Calendar"
    panel.execute("computehub:open-calendar", view="list")
    yield "calendar-list", ".ch-Calendar"
    panel.execute("computehub:book", model="V100")
    expect(panel.dialog.get_by_role("region", name="Price")).to_contain_text("credits", timeout=30_000)
    yield "booking-form", ".jp-Dialog-content"
    close_dialog(panel)
    panel.execute("docmanager:open", path=names[0])
    # By its command, since a narrow toolbar keeps the button behind its dots.
    panel.execute("computehub:move-notebook")
    go = panel.dialog.get_by_role("button", name="Move the notebook")
    expect(go).not_to_have_attribute("aria-disabled", "true", timeout=30_000)
    yield "move", ".jp-Dialog-content"
    close_dialog(panel)
    yield "status-and-button", ".ch-StatusItem, .ch-SwitchButton"


@pytest.fixture
def names(notebook: Callable[..., str]) -> tuple[str, str]:
    return notebook("rows = [1, 2, 3]"), notebook("x = 1")


def theme(tab: Tab, name: str) -> None:
    tab.theme(name)
    expect(tab.page.locator(f'body[data-jp-theme-name="{name}"]')).to_be_attached()


def kept(tab: Tab, name: str) -> None:
    """A picture for the eyes of whoever changes a view, beside the tests' results; the documentation shows others."""
    path = ROOT / ".test" / "images" / "everybody" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=path, animations="disabled", caret="hide")


def assert_nothing_cut(page: Page, selector: str, view: str) -> None:
    told = page.evaluate(CUT, selector)
    assert not told, f"{view}:\n" + "\n".join(told)


def test_every_view_in_every_theme(lab: Lab, alice: Person, names: tuple[str, str]) -> None:
    tab, panel = prepared(lab, alice, names)
    for view, selector in views(panel, names):
        for name in (DARK, CONTRAST, LIGHT):
            theme(tab, name)
            assert_everybody_can_use(panel.page, selector, f"{view} in {name}")
            kept(tab, f"{view}-{name.split()[-1].lower()}")
    panel.execute("computehub:start-tour")
    expect(panel.page.locator(".ch-TourCard")).to_be_visible()
    for name in (DARK, CONTRAST, LIGHT):
        theme(tab, name)
        assert_everybody_can_use(panel.page, ".ch-TourCard", f"tour in {name}")
    panel.page.keyboard.press("Escape")
    expect(panel.page.locator(".ch-TourCard")).to_have_count(0)


def test_zoom_narrow_and_right_to_left_cut_nothing(
    lab: Lab, person: Callable[..., Person], names: tuple[str, str]
) -> None:
    alice = person(lab, "alice")
    alice.context.add_init_script(NARROWER)
    tab, panel = prepared(lab, alice, names)
    page = panel.page
    # A zoom of 200 % on a screen of 1280 pixels leaves the page 640.
    for look, width, direction in (("zoom", 640, "ltr"), ("rtl", 1280, "rtl")):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("direction => { document.dir = direction; }", direction)
        page.evaluate("window.jupyterapp.shell.collapseLeft()")
        for view, selector in views(panel, names):
            kept(tab, f"{view}-{look}")
            assert_nothing_cut(page, selector, f"{view}, {look}")
    page.evaluate("document.dir = 'ltr'")
    page.set_viewport_size({"width": 1280, "height": 1000})
    panel.execute("computehub:show-panel")
    narrow(page)
    kept(tab, "sidebar-narrow")
    assert_nothing_cut(page, ".ch-Sidebar", "a narrow sidebar")


def narrow(page: Page) -> None:
    """Draw the sidebar's edge as far as it goes."""
    box = page.locator(".ch-Sidebar").bounding_box()
    assert box
    page.mouse.move(box["x"] - 2, 400)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - NARROW_PIXELS, 400, steps=5)
    page.mouse.up()
    eventually("the sidebar is narrow", lambda: (page.locator(".ch-Sidebar").bounding_box() or box)["width"] < 210)


def test_the_keyboard_reaches_everything_and_comes_back(lab: Lab, alice: Person, names: tuple[str, str]) -> None:
    _, panel = prepared(lab, alice, names)
    page = panel.page
    panel.execute("computehub:show-panel")
    wanted = panel.sidebar.locator(REACHABLE).count()
    assert wanted > 20
    first = panel.section("Credits").get_by_role("button", name="Credits", exact=True)
    first.focus()
    reached = [described(page)]
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        if not page.evaluate(IN_SIDEBAR):
            break
        here = described(page)
        assert here["ring"], f"no visible focus on {here['name']}"
        reached.append(here)
    groups = panel.sidebar.locator('[role="radio"], input[type="radio"]').count()
    assert len(reached) >= wanted - groups - before(panel, first), [each["name"] for each in reached]
    tops = [each["top"] for each in reached]
    assert tops == sorted(tops), "Tab goes from top to bottom"

    # A dialog keeps the focus, and gives it back.
    opener = panel.section("GPUs to use or book").get_by_role("button", name="Book…").first
    opener.focus()
    page.keyboard.press("Enter")
    expect(panel.dialog.get_by_role("region", name="Price")).to_contain_text("credits", timeout=30_000)
    for _ in range(25):
        page.keyboard.press("Tab")
        assert page.evaluate("!!document.activeElement.closest('.jp-Dialog')"), described(page)
    close_dialog(panel)
    expect(opener).to_be_focused()


def before(panel: Panel, first: Locator) -> int:
    """How many of what can be reached stand before the first."""
    seen: int = panel.sidebar.evaluate(
        "(root, selector) => [...root.querySelectorAll(selector.replaceAll(':visible', ''))]"
        ".findIndex(node => node.textContent.trim() === 'Credits')",
        REACHABLE,
    )
    assert seen >= 0, first
    return seen


REACHABLE = "button:visible, a[href]:visible, input:visible, select:visible, summary:visible"
IN_SIDEBAR = "() => !!document.activeElement.closest('.ch-Sidebar')"
DESCRIBED = """
() => {
  const node = document.activeElement, style = getComputedStyle(node);
  const name = node.getAttribute('aria-label') || node.textContent.trim().slice(0, 40) || node.tagName;
  const shown = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  const top = node.getBoundingClientRect().top + node.closest('.ch-Sidebar, .jp-Dialog, body').scrollTop;
  return { name, top: Math.round(top / 40), ring: shown || style.boxShadow !== 'none' };
}
"""


def described(page: Page) -> dict[str, Any]:
    """What has the focus: its name, where it stands, and whether one sees that it has the focus."""
    found: dict[str, Any] = page.evaluate(DESCRIBED)
    return found
