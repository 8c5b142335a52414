"""Look for what a test of kernels left running."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from computehub_ext.backends.local import LocalBackend
from computehub_ext.backends.local.processes import labelled
from computehub_ext.testing.kernels import wait_for


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
