"""What a person does in JupyterLab, in words: open a notebook, run a cell, read what stands under it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.e2e.lab import ROOT, Lab, eventually

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
IMAGES = ROOT / "docs" / "images"
CELL_IN_SECONDS = 60.0

# What JupyterLab itself writes on the console as errors, each with its reason; nothing of ours may be added here.
KNOWN_CONSOLE_ERRORS: tuple[re.Pattern[str], ...] = (
    # The widget manager of one browser opens a comm, and the kernel's answer reaches the other browser as well.
    re.compile(r"^Comm not found for comm id [0-9a-f-]{36}$"),
)
# Notebook 7 has no status bar and no file browser of JupyterLab's, which jupyter-collaboration's plugins ask for.
NOTEBOOK_7_ERRORS: tuple[re.Pattern[str], ...] = (
    re.compile(r"docprovider-extension:statusBarTimeline' failed to activate"),
    re.compile(r"^uncaught: Cannot read properties of undefined \(reading 'schema'\)$"),
    re.compile(r"^uncaught: Command 'filebrowser:open-path' not registered\.$"),
)


@dataclass
class Tab:
    """One person's browser tab with one notebook."""

    lab: Lab
    user: str
    context: BrowserContext
    page: Page
    errors: list[str] = field(default_factory=list)
    app: str = "lab"
    """What the notebook is open in: JupyterLab (``lab``) or Notebook 7 (``notebooks``)."""

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._note(f"uncaught: {error}", error.stack or ""))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(message.text, (message.location or {}).get("url", ""))

    def _note(self, text: str, where: str = "") -> None:
        known = KNOWN_CONSOLE_ERRORS + (NOTEBOOK_7_ERRORS if self.app == "notebooks" else ())
        if not any(pattern.search(text) for pattern in known):
            self.errors.append(f"{text} ({where})" if where else text)

    # Going somewhere

    def open(self, notebook: str, *, app: str = "lab", wait: bool = True) -> Tab:
        """Open a notebook in JupyterLab (``lab``) or Notebook 7 (``notebooks``) and wait for its idle kernel."""
        self.app = app
        self.page.add_init_script(HIDEABLE)
        middle = "lab/tree" if app == "lab" else "notebooks"
        query = f"token={self.lab.users[self.user]}" + ("&reset" if app == "lab" else "")
        self.page.goto(f"{self.lab.url}{middle}/{notebook}?{query}")
        expect(self.notebook).to_be_visible(timeout=60_000)
        if wait:
            self.wait_for_kernel()
        return self

    def hide(self) -> None:
        """Make the page believe that it is in a background tab, where front ends stop polling."""
        self.page.evaluate("window.__hide(true)")

    def show(self) -> None:
        self.page.evaluate("window.__hide(false)")

    @property
    def notebook(self) -> Locator:
        return self.page.locator(".jp-Notebook:visible").first

    def wait_for_kernel(self, status: str = "idle") -> None:
        eventually(
            f"the kernel of {self.user}'s notebook is {status}",
            lambda: self.page.evaluate(KERNEL_STATUS) == status,
            within_seconds=60,
        )

    # Cells, counted from 1 as a person counts them

    def cell(self, number: int) -> Locator:
        return self.notebook.locator(".jp-Cell").nth(number - 1)

    def run_cell(self, number: int) -> Locator:
        """Click into a cell and press Ctrl+Enter; return the cell without waiting for it."""
        editor = self.cell(number).locator(".cm-content").first
        editor.click()
        self.page.keyboard.press("Control+Enter")
        return self.cell(number)

    def type_into(self, number: int, source: str) -> None:
        self.cell(number).locator(".cm-content").first.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)

    def run_all(self) -> None:
        self.menu("Run", "Run All Cells")

    def menu(self, *path: str) -> None:
        """Choose a menu item by the words that a person reads."""
        self.page.get_by_role("menubar").get_by_role("menuitem", name=path[0], exact=True).first.click()
        for label in path[1:]:
            # The item's own words, without the shortcut that its accessible name ends with.
            words = self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(rf"^{re.escape(label)}(…|\.\.\.)?$"))
            words.last.click()

    def prompt(self, number: int) -> str:
        """What stands before a cell: ``[3]:`` when it ran, ``[*]:`` while it runs or waits, ``[ ]:`` before."""
        return self.cell(number).locator(".jp-InputPrompt").first.inner_text()

    def wait_until_run(self, number: int, *, within_seconds: float = CELL_IN_SECONDS) -> None:
        eventually(
            f"cell {number} has run",
            lambda: re.fullmatch(r"\[\d+\]:", self.prompt(number).strip()),
            within_seconds=within_seconds,
        )

    def output(self, number: int) -> str:
        texts = self.cell(number).locator(".jp-OutputArea-output").all_inner_texts()
        return "\n".join(text.strip() for text in texts).strip()

    def outputs(self) -> list[str]:
        return [self.output(number) for number in range(1, self.notebook.locator(".jp-CodeCell").count() + 1)]

    def wait_for_output(self, number: int, text: str | re.Pattern[str], within_seconds: float = CELL_IN_SECONDS) -> str:
        pattern = text if isinstance(text, re.Pattern) else re.compile(re.escape(text))

        def shown() -> bool:
            return bool(pattern.search(self.output(number)))

        try:
            eventually(
                f"cell {number} shows {pattern.pattern!r}",
                lambda: shown() or self.traceback(),
                within_seconds=within_seconds,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self.output(number)!r}") from None
        if not shown():
            raise AssertionError(f"a cell failed before cell {number} showed {pattern.pattern!r}:\n{self.traceback()}")
        return self.output(number)

    def traceback(self) -> str:
        """The traceback of a cell that failed by an error which nobody explained to a person."""
        errors = self.notebook.locator('[data-mime-type="application/vnd.jupyter.error"]').all_inner_texts()
        return next((text for text in errors if "Traceback" in text and "KeyboardInterrupt" not in text), "")

    # Looking

    def screenshot(self, name: str, *, dark: bool = False) -> None:
        """Keep a picture in .test/images, and with SCREENSHOTS=1 in docs/images too where a document shows it."""
        if dark:
            self.theme("JupyterLab Dark")
        try:
            kept = ROOT / ".test" / "images" / f"{name}.png"
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=kept, animations="disabled", caret="hide")
            if os.environ.get("SCREENSHOTS") and is_shown(name):
                (IMAGES / kept.name).write_bytes(kept.read_bytes())
        finally:
            if dark:
                self.theme("JupyterLab Light")

    def theme(self, name: str) -> None:
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            name,
        )
        light = "false" if "Dark" in name else "true"
        expect(self.page.locator(f'body[data-jp-theme-light="{light}"]')).to_be_attached()
        # JupyterLab covers the page meanwhile, and trips over itself when the next change comes before that is over.
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)

    def assert_clean_console(self) -> None:
        assert not self.errors, "the browser's console shows errors:\n" + "\n".join(self.errors)


