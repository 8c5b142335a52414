"""Where a person finds the panel without knowing of it: the launcher, the menus and the settings."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import Lab, eventually
from tests.e2e.panel import Panel

SETTINGS = "lab/api/settings/computehub:preferences"


def test_the_launcher_opens_the_calendar_and_a_setting_proposes_the_usual_gpu(lab: Lab, alice: Person) -> None:
    lab.write_notebook("climate.ipynb", ["%gpu on T4 --for 30m --yes", "print('there')"])

    def defaults(user: str) -> Any:
        return lab.api("me/defaults", user=user)

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
    idle_minutes = editor.locator('input[id$="_idleMinutes"]')
    idle_minutes.fill("15")
    idle_minutes.press("Tab")
    eventually("the setting is a default", lambda: defaults("alice")["idle_timeout_seconds"] == 900)
    assert defaults("bob")["idle_timeout_seconds"] is None
    page.get_by_role("tab", name="GPU Calendar").click()
    panel.calendar.get_by_role("button", name="New booking").click()
    expect(panel.dialog).to_be_visible()
    panel.answer("Close")
    panel.execute("computehub:book")
    expect(panel.dialog.get_by_label("GPU", exact=True)).to_have_value("V100")
    panel.answer("Close")

    # The idle time of the settings holds in a cell too, and what a shell sets afterwards is shown in the settings.
    page.get_by_role("tab", name="climate.ipynb").click()
    tab.run_cell(1)
    tab.run_cell(2)
    tab.wait_for_output(1, "when no cell has run for 15 min, your default")
    tab.wait_for_output(2, "there")
    lease = lab.place("climate.ipynb")["lease"]
    assert lease["idle_timeout_seconds"] == 900
    assert lab.query("SELECT idle_timeout_seconds FROM leases WHERE id = ?", lease["id"]) == [(900,)]
    lab.api("me/defaults", user="alice", method="PUT", body={"idle_timeout_seconds": 1800})
    page.get_by_role("tab", name="Settings", exact=True).click()
    expect(idle_minutes).to_have_value("30", timeout=30_000)
    lab.api("me/defaults", user="alice", method="PUT", body={"idle_timeout_seconds": None})
    expect(idle_minutes).to_have_value("0", timeout=30_000)
    eventually(
        "what is shown is saved, as the page will be closed",
        lambda: '"idleMinutes": 0' in lab.request(SETTINGS, user="alice")["raw"],
    )
