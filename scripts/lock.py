"""Resolve pyproject.toml's bounded dependencies to exact versions, for every Python and platform at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETS = {"demo": ["demo"], "test": ["demo", "test", "dev", "bench"]}


def main() -> int:
    for name, extras in SETS.items():
        command = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "compile", "--quiet", "--universal", "--upgrade"]
        command += ["--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-annotate", "--no-emit-package", "computehub-ext", "pyproject.toml"]
        for extra in extras:
            command += ["--extra", extra]
        command += ["--output-file", f"requirements/{name}.txt"]
        subprocess.run(command, check=True, cwd=ROOT)
        path = ROOT / "requirements" / f"{name}.txt"
        path.write_text(f"# Made by `make lock` from pyproject.toml ({', '.join(extras)}).\n" + path.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
