"""``make demo``: the tour from top to bottom in a browser, and Ctrl-C that leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Person
from tests.e2e.lab import MARK, OVERRIDES, ROOT, Lab, eventually, free_port

ENDED_IN_SECONDS = 60.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[Lab, subprocess.Popen[str]]]:
    """The demo as the shell starts it, in a folder of its own."""
    folder, port = tmp_path / "demo", free_port()
    lab = Lab(folder, {}, port=port)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
    environment |= {
        MARK: lab.mark,
        "HOME": str(tmp_path / "home"),
        "JUPYTER_DATA_DIR": str(tmp_path / "home" / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "home" / "runtime"),
        "IPYTHONDIR": str(tmp_path / "home" / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": str(ROOT),
        "NO_BROWSER": "1",
        "PORT": str(port),
    }
    (tmp_path / "home").mkdir()
    # What the tests' words for a tab need of JupyterLab; a person's own settings would stand in the same places.
    settings = folder / "user" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(OVERRIDES["@jupyterlab/notebook-extension:tracker"]))
    (folder / "config").mkdir()
    (folder / "config" / "jupyter_lab_config.py").write_text("c.LabApp.expose_app_in_browser = True\n")
    command = [sys.executable, "-m", "computehub_ext.cli", "demo", "--folder", str(folder)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = []
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, f"the demo ended with {process.wait(5)}:\n{''.join(said)}\n{lab.tail()}"
            said.append(line)
        lab.users = json.loads((folder / "tokens.json").read_text())
        for name, token in lab.users.items():
            assert f"http://localhost:{port}/lab/tree/tour.ipynb?token={token}" in "".join(said), name
        yield lab, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(ENDED_IN_SECONDS)
        process.stdout.close()
        left = lab.end_what_is_left()
        assert not left, f"the demo left processes behind: {left}"


def test_the_tour_runs_and_ctrl_c_ends_all_of_it(
    demo: tuple[Lab, subprocess.Popen[str]], person: Callable[..., Person]
) -> None:
    lab, process = demo
    tab = person(lab, "alice", width=1100, height=1800).open("tour.ipynb")
    cells = tab.notebook.locator(".jp-Cell").count()
    tab.run_all()
    tab.wait_for_output(cells, "charged")
    tab.screenshot("tour")
    outputs = [tab.output(number) for number in range(1, cells + 1)]
    cards = [output for output in outputs if "This notebook is on" in output]
    assert len(cards) == 2, "one card for %gpu on and one for %gpu off, each drawn to its end"
    assert "came along" in cards[0]
    assert "(simulated)" in cards[0]
    assert "This notebook is on the CPU now" in cards[1]
    pids = re.findall(r"kernel process (\d+)", "\n".join(outputs))
    assert len(set(pids)) == 2, "the cells behind %gpu on and %gpu off ran in one and the same kernel"
    assert lab.place("tour.ipynb")["place"] == "cpu"

    # Ctrl-C while a GPU is held: it is given back and paid to the second.
    switched = subprocess.run(
        [sys.executable, "-m", "computehub_ext.cli", "gpu", "on", "--for", "30m", "--url", lab.url, "--yes"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COMPUTEHUB_TOKEN": lab.users["alice"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert switched.returncode == 0, switched.stdout + switched.stderr
    assert "This notebook is on" in switched.stdout
    tab.page.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(ENDED_IN_SECONDS) == 0
    eventually("every process of the demo has ended", lambda: not lab.processes(), within_seconds=15)
    states = {state for (state,) in lab.query("SELECT state FROM leases")}
    assert states == {"closed"}
    assert lab.query("SELECT count(*) FROM holds WHERE state = 'open'") == [(0,)]
    lab.assert_books_agree()


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
