"""A real Slurm for a test's kernels, and a look at what is left of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from computehub_ext.backends.slurm import SlurmBackend, SlurmSettings
from computehub_ext.testing.kernels import wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster, slurm_cluster


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """A cluster of its own for a module's tests, up in a second."""
    with slurm_cluster() as cluster:
        yield cluster


def settings_for(cluster: SlurmCluster, **changes: Any) -> SlurmSettings:
    values: dict[str, Any] = {
        "slurm_conf": str(cluster.conf),
        "listen_host": "127.0.0.1",
        "memory_mib": 500,
        "time_limit_minutes": 10,
    }
    return SlurmSettings(**{**values, **changes})


def jobs_of(cluster: SlurmCluster) -> list[str]:
    """Return what Slurm still has to do: ``12 RUNNING computehub-...``."""
    return cluster.run("squeue", "--noheader", "--format=%i %T %j").splitlines()


def nothing_left_of(backends: Sequence[SlurmBackend], cluster: SlurmCluster) -> None:
    """Stop all placements, close all backends, and fail if a job is left."""
    if not backends:
        return
    for look in backends[-1].list_placements():
        backends[-1].stop(look.placement_id, 0)
    for backend in backends:
        backend.close()
    wait_for(lambda: not jobs_of(cluster), 10, "jobs were left behind")
