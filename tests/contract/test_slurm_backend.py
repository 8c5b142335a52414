"""The contract on a real Slurm: each kernel a job of its own, on one of several nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.model import Backend
from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.testing.backend_contract import BackendContract, KernelContract, MakeBackend
from computehub_ext.testing.berth_contract import BerthContract
from computehub_ext.testing.slurm_cluster import SlurmCluster
from computehub_ext.testing.terminal_contract import TerminalContract
from tests.support.processes import private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")


class TestSlurmBackend(BackendContract, BerthContract, KernelContract, TerminalContract):
    immediate = False

    @pytest.fixture
    def make_backend(self, tmp_path: Path, slurm: SlurmCluster) -> Iterator[MakeBackend]:  # noqa: F811
        made: list[SlurmBackend] = []

        def make() -> Backend:
            for earlier in made:
                earlier.close()  # its successor has its port
            environment = {"IPYTHONDIR": os.environ["IPYTHONDIR"]}
            settings = settings_for(slurm, environment=environment, immediate=self.immediate)
            made.append(SlurmBackend(tmp_path / "state", settings))
            return made[-1]

        yield make
        nothing_left_of(made, slurm)


class TestSlurmBackendImmediate(TestSlurmBackend):
    """The same promises, kept by jobs that are started by srun."""

    immediate = True
