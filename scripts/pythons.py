"""Other minor versions of Python with ipykernel, for the test that moves a notebook to one: each that the machine has.

They are made once, in ``.test/pythons``; a machine with no other Python has none, and its test is named as not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from setup import uv_settings

from tests.support.pythons import others

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".test" / "pythons"
OLDEST = (3, 11)
"""ipykernel has no newer version for an older Python, and its older ones can't encrypt a kernel's connections."""


def made() -> list[str]:
    """Return the interpreters, each in an environment of its own with our version of ipykernel."""
    packages = [f"ipykernel=={version('ipykernel')}", "numpy>=2,<3"]
    found = []
    for minor, interpreter in others().items():
        if tuple(map(int, minor.split("."))) < OLDEST:
            continue
        python = FOLDER / minor / "bin" / "python"
        stamp = FOLDER / minor / ".packages"
        if not (stamp.is_file() and stamp.read_text() == f"{interpreter} {packages}"):
            print(f"Making an environment of Python {minor} for the tests, once ...", flush=True)
            shutil.rmtree(FOLDER / minor, ignore_errors=True)
            if not _make(interpreter, python, packages):
                print(f"Python {minor} could not be given ipykernel, and is left out.", flush=True)
                continue
            stamp.write_text(f"{interpreter} {packages}")
        found.append(str(python))
    return found


def _make(interpreter: str, python: Path, packages: list[str]) -> bool:
    uv = str(ROOT / ".venv" / "bin" / "uv")
    environment = {**os.environ, **uv_settings()}
    commands = (
        [uv, "venv", "--quiet", "--python", interpreter, str(python.parent.parent)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *packages],
    )
    try:
        return all(subprocess.run(command, env=environment, check=False).returncode == 0 for command in commands)
    except OSError:
        return False  # no uv on this machine
