"""The contract on a Docker engine that is reached as one on another machine is: by TCP, with certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.model import Backend
from computehub_ext.testing.backend_contract import BackendContract, KernelContract, MakeBackend
from computehub_ext.testing.docker_engine import Engine, shared_engine
from computehub_ext.testing.terminal_contract import TerminalContract
from tests.support.containers import REMOTE_HOSTS, nothing_left_of, remote_settings_for, state_folder

pytestmark = [pytest.mark.needs("docker"), pytest.mark.allow_hosts(REMOTE_HOSTS)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with shared_engine("remote") as engine:
        yield engine


class TestDockerBackendElsewhere(BackendContract, KernelContract, TerminalContract):
    @pytest.fixture
    def make_backend(self, engine: Engine, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[DockerBackend] = []
        settings = remote_settings_for(engine, tmp_path)
        with state_folder() as folder:

            def make() -> Backend:
                made.append(DockerBackend(folder, settings))
                return made[-1]

            yield make
            nothing_left_of(made)
