"""Writes down how each test ended, so that docs/proof.md can be held to what really ran."""

from __future__ import annotations

import pytest

from tests.support import records

_words: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    # A worker of a parallel run reports to its controller, which writes for all.
    if hasattr(config, "workerinput"):
        config.stash[_is_worker] = True


_is_worker = pytest.StashKey[bool]()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        # A teardown that fails turns a passed test into a failed one; nothing turns it back.
        before = _words.get(report.nodeid)
        _words[report.nodeid] = "failed" if before == "failed" else report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash.get(_is_worker, False):
        return
    for nodeid, word in _words.items():
        records.outcome(nodeid, word)
