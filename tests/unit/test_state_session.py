"""What belongs to a session beside its variables; and what the target is asked before anything moves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from computehub_ext.kernel import lacking, session
from computehub_ext.kernel.lacking import check
from computehub_ext.kernel.restore import commit, load
from tests.support.state import Notebook, carry, packed, received


class Baseline:
    """Stands for the bundle's finder: what the process was like at its start."""

    computehub_finder = True
    version = "test"

    def __init__(self) -> None:
        self.baseline = {"environ": dict(os.environ), "path": list(sys.path)}

    def find_spec(self, *_: Any) -> None:
        return None


@pytest.fixture(autouse=True)
def as_before(tmp_path: Path) -> Iterator[None]:
    environ, path, folder = dict(os.environ), list(sys.path), os.getcwd()
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    os.chdir(folder)


@pytest.fixture
def baseline() -> Iterator[None]:
    finder = Baseline()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    yield
    sys.meta_path.remove(finder)  # type: ignore[arg-type]


@pytest.mark.usefixtures("baseline")
def test_only_what_the_user_changed_about_the_process_is_carried(tmp_path: Path) -> None:
    os.environ.update(MINE="1", CUDA_VISIBLE_DEVICES="0", COMPUTEHUB_KERNEL_TOKEN="secret", JPY_API_TOKEN="secret")
    gone = next(name for name in os.environ if not session._own(name) and name != "MINE")
    del os.environ[gone]
    sys.path.insert(0, str(tmp_path / "front"))
    sys.path.append(str(tmp_path / "back"))
    wanted = session.surroundings()
    assert wanted["environ"] == {"MINE": "1", gone: None}
    assert wanted["sys_path"] == [(str(tmp_path / "front"), True), (str(tmp_path / "back"), False)]


def test_the_surroundings_are_applied_and_can_be_taken_back(tmp_path: Path) -> None:
    from computehub_ext.kernel.place import Place

    os.environ["CHANGED"], os.environ["DROPPED"] = "before", "x"
    place, before = Place({}, {}), (os.getcwd(), list(sys.path), dict(os.environ))
    wanted = {
        "cwd": str(tmp_path),
        "sys_path": [("/front", True), ("/second", True), ("/back", False), (sys.path[-1], True)],
        "environ": {"CHANGED": "after", "DROPPED": None, "NEW": "1"},
    }
    session.surround(place, wanted)
    assert os.getcwd() == str(tmp_path)
    assert (sys.path[:2], sys.path[-1]) == (["/front", "/second"], "/back")
    assert (os.environ["CHANGED"], os.environ.get("DROPPED"), os.environ["NEW"]) == ("after", None, "1")
    place.roll_back()
    assert (os.getcwd(), list(sys.path), dict(os.environ)) == before


def test_a_folder_that_is_missing_is_noted() -> None:
    from computehub_ext.kernel.place import Place

    place, here = Place({}, {}), os.getcwd()
    session.surround(place, {"cwd": "/no/such/folder"})
    assert place.notes == [f"The notebook's folder /no/such/folder does not exist here; it works in {here}."]
    assert os.getcwd() == here


def test_settings_of_libraries_are_carried_as_what_differs() -> None:
    import matplotlib
    import pandas as pd

    from computehub_ext.kernel import settings

    matplotlib.use("agg")
    try:
        np.set_printoptions(precision=2)
        np.seterr(divide="ignore")
        pd.set_option("display.max_rows", 7)
        matplotlib.rcParams["figure.figsize"] = [3, 3]
        found = settings.collect()
        assert (found["numpy"]["print"]["precision"], found["numpy"]["errors"]["divide"]) == (2, "ignore")
        assert found["pandas"] == {"display.max_rows": 7}
        assert found["matplotlib"]["rc"]["figure.figsize"] == [3, 3]
        np.set_printoptions(precision=8)
        np.seterr(divide="warn")
        pd.reset_option("display.max_rows")
        matplotlib.rcdefaults()
        assert settings.restore(found) == []
        assert (np.get_printoptions()["precision"], pd.get_option("display.max_rows")) == (2, 7)
        assert matplotlib.rcParams["figure.figsize"] == [3, 3]
        assert settings.restore({"numpy": {"print": {"no_such": 1}, "errors": {}}}) == [
            "The settings of numpy could not be carried: TypeError."
        ]
    finally:
        np.set_printoptions(precision=8)
        np.seterr(divide="warn")
        pd.reset_option("display.max_rows")
        matplotlib.rcdefaults()


