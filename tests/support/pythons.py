"""Other minor versions of Python on this machine, for what must cross from one to another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

MINORS = tuple(f"3.{minor}" for minor in range(9, 16))
_ASK = "import sys; print('%d.%d' % sys.version_info[:2])"


@cache
def others() -> dict[str, str]:
    """Minor version -> interpreter, without our own."""
    own = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    found = {}
    for minor in MINORS:
        built = Path.home().glob(f".pyenv/versions/{minor}.*/bin/python3")
        candidates = [shutil.which(f"python{minor}"), *map(str, built)]
        for candidate in candidates:
            if minor != own and candidate and _is(candidate, minor):
                found[minor] = candidate
                break
    return found


@cache
def with_kernel() -> dict[str, str]:
    """Version -> interpreter of those that have ipykernel, named in COMPUTEHUB_TEST_PYTHONS as PATH is written."""
    ask = "import ipykernel, platform; print(platform.python_version())"
    found = {}
    for interpreter in filter(None, os.environ.get("COMPUTEHUB_TEST_PYTHONS", "").split(os.pathsep)):
        done = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, timeout=60, check=True)
        found[done.stdout.strip()] = interpreter
    return found


def _is(interpreter: str, minor: str) -> bool:
    try:
        done = subprocess.run([interpreter, "-c", _ASK], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == minor
