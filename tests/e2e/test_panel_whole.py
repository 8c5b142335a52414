"""The panel as a whole: where its server is missing or gone, the tour, the menus, and another language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Person
from tests.e2e.lab import OVERRIDES, Lab, running_lab

PANEL = "GPUs and credits"


def test_without_the_server_part_one_message_and_a_working_notebook(
    tmp_path: Path, person: Callable[..., Person]
) -> None:
    with running_lab(tmp_path, installed=False) as lab:
        # The panel is there, as after an upgrade of one half.
        (tmp_path / "settings" / "page_config.json").write_text(json.dumps({"disabledExtensions": {}}))
        lab.write_notebook("plain.ipynb", ["print('plain', 6 * 7)"])
        alice = person(lab, "alice")
        tab = alice.open("plain.ipynb")
        tab.page.get_by_role("tab", name=PANEL).click()
        panel = tab.page.get_by_role("region", name=PANEL)
        expect(panel.get_by_role("alert")).to_have_count(1)
        expect(panel).to_contain_text("ComputeHub is not installed on this Jupyter server")
        tab.run_cell(1)
        tab.wait_for_output(1, "plain 42")
        tab.screenshot("panel-missing")
        tab.assert_clean_console()
        alice.leave()


def test_the_tour_is_offered_once_and_goes_by_keyboard(alice: Person, notebook: Callable[..., str]) -> None:
    page = alice.open(notebook("x = 1")).page
    page.get_by_role("tab", name=PANEL).click()
    page.get_by_role("button", name="Take the tour").click()
    for title in (PANEL, "Move this notebook", "Keep an eye on it", "Book for later"):
        expect(page.get_by_role("dialog", name=title)).to_be_visible()
        page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Take the tour")).to_have_count(0)


def test_every_command_is_in_the_gpu_menu_and_the_palette(
    lab: Lab, alice: Person, notebook: Callable[..., str]
) -> None:
    tab = alice.open(notebook("x = 1"))
    page = tab.page
    known = page.evaluate("window.jupyterapp.commands.listCommands().filter(id => id.startsWith('computehub:'))")
    page.get_by_role("menubar").get_by_role("menuitem", name="GPU", exact=True).click()
    expect(page.locator('.lm-Menu-item[data-type="command"]')).to_have_count(len(known))
    tab.screenshot("gpu-menu")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill("GPU")
    labels = page.evaluate("ids => ids.map(id => window.jupyterapp.commands.label(id))", known)
    for label in labels:
        expect(
            page.locator(".lm-CommandPalette-itemLabel", has_text=re.compile(f"^{re.escape(label)}$"))
        ).to_be_visible()


def test_the_panel_speaks_german(
    tmp_path: Path, person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OVERRIDES, "@jupyterlab/translation-extension:plugin", {"locale": "de_DE"})
    with running_lab(tmp_path) as lab:
        lab.write_notebook("deutsch.ipynb", ["x = 1"])
        alice = person(lab, "alice")
        tab = alice.open("deutsch.ipynb")
        page = tab.page
        page.get_by_role("tab", name="GPUs und Credits").click()
        panel = page.get_by_role("region", name="GPUs und Credits")
        expect(panel).to_contain_text("10,00 Credits")
        expect(panel.get_by_role("button", name="Rundgang beginnen")).to_be_visible()
        expect(panel).to_contain_text("Für Sie läuft keine GPU.")
        expect(page.get_by_role("button", name=re.compile("Auf eine GPU umziehen"))).to_be_visible()
        tab.screenshot("panel-german")
        # Jupyter's server translates settings by language packs alone; ours are translated in the page.
        page.evaluate("() => window.jupyterapp.commands.execute('settingeditor:open')")
        page.locator(".jp-PluginList-entry", has_text="GPUs und Credits").click()
        expect(page.locator(".jp-SettingsPanel:visible").get_by_text("Übliche GPU")).to_be_visible()
        tab.assert_clean_console()
        alice.leave()
