"""The locked versions are those that pyproject.toml allows, for every set that is installed, and name no registry."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

SETS = {"demo": ["demo"], "test": ["demo", "test", "dev", "bench"]}


@pytest.mark.parametrize("name", SETS)
def test_a_lock_has_every_declared_package_inside_its_bounds(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    declared = project["dependencies"] + [
        line for extra in SETS[name] for line in project["optional-dependencies"][extra]
    ]
    for wanted in map(Requirement, declared):
        if wanted.name == "computehub-ext":
            continue
        found = [each for each in locked if canonicalize_name(each.name) == canonicalize_name(wanted.name)]
        assert found, f"{wanted} is in no line of requirements/{name}.txt: run `make lock`"
        for each in found:
            (pin,) = each.specifier
            assert pin.operator == "==", f"{each} leaves the version open"
            assert wanted.specifier.contains(pin.version), f"{each} is outside {wanted}: run `make lock`"


@pytest.mark.parametrize("name", SETS)
def test_a_lock_names_no_registry(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert "--" not in text, "an option of the machine that made it"
