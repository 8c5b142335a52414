"""The kernel side as one string: it installs itself, once, a newer one too, and leaves no name behind."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from computehub_ext.kernel import bundle


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "bundle.txt"
    path.write_text(bundle.source())
    return str(path)


def test_the_bundle_is_an_expression_that_defines_no_name(text: str) -> None:
    ast.parse(bundle.source().strip(), mode="eval")
    out = run(
        """
        import sys
        user = {}
        exec(open(sys.argv[1]).read(), user)
        exec(open(sys.argv[1]).read(), user)
        assert set(user) == {"__builtins__"}, user
        assert not any(name.startswith("_computehub") for name in sys.modules)
        assert sum(hasattr(finder, "computehub_finder") for finder in sys.meta_path) == 1
        from _computehub import preview, check, fetch, offer
        print(preview({"x": 1})["names"])
        """,
        text,
    )
    assert out == "['x']\n"


def test_it_needs_nothing_but_the_standard_library(text: str) -> None:
    out = run(
        """
        import sys
        sys.path = [path for path in sys.path if "site-packages" not in path]
        exec(open(sys.argv[1]).read(), {})
        import _computehub.transfer, _computehub.lacking, _computehub.careful
        print(sorted(name for name in sys.modules if name.partition(".")[0] in ("IPython", "numpy", "computehub_ext")))
        """,
        text,
    )
    assert out == "[]\n"


def test_a_newer_one_replaces_an_older_one(text: str) -> None:
    out = run(
        """
        import os, sys
        code = open(sys.argv[1]).read()
        exec(code, {})
        import _computehub.names
        old = sys.modules["_computehub.names"]
        os.environ["MADE"] = "by the user"
        finder = next(finder for finder in sys.meta_path if hasattr(finder, "computehub_finder"))
        exec(code.replace(finder.version, "another"), {})
        import _computehub.names, _computehub.session
        assert sys.modules["_computehub.names"] is not old
        print([finder.version for finder in sys.meta_path if hasattr(finder, "computehub_finder")])
        print(_computehub.session.surroundings()["environ"])  # still told from what was there at first
        """,
        text,
    )
    assert out == "['another']\n{'MADE': 'by the user'}\n"


def test_tracebacks_show_its_lines(text: str) -> None:
    out = run(
        """
        import sys, traceback
        exec(open(sys.argv[1]).read(), {})
        import _computehub
        try:
            _computehub.preview({}, ["missing"])
        except _computehub.StateError:
            print(traceback.format_exc())
        """,
        text,
    )
    assert "raise StateError(_unknown(unknown, names))" in out
    assert "There is no variable called 'missing' in this notebook." in out


def test_it_is_installed_in_a_few_milliseconds(text: str) -> None:
    out = run(
        """
        import sys, time
        code = open(sys.argv[1]).read()
        import base64, zlib, json, linecache, importlib.util, importlib.abc  # a kernel has these
        started = time.process_time()
        exec(code, {})
        print(time.process_time() - started)
        """,
        text,
    )
    assert float(out) < 0.05  # 3 ms where it was measured; a slow machine gets room


def test_its_syntax_is_that_of_the_oldest_python() -> None:
    for name, source in bundle.sources().items():
        ast.parse(source, filename=name, feature_version=(3, 9))


def test_what_runs_elsewhere_is_left_out() -> None:
    names = set(bundle.sources())
    assert {"_computehub", "_computehub.capture", "_computehub.transfer", "_computehub.restore"} <= names
    assert not names & {f"_computehub.{name}" for name in bundle.LEFT_OUT}
