"""Build the JupyterLab panel and put it where the server in .venv looks: ``.venv/bin/python scripts/labextension.py``.

Standard library only, since setup.py uses it. It does nothing when the sources are those of the last build. The link
into ``share/jupyter`` makes a new build seen by the next page that is opened, as ``jupyter labextension develop`` does.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from nodejs import node_environment

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "labextension"
BUILT = ROOT / "computehub_ext" / "labextension"
NAME = "computehub"
LINES_SHOWN, WIDTH_SHOWN = 60, 300
"""Of what a tool said when it failed: yarn quotes whole minified lines of itself."""


def ensure(venv: Path = ROOT / ".venv") -> None:
    """Install the panel's packages, build it and link it, each only where something changed.

    Parameters
    ----------
    venv:
        The environment with JupyterLab, whose ``jlpm`` and ``jupyter-builder`` are used.

    Raises
    ------
    SystemExit
        The packages can't be had or the sources don't build; what the tools said stands above.
    """
    packages = _Stamp(SOURCES / "node_modules" / ".computehub", [SOURCES / "package.json", SOURCES / "yarn.lock"])
    if packages.is_old:
        print("Installing the panel's packages into labextension/node_modules ...", flush=True)
        _jlpm(venv, "install", "--immutable")
        packages.renew()
    if is_old():
        print("Building the panel for JupyterLab ...", flush=True)
        shutil.rmtree(BUILT, ignore_errors=True)
        _jlpm(venv, "build")
        _build_stamp().renew()
    link(venv)


def is_old() -> bool:
    """Whether what was built, if anything, is not of the sources as they are."""
    return _build_stamp().is_old


def link(venv: Path) -> None:
    """Let the JupyterLab in ``venv`` find the build."""
    place = venv / "share" / "jupyter" / "labextensions" / NAME
    if place.is_symlink() and place.resolve() == BUILT:
        return
    if place.is_symlink():
        place.unlink()
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(BUILT)


class _Stamp:
    """A file that remembers what it was made from."""

    def __init__(self, path: Path, sources: list[Path]) -> None:
        self.path = path
        digest = hashlib.sha256(str(ROOT).encode())
        for source in sources:
            digest.update(source.relative_to(ROOT).as_posix().encode() + b"\0" + source.read_bytes())
        self.wanted = digest.hexdigest()

    @property
    def is_old(self) -> bool:
        return not self.path.is_file() or self.path.read_text() != self.wanted

    def renew(self) -> None:
        self.path.write_text(self.wanted)


def _build_stamp() -> _Stamp:
    folders = [SOURCES / "src", SOURCES / "style", SOURCES / "schema"]
    sources = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    sources += [SOURCES / name for name in ("package.json", "yarn.lock", "tsconfig.json")]
    return _Stamp(BUILT / ".built", sorted(source for source in sources if "__tests__" not in source.parts))


def _jlpm(venv: Path, *arguments: str) -> None:
    command = [str(venv / "bin" / "jlpm"), *arguments]
    done = subprocess.run(
        command, cwd=SOURCES, env=node_environment(venv), check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        said = done.stdout.decode(errors="replace").splitlines()[-LINES_SHOWN:]
        print("\n".join(line[:WIDTH_SHOWN] for line in said), file=sys.stderr)
        sys.exit(f"`jlpm {' '.join(arguments)}` failed in labextension/.")


if __name__ == "__main__":
    ensure()
