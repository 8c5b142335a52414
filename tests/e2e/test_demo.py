"""How ``make demo`` starts. Its tour, and its end by Ctrl-C, are in test_places.py, for each kind of place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.lab import ROOT, free_port


def test_a_taken_port_is_told_and_another_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    from computehub_ext.demo import launch

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = launch._port(port)
    assert other > port
    assert f"Port {port} is taken; using {other}." in capsys.readouterr().out


def test_tokens_and_notebooks_of_a_former_run_are_kept(tmp_path: Path) -> None:
    from computehub_ext.demo import launch

    first = launch.prepare(tmp_path)
    (tmp_path / "work" / launch.TOUR).write_text("changed by its owner")
    assert launch.prepare(tmp_path) == first
    assert (tmp_path / "work" / launch.TOUR).read_text() == "changed by its owner"
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "tokens.json").write_text("damaged")
    assert set(launch.prepare(tmp_path)) == {"alice", "bob"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (None, "No such file or directory"),
        ("c.ComputeHub.places = nowhere\n", "NameError: name 'nowhere' is not defined"),
        (
            "c.ComputeHub.places = {'a': {'kind': 'dockr'}}\n",
            "place a: kind must be one of docker, slurm, and is 'dockr'.",
        ),
    ],
)
def test_settings_that_do_not_hold_are_told_and_no_demo_starts_without_them(
    settings: str | None, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "places.py"
    if settings is not None:
        file.write_text(settings)
    command = [sys.executable, "-m", "computehub_ext.cli", "demo", "--no-browser", "--config", "places.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PORT": str(free_port())}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert ended.stdout == ""
