"""The contract on a real Docker engine: with containers started on demand, and with standbys taken over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend
from computehub_ext.backends.model import Backend
from computehub_ext.testing.backend_contract import BackendContract, KernelContract, MakeBackend
from computehub_ext.testing.docker_engine import THIRDS, Engine, docker_engine
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.terminal_contract import TerminalContract
from computehub_ext.testing.warm_contract import WarmPoolContract
from tests.support.containers import nothing_left_of, settings_for, state_folder
from tests.support.standing import pool

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


class TestDockerBackend(BackendContract, KernelContract, TerminalContract):
    @pytest.fixture
    def make_backend(self, engine: Engine, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[DockerBackend] = []
        settings = settings_for(engine, tmp_path)
        with state_folder() as folder:

            def make() -> Backend:
                made.append(DockerBackend(folder, settings))
                return made[-1]

            yield make
            nothing_left_of(made)


@pytest.mark.allow_hosts(["127.0.0.1", "::1", f"198.18.{THIRDS['plain']}.2"])
class TestDockerBackendOverPorts(KernelContract):
    """What a kernel promises, where it is reached over encrypted ports; how it is started and ended is the same."""

    @pytest.fixture
    def make_backend(self, engine: Engine, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[DockerBackend] = []
        settings = settings_for(engine, tmp_path, transport="curve", network="bridge", publish_host=engine.address)
        with state_folder() as folder:

            def make() -> Backend:
                made.append(DockerBackend(folder, settings))
                return made[-1]

            yield make
            nothing_left_of(made)


class TestDockerBackendWarm(BackendContract, KernelContract, TerminalContract, WarmPoolContract):
    """The same promises, kept by kernels that were started before anybody asked."""

    @pytest.fixture
    def make_backend(self, engine: Engine, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[DockerBackend] = []
        # One is enough, and a second one would only take this machine's time.
        settings = settings_for(engine, tmp_path, warm_count=1, warm_replace_delay_seconds=3600)
        with state_folder() as folder:

            def make() -> Backend:
                made.append(DockerBackend(folder, settings))
                made[-1].prepare([pool()])
                if len(made) == 1:
                    wait_for(lambda: made[-1].warm_count == 1, message="no standby kernel was ready")
                return made[-1]

            yield make
            nothing_left_of(made)