HIDEABLE = """
(() => {
  let hidden = false;
  Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
  Object.defineProperty(document, 'visibilityState', {
    get: () => (hidden ? 'hidden' : 'visible'), configurable: true
  });
  window.__hide = value => { hidden = value; document.dispatchEvent(new Event('visibilitychange')); };
})();
"""

KERNEL_STATUS = """
() => {
  const widget = window.jupyterapp?.shell.currentWidget;
  const session = widget?.context?.sessionContext ?? widget?.sessionContext;
  return session?.session?.kernel?.status ?? session?.kernelDisplayStatus ?? 'none';
}
"""


@dataclass
class Person:
    """Opens tabs for one user, all in one browser context: one login, as in one browser."""

    lab: Lab
    user: str
    context: BrowserContext
    tabs: list[Tab] = field(default_factory=list)

    def blank(self) -> Tab:
        """An empty tab, for a page that is no notebook."""
        tab = Tab(self.lab, self.user, self.context, self.context.new_page())
        self.tabs.append(tab)
        return tab

    def open(self, notebook: str, **options: Any) -> Tab:
        return self.blank().open(notebook, **options)

    def leave(self) -> None:
        """Close the browser, with a clean console; before its server is stopped."""
        for tab in self.tabs:
            tab.assert_clean_console()
        self.close()

    def close(self) -> None:
        self.context.close()
        self.tabs.clear()


def new_person(browser: Browser, lab: Lab, user: str, *, width: int = 1280, height: int = 1000) -> Person:
    context = browser.new_context(viewport={"width": width, "height": height}, timezone_id="Europe/Berlin")
    return Person(lab, user, context)


def is_shown(name: str) -> bool:
    """Whether a document has this picture, or its light twin: one that nobody sees is not kept."""
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return any(f"images/{name.removesuffix('-dark')}.png" in document.read_text() for document in documents)


def keep_for_later(tab: Tab, name: str) -> Path:
    """What a failed test leaves behind: the page as it was."""
    path = ROOT / ".test" / "failed" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=path)
    return path
