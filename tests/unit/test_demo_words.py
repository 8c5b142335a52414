"""What the demo tells people to paste into a shell works there."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from computehub_ext.demo import launch


@pytest.fixture
def hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The two commands, told in a folder that has a .venv as ``make demo`` makes it, on a PATH that hasn't it."""
    scripts = tmp_path / "a folder" / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "computehub").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (scripts / "computehub").chmod(0o755)
    monkeypatch.chdir(tmp_path / "a folder")
    monkeypatch.setattr(sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    launch._tell(tmp_path / "a folder" / ".demo", 8888, {"alice": "a1", "bob": "b2"})
    lines = capsys.readouterr().out.splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith(("More credits:", "From a shell:"))]


def test_its_commands_work_when_pasted(hints: list[str], tmp_path: Path) -> None:
    outputs = [subprocess.run(hint, shell=True, capture_output=True, text=True, check=True).stdout for hint in hints]
    database = f"sqlite:///{tmp_path}/a folder/.demo/"
    assert outputs[0].splitlines()[:4] == ["grant", "alice", "50", "--database"]
    assert outputs[0].splitlines()[4].startswith(database)
    assert outputs[1].splitlines() == ["gpu", "--url", "http://localhost:8888/"]
    assert hints[0].startswith(".venv/bin/computehub "), "short, from the folder where `make demo` runs"


def test_on_the_path_its_name_will_do(hints: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "a folder" / ".venv" / "bin"))
    assert launch.own_command() == "computehub"
    monkeypatch.chdir("/usr")
    monkeypatch.setenv("PATH", "/usr/bin")
    assert shlex.split(launch.own_command()) == [str(tmp_path / "a folder" / ".venv" / "bin" / "computehub")]


def test_without_a_script_it_is_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert launch.own_command() == f"{tmp_path / 'python'} -m computehub_ext.cli"
