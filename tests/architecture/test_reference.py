"""docs/reference/ says what the code says."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from computehub_ext.core.ratelimit import DEFAULT_RATE_LIMITS
from tests.architecture.source import ROOT


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["magic", "cli", "settings", "api", "events", "errors"])
def test_the_reference_is_up_to_date(name: str) -> None:
    reference = _reference()
    assert set(reference.PAGES) == {"magic", "cli", "settings", "places", "api", "events", "errors"}
    committed = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    assert committed == reference.page(name), "run `make docs`"


def test_the_limits_in_force_are_told() -> None:
    assert f"default `{dict(DEFAULT_RATE_LIMITS)}`" in _reference().page("settings")
