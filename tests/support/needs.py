"""``@pytest.mark.needs("gpu")``: what a machine lacks is deselected by name and printed as not run here, never skipped.

A test that needs something is written as if it were there. Whether it is, is decided here and nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from computehub_ext.testing import docker_base, docker_engine, registry, ssh_server
from computehub_ext.testing import slurm_cluster_accounting as books
from tests.support import records
from tests.support.pythons import others, readable_python, with_kernel

MAKING_AN_IMAGE_SECONDS_MAX = 900
"""The first test that needs the Docker engine makes its image, where `make test` hasn't."""


def _has_gpu() -> bool:
    try:
        import pynvml

        pynvml.nvmlInit()
        count: int = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except Exception:
        # NVML raises its own errors for "no driver"; whatever it says, there is no GPU to run on.
        return False
    return count > 0


def _has_postgresql() -> bool:
    return bool(shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


def chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    return None


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _has_cuda_torch() -> bool:
    if not (_has_gpu() and _has_torch()):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _has_slurm() -> bool:
    programs = ("slurmctld", "slurmd", "munged", "sbatch")
    return os.geteuid() == 0 and all(shutil.which(name) for name in programs)


def _has_modules() -> bool:
    """Whether a login shell knows the command ``module``, as one of a cluster does."""
    done = subprocess.run(["/bin/bash", "-lc", "type -t module"], capture_output=True, text=True, check=False)
    return done.stdout.strip() == "function"


NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "gpu": (_has_gpu, "an NVIDIA GPU and its driver"),
    "cuda": (_has_cuda_torch, "an NVIDIA GPU and a torch built for CUDA"),
    "torch": (_has_torch, "torch==2.13.0 as a CPU build"),
    "postgresql": (_has_postgresql, "PostgreSQL's programs"),
    "chromium": (lambda: chromium() is not None, "Chromium"),
    "root": (lambda: hasattr(os, "geteuid") and os.geteuid() == 0, "root, to become another user"),
    "other_python": (lambda: bool(others()), "another minor version of Python"),
    "docker": (lambda: not docker_engine.lacking(), "root, Docker (docker.io), debootstrap and iproute2"),
    "sshd": (lambda: not ssh_server.lacking(), "OpenSSH's server (openssh-server)"),
    "registry": (lambda: not registry.lacking(), "Debian's docker-registry"),
    "slurm": (_has_slurm, "root and Slurm's programs (slurmctld, slurmd, slurm-client, munge)"),
    "modules": (_has_modules, "Environment Modules or Lmod (Debian's environment-modules, lmod)"),
    "slurmdbd": (
        lambda: all(map(shutil.which, books.PROGRAMS)),
        "slurmdbd and MariaDB's mariadbd (mariadb-server-core)",
    ),
    "sudo": (lambda: all(map(shutil.which, ("sudo", "visudo", "useradd", "setpriv"))), "sudo, useradd and setpriv"),
    "readable_python": (lambda: readable_python() is not None, "this version of Python where every account may run it"),
    "other_kernel": (
        lambda: bool(with_kernel()),
        "another Python from 3.11 on, or some with ipykernel in COMPUTEHUB_TEST_PYTHONS",
    ),
    "linux": (lambda: os.uname().sysname == "Linux", "Linux"),
}


@cache
def has(what: str) -> bool:
    return NEEDS[what][0]()


def pytest_configure(config: pytest.Config) -> None:
    # `make test` runs pytest in stages and reports what none of them ran; any other run tells of itself alone.
    if not hasattr(config, "workerinput") and records.STAGED not in os.environ:
        records.clear()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    reasons: dict[str, str] = {}
    for item in items:
        lacking = [what for mark in item.iter_markers("needs") for what in mark.args if not has(what)]
        if lacking:
            left.append(item)
            reasons[item.nodeid] = " and ".join(NEEDS[what][1] for what in lacking)
        else:
            kept.append(item)
            if any("docker" in mark.args for mark in item.iter_markers("needs")) and not docker_base.is_made():
                item.add_marker(pytest.mark.timeout(MAKING_AN_IMAGE_SECONDS_MAX))
    if left:
        items[:] = kept
        config.hook.pytest_deselected(items=left)
        records.not_run(reasons)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = records.read_not_run()
    if reasons:
        terminalreporter.section("not run here")
        for nodeid, reason in sorted(reasons.items()):
            terminalreporter.write_line(f"{nodeid}: needs {reason}")
