"""Make .venv and install one locked set of packages into it: ``python3 scripts/setup.py demo|test``.

Standard library only, since it runs before anything is installed. It does nothing when what it would install is
already there, so that every make target can call it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import labextension

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
UV = "uv==0.13.8"
TORCH = "torch==2.13.0+cpu"
"""The ``+cpu`` build, by its full name: where only the CUDA build is on offer (gigabytes), nothing is installed."""

# uv reads none of pip's settings; what a site has set for pip is handed on under uv's names.
PIP_TO_UV = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_CERT": "SSL_CERT_FILE",
}


def main() -> int:
    group = sys.argv[1] if len(sys.argv) == 2 else ""
    lock = ROOT / "requirements" / f"{group}.txt"
    if not lock.is_file():
        print("usage: setup.py demo|test", file=sys.stderr)
        return 2
    if sys.version_info < OLDEST:
        print(f"ComputeHub needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.", file=sys.stderr)
        print("Name another one: make PYTHON=/path/to/python3.11 ...", file=sys.stderr)
        return 1
    if not PYTHON.exists():
        make_venv()
    if is_installed(group):
        # The sources of the panel may have changed since.
        labextension.ensure(VENV)
        return 0
    print(f"Installing the {group} packages into .venv ...", flush=True)
    install(lock)
    labextension.ensure(VENV)
    if group == "test":
        install_torch()
    (VENV / f".computehub-{group}").write_text(fingerprint(lock))
    return 0


def is_installed(group: str) -> bool:
    """Whether .venv holds the locked set ``group``, or the test set, which has all of the demo's."""
    if not PYTHON.exists():
        return False
    for name in {group, "test"}:
        stamp = VENV / f".computehub-{name}"
        if stamp.is_file() and stamp.read_text() == fingerprint(ROOT / "requirements" / f"{name}.txt"):
            return True
    return False


def fingerprint(lock: Path) -> str:
    digest = hashlib.sha256()
    installed = [
        ROOT / "pyproject.toml",
        Path(__file__),
        ROOT / "scripts" / "nodejs.py",
        *sorted((ROOT / "etc").rglob("*.json")),
    ]
    for path in (lock, *installed):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def make_venv() -> None:
    command = [sys.executable, "-m", "venv", str(VENV)]
    if subprocess.run(command, check=False).returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], check=True)
        subprocess.run(command, check=True)
        return
    sys.exit(f"This Python can't make a virtual environment. On Debian or Ubuntu: sudo apt-get install {package}")


def install(lock: Path) -> None:
    """With uv, which takes seconds; with pip where uv can't be had or can't reach what pip can."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    project = ["--no-deps", "--editable", str(ROOT)]
    # The panel is built by labextension.py, once the packages that it takes are there.
    environment = {**os.environ, "SKIP_JUPYTER_BUILDER": "1"}
    uv = VENV / "bin" / "uv"
    if not uv.exists():
        subprocess.run([*pip, UV], check=False)
    if uv.exists():
        environment |= uv_settings()
        fast = [str(uv), "pip", "install", "--quiet", "--python", str(PYTHON)]
        done = subprocess.run([*fast, "-r", str(lock)], env=environment, check=False).returncode == 0
        if done and subprocess.run([*fast, *project], env=environment, check=False).returncode == 0:
            return
        print("uv could not install them; trying pip.", flush=True)
    subprocess.run([*pip, "-r", str(lock)], check=True)
    subprocess.run([*pip, *project], env=environment, check=True)


def uv_settings() -> dict[str, str]:
    """What is set for pip, under uv's names."""
    wanted = [(ours, os.environ.get(theirs)) for theirs, ours in PIP_TO_UV.items() if ours not in os.environ]
    return {ours: value for ours, value in wanted if value}


def install_torch() -> None:
    """For the tests that carry tensors; without it they are deselected by name and printed as not run here."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    found = subprocess.run([*pip, "--dry-run", "--no-deps", TORCH], check=False, capture_output=True)
    if found.returncode == 0:
        subprocess.run([*pip, TORCH], check=False)
    else:
        print("No CPU build of torch is on offer here; the tests that need it will be named as not run.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
