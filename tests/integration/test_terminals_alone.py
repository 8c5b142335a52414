"""What becomes of a terminal when nobody is left to end it, and where it can't begin."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.pipes import PipeStream
from computehub_ext.backends.shells import ARGUMENTS, StreamTerminal
from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.testing.docker_engine import docker_engine
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.slurm_cluster import slurm_cluster
from computehub_ext.testing.terminal_contract import Screen, terminal_of
from tests.architecture.source import ROOT
from tests.support import slurm
from tests.support.containers import nothing_left_of, settings_for, state_folder
from tests.support.left_terminal import BEGUN
from tests.support.processes import ask


def open_here(environment: dict[str, str] | None, **config: Any) -> Screen:
    stream = PipeStream([sys.executable, *ARGUMENTS], {"PATH": os.environ["PATH"]})
    found = {"rows": 24, "columns": 80, "below": os.getpid(), "environment": environment, **config}
    return Screen(StreamTerminal(stream, found))


def test_a_place_without_a_shell_says_so(tmp_path: Path) -> None:
    screen = open_here({"PATH": str(tmp_path)})
    assert "has no shell" in screen.until_it_ends()
    screen.terminal.close()


def test_a_place_without_bash_has_sh(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    screen = open_here({"PATH": str(tmp_path)})
    screen.type("echo $((6*7)) $SHELL")
    screen.until(f"42 {tmp_path}/sh")
    screen.terminal.close()


def test_without_its_kernel_it_does_not_begin() -> None:
    screen = open_here(None, below=2**22)
    assert "not found here any more" in screen.until_it_ends()
    screen.terminal.close()


def test_what_nobody_reads_keeps_it_from_no_end() -> None:
    screen = open_here({"PATH": os.environ["PATH"]})
    screen.type("yes")
    screen.until("y\r\ny")
    screen.terminal.close()
    assert screen.terminal.read(0.1) is None


@pytest.mark.needs("docker")
def test_what_ran_in_a_container_ends_with_the_control_plane_that_is_killed(tmp_path: Path) -> None:
    with docker_engine() as engine, state_folder() as folder:
        settings = settings_for(engine, tmp_path)
        backend = DockerBackend(folder, settings)
        request = ask(tmp_path)
        backend.start(request)
        left("docker", tmp_path, folder, settings, terminal_of(request))
        nothing_left_of([backend])


@pytest.mark.needs("slurm")
def test_what_ran_in_a_job_ends_with_the_control_plane_that_is_killed(tmp_path: Path) -> None:
    with slurm_cluster() as cluster:
        settings = slurm.settings_for(cluster)
        backend = SlurmBackend(tmp_path / "state", settings)
        try:
            request = ask(tmp_path)
            job_id = backend.start(request).details["job_id"]
            place = (job_id, {"PATH": os.environ["PATH"], "SLURM_CONF": str(cluster.conf)})
            left("slurm", tmp_path, place, settings, terminal_of(request))
            backend.stop(request.placement_id, 0)
        finally:
            backend.close()


def left(kind: str, folder: Path, *what: Any) -> None:
    """Open a terminal in another process, kill that, and see that nothing of it goes on."""
    file = folder / "what"
    file.write_bytes(pickle.dumps(what))
    command = [sys.executable, "-m", "tests.support.left_terminal", kind, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None, "it is a pipe"
            assert holder.stdout.readline().strip() == BEGUN
            wait_for(lambda: len(list(running())) == 2, message="it did not begin")
        finally:
            holder.kill()
    wait_for(lambda: not list(running()), 15, "what ran in the terminal went on")


def running() -> Iterator[str]:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{name}/cmdline").read_bytes() == b"sleep\x0098771\x00":
                yield name
        except OSError:
            continue
