"""Every sentence of the panel is in each catalogue: translated, with the same placeholders, and no other one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import translations


def test_the_catalogues_are_complete_and_written() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/translations.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `make translations` and fill in what is empty:\n{done.stdout}{done.stderr}"


def test_german_is_whole() -> None:
    assert "de_DE" in translations.locales()
    said = [message for message in translations.sentences() if message.id]
    assert len(said) > 400, "the panel says more than this: are they all found?"
    german = json.loads(translations.catalogue_of("de_DE").with_suffix(".json").read_text(encoding="utf-8"))
    assert len(german) - 1 == len(said)


@pytest.mark.parametrize(
    ("string", "complaint"),
    [
        ("", "not translated"),
        ("%1 Credits", "other placeholders"),
        ("%2 von %2", "other placeholders"),
    ],
)
def test_what_is_missing_is_told(string: str, complaint: str) -> None:
    said = translations.Catalog(locale="en")
    said.add("%1 of %2")
    catalog = translations.Catalog(locale="de_DE")
    catalog.add("%1 of %2", string)
    assert [complaint in problem for problem in translations.problems(catalog, said)] == [True]


def test_jupyterlab_finds_the_catalogue() -> None:
    from jupyterlab_server.translation_utils import get_language_pack

    catalogues, message = get_language_pack("de_DE")
    assert not message
    assert catalogues["computehub"]["Take the tour"] == ["Rundgang beginnen"]
