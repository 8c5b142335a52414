"""Where a person finds the panel without knowing of it: the launcher, the menus and the settings."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually
from tests.e2e.panel import Panel

SETTINGS = "lab/api/settings/computehub:preferences"


def test_the_launcher_opens_the_calendar_and_a_setting_proposes_the_usual_gpu(lab: Lab, alice: Person) -> None:
    lab.write_notebook("climate.ipynb", ["years = range(1850, 2026)"])
    tab = alice.open("climate.ipynb")
    page, panel = tab.page, Panel(tab)

    tab.menu("File", "New Launcher")
    launcher = page.locator(".jp-Launcher:visible")
    card = launcher.get_by_title("See what is free, and book, move or cancel").first
    expect(card).to_contain_text("GPU Calendar")
    panel.both_looks("panel-launcher")
    card.click()
    expect(panel.calendar.get_by_role("button", name="New booking")).to_be_visible(timeout=30_000)

    tab.menu("Settings", "Settings Editor")
    editor = page.locator(".jp-SettingsPanel:visible")
    page.locator(".jp-PluginList-entry", has_text="GPUs and credits").click()
    expect(editor.get_by_text("First day of the week")).to_be_visible()
    # JupyterLab's editor ties no label to its inputs.
    usual = editor.locator('input[id$="_model"]')
    usual.fill("V100")
    usual.press("Tab")
    panel.both_looks("panel-settings")
    eventually(
        "the server keeps the setting",
        lambda: "V100" in lab.request(SETTINGS, user="alice")["raw"],
    )
    page.get_by_role("tab", name="GPU Calendar").click()
    panel.calendar.get_by_role("button", name="New booking").click()
    expect(panel.dialog).to_be_visible()
    panel.answer("Close")
    panel.execute("computehub:book")
    expect(panel.dialog.get_by_label("GPU", exact=True)).to_have_value("V100")
    panel.answer("Close")
