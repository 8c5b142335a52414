"""The contract on a real Slurm: each kernel a job of its own, on one of several nodes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.model import Backend
from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.testing.backend_contract import Ask, AskedDevice, BackendContract, KernelContract, MakeBackend
from computehub_ext.testing.berth_contract import BerthContract
from computehub_ext.testing.kernels import KernelTalk
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
            gres = {"A100": "gpu:a100:{count}"}
            settings = settings_for(slurm, environment=environment, immediate=self.immediate, gres=gres)
            made.append(SlurmBackend(tmp_path / "state", settings))
            return made[-1]

        yield make
        nothing_left_of(made, slurm)

    def test_real_devices_are_named_by_uuid(self, backend: Backend, ask: Ask) -> None:
        """Slurm chooses them: a kernel sees its own job's, by Slurm's name, and none where its job has none."""
        devices = (AskedDevice(0, "GPU-a"), AskedDevice(1, "GPU-b"))
        seen = "[os.environ.get('COMPUTEHUB_SIMULATED_DEVICES'), os.environ.get('CUDA_VISIBLE_DEVICES')]"
        given = []
        for _ in range(2):
            placed = backend.start(ask(devices=devices, model="A100", simulated=False))
            gpus = placed.details["gpus"]
            with KernelTalk(placed.connection_info) as kernel:
                assert kernel.run(f"import os; print({seen})").strip() == str([None, gpus])
            given += [(placed.details["node"], gpu) for gpu in gpus.split(",")]
        assert len(set(given)) == 4, "two kernels share a GPU"
        placed = backend.start(ask(devices=devices, model="no gres names it", simulated=False))
        with KernelTalk(placed.connection_info) as kernel:
            assert kernel.run(f"import os; print({seen})").strip() == "[None, '']"
            assert kernel.run("print(repr(os.environ['NVIDIA_VISIBLE_DEVICES']))").strip() == "''"


class TestSlurmBackendImmediate(TestSlurmBackend):
    """The same promises, kept by jobs that are started by srun."""

    immediate = True
