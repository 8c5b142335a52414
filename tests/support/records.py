"""What a run left behind in .test/, for the checks that come after pytest."""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / ".test"
STAGED = "COMPUTEHUB_TEST_STAGED"
"""Set while `make test` collects the outcomes of several runs of pytest."""


def not_run(reasons: dict[str, str]) -> None:
    """Remember tests that this machine can't run. Each process of a parallel run writes a file of its own."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"not-run-{os.getpid()}.json").write_text(json.dumps(reasons))


def read_not_run() -> dict[str, str]:
    merged: dict[str, str] = {}
    for path in FOLDER.glob("not-run-*.json"):
        merged.update(json.loads(path.read_text()))
    return merged


def outcome(nodeid: str, word: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "outcomes.jsonl").open("a") as lines:
        lines.write(json.dumps([nodeid, word]) + "\n")


def read_outcomes() -> dict[str, str]:
    """Test id to ``passed`` or ``failed``; the last run of a test counts."""
    path = FOLDER / "outcomes.jsonl"
    if not path.is_file():
        return {}
    return dict(json.loads(line) for line in path.read_text().splitlines())


def clear() -> None:
    for path in [*FOLDER.glob("not-run-*.json"), FOLDER / "outcomes.jsonl"]:
        path.unlink(missing_ok=True)
