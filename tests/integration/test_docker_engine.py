"""The engine of the Docker tests itself: shared by processes, and cleared up however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from computehub_ext.testing import docker_base
from computehub_ext.testing.docker_engine import Engine, shared_engine
from computehub_ext.testing.kernels import wait_for

pytestmark = [pytest.mark.needs("docker"), pytest.mark.slow]
# Of its own, since what is done to it here would be done to the engine of all other tests.
KIND = "apart"
USER = f"""
import sys
from computehub_ext.testing.docker_engine import shared_engine
with shared_engine({KIND!r}) as engine:
    client = engine.client()
    client.containers.run(engine.image, ["sleep", "600"], detach=True, network_mode="none")
    print("up", flush=True)
    sys.stdin.read()
    client.close()
"""


@pytest.fixture
def user() -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the engine, with a container running."""
    command = [sys.executable, "-c", USER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def processes_of(folder: Path) -> list[str]:
    """Every process of the engine and of its containers, by its command line."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if f"{folder}/" in line or f"docker_keeper {KIND}" in line or line == "sleep 600"]


def nothing_left(engine: Engine) -> bool:
    interfaces = {path.name for path in Path("/sys/class/net").iterdir()}
    data = docker_base.cache_folder() / f"docker-data-{KIND}"
    mounts = docker_base.mounts_below(engine.folder) + docker_base.mounts_below(data)
    return not (
        processes_of(engine.folder)
        or mounts
        or engine.folder.exists()
        or [name for name in interfaces if name.startswith(f"chd-{KIND}")]
    )


def test_processes_share_one_and_the_last_one_leaves_nothing(user: subprocess.Popen[str]) -> None:
    with shared_engine(KIND) as engine:
        client = engine.client()
        assert len(client.containers.list()) == 1, "the other process's"
        assert client.info()["Driver"] == "overlay2"
        user.kill()  # it can't say goodbye
        user.wait()
        assert client.ping()
        client.close()
    assert nothing_left(engine)


def test_a_user_that_is_killed_leaves_nothing(user: subprocess.Popen[str]) -> None:
    with shared_engine(KIND) as engine:
        pass
    assert processes_of(engine.folder)
    user.kill()
    user.wait()
    wait_for(lambda: nothing_left(engine), message="something of the engine was left")


def test_after_a_killed_keeper_the_next_engine_starts_as_if_nothing_had_been(user: subprocess.Popen[str]) -> None:
    keepers = [process for process in psutil.process_iter(["cmdline"]) if is_keeper(process)]
    assert len(keepers) == 1
    os.kill(keepers[0].pid, signal.SIGKILL)
    with shared_engine(KIND) as engine:
        client = engine.client()
        assert client.containers.list(all=True) == []
        assert client.containers.run(engine.image, ["id", "-u"], remove=True) == b"1000\n"
        client.close()
    assert nothing_left(engine)


def is_keeper(process: psutil.Process) -> bool:
    return (process.info["cmdline"] or [])[-2:] == ["computehub_ext.testing.docker_keeper", KIND]