def test_warnings_decimals_and_recursion_are_set_alike() -> None:
    import decimal
    import warnings

    before, limit = decimal.getcontext().copy(), sys.getrecursionlimit()
    with warnings.catch_warnings():
        try:
            warnings.filterwarnings("ignore", "an old", DeprecationWarning, "mine")
            warnings.simplefilter("ignore", FutureWarning)
            wanted = list(warnings.filters)
            decimal.getcontext().prec = 7
            sys.setrecursionlimit(limit + 500)
            outgoing, _manifest = packed(Notebook().cell("import decimal\nx = 1"))
            incoming = received(outgoing.pieces, outgoing.size, outgoing.sha256)
            del warnings.filters[:2]  # type: ignore[attr-defined]
            decimal.setcontext(before)
            sys.setrecursionlimit(limit)
            target = Notebook()
            commit(target.namespace, load(target.namespace, incoming.header, incoming.pickles, incoming.blocks))
            assert list(warnings.filters)[:2] == wanted[:2]
            assert len(warnings.filters) == len(wanted)
            assert (decimal.getcontext().prec, sys.getrecursionlimit()) == (7, limit + 500)
        finally:
            decimal.setcontext(before)
            sys.setrecursionlimit(limit)


def test_standard_streams_and_the_environment_are_those_of_the_place() -> None:
    arrived = carry(Notebook().cell("import sys, os\nout, env = sys.stdout, os.environ\nprinter = [sys.stderr]"))
    assert not arrived.lost
    assert arrived["out"] is sys.stdout
    assert arrived["printer"][0] is sys.stderr
    assert arrived["env"] is os.environ


def test_a_place_that_has_everything() -> None:
    notebook = Notebook().cell("import json, numpy as np\nx = np.zeros(3)")
    assert check(carry(notebook).manifest) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"cwd": "/no/such"},
            {
                "kind": "folder",
                "message": "This notebook works in /no/such, which does not exist there. "
                "Ask the administrator to add it to the mounts of the pool.",
            },
        ),
        (
            {"modules": [{"name": "no_such_package", "version": "1.2"}, {"name": "json", "version": None}]},
            {"kind": "package", "message": "The package no_such_package 1.2 is not installed there."},
        ),
        (
            {"modules": [{"name": "numpy", "version": "0.3"}]},
            {"kind": "package", "message": f"numpy is 0.3 here and {np.__version__} there; its objects may not fit."},
        ),
        (
            {"cuda_used": True},
            {
                "kind": "cuda",
                "message": "The notebook holds data on a CUDA device and there is none there; it lands in main memory.",
            },
        ),
        (
            {"python": "3.5.1", "same_python": ["f", "g"]},
            {
                "kind": "python",
                "message": f"Python is 3.5.1 here and {'.'.join(map(str, sys.version_info[:3]))} there, and the source "
                "of f, g is not known, so that they can't be compiled again.",
            },
        ),
    ],
)
def test_what_a_place_lacks_is_said(
    changed: dict[str, Any], problem: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lacking, "cuda_available", lambda: False)
    manifest = carry(Notebook().cell("x = 1")).manifest
    assert check({**manifest, **changed}) == [problem]


def test_another_python_is_no_lack_where_everything_can_be_compiled_again() -> None:
    manifest = carry(Notebook().cell("x = 1")).manifest
    assert check({**manifest, "python": "3.5.1"}) == []


def test_looking_for_packages_imports_none(tmp_path: Path) -> None:
    (tmp_path / "explosive.py").write_text("raise SystemExit")
    (tmp_path / "explosives").mkdir()
    (tmp_path / "explosives" / "__init__.py").write_text("raise SystemExit")
    wants = {"modules": [{"name": "explosive"}, {"name": "explosives.sub"}], "sys_path": [str(tmp_path)]}
    assert check(wants) == []
    assert "explosive" not in sys.modules
