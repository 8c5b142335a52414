"""Other minor versions of Python on this machine, for what must cross from one to another; and one for everybody."""

from __future__ import annotations

import os
import shutil
import stat
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


@cache
def readable_python() -> str | None:
    """Return a Python of our own version that every account may run: ours may lie where only its owner looks."""
    own = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    ask = "import os, sys; print('%d.%d' % sys.version_info[:2], os.__file__)"
    for candidate in (getattr(sys, "_base_executable", sys.executable), "/usr/bin/python3", f"/usr/bin/python{own}"):
        if not _others_may(candidate, stat.S_IROTH | stat.S_IXOTH):
            continue
        done = subprocess.run([candidate, "-I", "-c", ask], capture_output=True, text=True, timeout=20, check=False)
        version, _, library = done.stdout.strip().partition(" ")
        if version == own and _others_may(library, stat.S_IROTH):
            return str(candidate)
    return None


def _others_may(path: str, bits: int) -> bool:
    real = Path(path).resolve()
    try:
        is_reached = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
        return is_reached and real.stat().st_mode & bits == bits
    except OSError:
        return False


def _is(interpreter: str, minor: str) -> bool:
    try:
        done = subprocess.run([interpreter, "-c", _ASK], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == minor
