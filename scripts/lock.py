"""Resolve pyproject.toml's bounded dependencies to exact versions, for every Python and platform at once.

What is locked stays as it is where the bounds allow it: a new dependency moves no other one. ``--upgrade`` takes the
newest inside the bounds (``make lock ARGS=--upgrade``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setup import uv_settings

ROOT = Path(__file__).resolve().parent.parent
SETS = {"demo": ["demo"], "test": ["demo", "test", "dev", "bench"]}


def main() -> int:
    for name, extras in SETS.items():
        path = ROOT / "requirements" / f"{name}.txt"
        command = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "compile", "--quiet", "--universal", *sys.argv[1:]]
        command += ["--python-version", "3.11", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-annotate", "--no-emit-package", "computehub-ext", "pyproject.toml"]
        for extra in extras:
            command += ["--extra", extra]
        command += ["--output-file", str(path)]
        subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, **uv_settings()}, stdout=subprocess.DEVNULL)
        path.write_text(f"# Made by `make lock` from pyproject.toml ({', '.join(extras)}).\n" + path.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
