"""docs/proof.md names tests and pictures that exist; tests.support.proof checks after the run that they passed."""

from __future__ import annotations

from tests.architecture.source import ROOT
from tests.support import proof


def test_every_row_has_a_known_state_and_something_to_show() -> None:
    rows = proof.rows()
    assert len(rows) > 30, "the table could not be read"
    for row in rows:
        word, _, reason = row.state.partition(":")
        assert word in proof.STATES, f"docs/proof.md:{row.number}: {row.state!r} is none of {proof.STATES}"
        assert row.component, f"docs/proof.md:{row.number}: on which component was it shown?"
        if word == "proven":
            assert row.shown_by, f"docs/proof.md:{row.number}: proven by nothing"
        else:
            assert reason.strip(), f"docs/proof.md:{row.number}: unproven, and does not say why"


def test_every_named_test_and_picture_exists() -> None:
    missing = [
        f"docs/proof.md:{row.number}: {name}"
        for row in proof.rows()
        for name in row.shown_by
        if not (proof.exists(name) if "::" in name else (ROOT / "docs" / name).is_file())
    ]
    assert not missing, "\n".join(missing)
