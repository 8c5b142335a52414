"""Which version of ComputeHub answers."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

DISTRIBUTION = "computehub-ext"


@cache
def server_version() -> str:
    """As it was installed; Jupyter finds us by the same record."""
    return version(DISTRIBUTION)
