"""Look for what a test of kernels left running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.local import LocalBackend
from computehub_ext.backends.local.processes import labelled
from computehub_ext.backends.model import StartRequest
from computehub_ext.core.ids import new_id
from computehub_ext.testing.kernels import wait_for


@pytest.fixture(scope="session", autouse=True)
def private_ipython(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the history and the start-up files of whoever runs the tests out of their kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield


def ask(cwd: Path, paid_seconds: float = 120.0, **changes: object) -> StartRequest:
    """Return a request such as the contract's; ``changes`` replace its fields."""
    values = {
        "placement_id": new_id("placement"),
        "kernel_name": "python3",
        "cwd": str(cwd),
        "env": {},
        "devices": (),
        "model": "T4",
        "simulated": True,
        "session_key": new_id("key").encode(),
        "username": "ada",
        "paid_until": datetime.now(UTC) + timedelta(seconds=paid_seconds),
    }
    return StartRequest(**{**values, **changes})  # type: ignore[arg-type]


def owner_of(state_dir: Path) -> str:
    return (state_dir / "backend_id").read_text()


def nothing_left_of(state_dir: Path, backends: Iterable[LocalBackend]) -> None:
    """Stop all placements, close all backends, and fail if any process of theirs is left."""
    backends = list(backends)
    if not backends:
        return
    for look in backends[-1].list_placements():
        backends[-1].stop(look.placement_id, 0)
    for backend in backends:
        backend.close()
    # A supervisor that has written down an end needs a moment to go.
    wait_for(lambda: not labelled(owner_of(state_dir)), 5, "processes were left behind: they did not end")
