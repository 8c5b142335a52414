"""The contract on this machine: with kernels started on demand, and with standby kernels taken over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.local import LocalBackend, WarmSettings
from computehub_ext.backends.model import Backend
from computehub_ext.testing.backend_contract import BackendContract, KernelContract, MakeBackend
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.warm_contract import WarmPoolContract
from tests.support.processes import nothing_left_of, private_ipython  # noqa: F401 - used by its name
from tests.support.standing import pool


class TestLocalBackend(BackendContract, KernelContract):
    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[LocalBackend] = []

        def make() -> Backend:
            made.append(LocalBackend(tmp_path / "state"))
            return made[-1]

        yield make
        nothing_left_of(tmp_path / "state", made)


class TestLocalBackendWarm(BackendContract, KernelContract, WarmPoolContract):
    """The same promises, kept by kernels that were started before anybody asked."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> Iterator[MakeBackend]:
        made: list[LocalBackend] = []

        def make() -> Backend:
            # One is enough, and a second one would only take this machine's time.
            made.append(LocalBackend(tmp_path / "state", warm=WarmSettings(count=1, replace_delay_seconds=3600)))
            made[-1].prepare([pool()])
            if len(made) == 1:
                wait_for(lambda: made[-1].warm_count == 1, message="no standby kernel was ready")
            return made[-1]

        yield make
        nothing_left_of(tmp_path / "state", made)
