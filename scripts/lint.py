"""Formatting, lint and types. Runs all of them and then fails, so that one run names everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nodejs import node_environment

ROOT = Path(__file__).resolve().parent.parent
PANEL = ROOT / "labextension"
PAGES = ["computehub_ext/api/static/*.js", "computehub_ext/api/static/*.css"]
TOOLS = PANEL / "node_modules"
ESLINT, PRETTIER = str(TOOLS / "eslint/bin/eslint.js"), str(TOOLS / "prettier/bin/prettier.cjs")
STYLELINT, TSC = str(TOOLS / "stylelint/bin/stylelint.mjs"), str(TOOLS / "typescript/bin/tsc")
ESLINT_CONFIG = str(PANEL / "eslint.config.mjs")


def checks() -> dict[str, list[str]]:
    """Each check's command, run in the repository's root."""
    return {
        "format": [sys.executable, "-m", "ruff", "format", "--check", "--quiet", "."],
        "lint": [sys.executable, "-m", "ruff", "check", "--quiet", "."],
        "types": [sys.executable, "-m", "mypy"],
        "scripts": ["node", ESLINT, "--config", ESLINT_CONFIG, "--max-warnings=0", "labextension/src", PAGES[0]],
        "script types": ["node", TSC, "--project", "labextension/tsconfig.test.json"],
        "styles": ["node", STYLELINT, "--config", "labextension/.stylelintrc.json", "labextension/style/*.css"],
        "script format": ["node", PRETTIER, "--log-level=warn", "--check", "labextension", *PAGES],
    }


def main() -> int:
    failed = []
    environment = node_environment()
    for name, command in checks().items():
        print(f"lint: {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"lint failed: {', '.join(failed)}. `make format` mends what can be mended by itself.", file=sys.stderr)
    return 1 if failed else 0


def mend() -> int:
    """`make format`."""
    environment = node_environment()
    for command in (
        [sys.executable, "-m", "ruff", "format", "--quiet", "."],
        [sys.executable, "-m", "ruff", "check", "--fix-only", "--quiet", "."],
        ["node", PRETTIER, "--log-level=warn", "--write", "labextension", *PAGES],
    ):
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(mend() if "--fix" in sys.argv else main())
