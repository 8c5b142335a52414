"""Fixtures of the browser tests.

    lab         a real JupyterLab with alice and bob, one for each file of tests
    browser     a real Chromium, one for the run
    alice, bob  a person with a browser of their own; `alice.open("x.ipynb")` opens a tab
    notebook    writes a notebook of the given cells under a fresh name and returns the name

Every tab's console is checked after each test; a failed test leaves pictures and the server's log in .test/failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.browser import FLAGS, Person, keep_for_later, new_person
from tests.e2e.lab import Lab, running_lab
from tests.support.needs import chromium

_failed = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in item.nodeid:
            item.add_marker(pytest.mark.needs("chromium"))
            item.add_marker(pytest.mark.timeout(240))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def person(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Callable[..., Person]]:
    """Make a person on any server: ``person(lab, "alice")``."""
    people: list[Person] = []

    def make(lab: Lab, user: str, **options: int) -> Person:
        people.append(new_person(browser, lab, user, **options))
        return people[-1]

    yield make
    name = re.sub(r"\W+", "-", request.node.name)
    tabs = [tab for person in people for tab in person.tabs]
    if request.node.stash.get(_failed, False):
        for number, tab in enumerate(tabs):
            if not tab.page.is_closed():
                path = keep_for_later(tab, f"{name}-{tab.user}-{number}")
                path.with_suffix(".log").write_text(tab.lab.tail(400) + "\n\n" + "\n".join(tab.errors))
    for made in people:
        made.close()
    for lab in {id(made.lab): made.lab for made in people}.values():
        if lab.running:
            lab.end_everything()
    if not request.node.stash.get(_failed, False):
        for tab in tabs:
            tab.assert_clean_console()


@pytest.fixture
def alice(lab: Lab, person: Callable[..., Person]) -> Person:
    return person(lab, "alice")


@pytest.fixture
def bob(lab: Lab, person: Callable[..., Person]) -> Person:
    return person(lab, "bob")


@pytest.fixture
def notebook(lab: Lab, request: pytest.FixtureRequest) -> Callable[..., str]:
    made = 0

    def write(*cells: str, **metadata: object) -> str:
        nonlocal made
        made += 1
        name = f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower()).strip('-')}-{made}.ipynb"
        lab.write_notebook(name, list(cells), **metadata)
        return name

    return write
