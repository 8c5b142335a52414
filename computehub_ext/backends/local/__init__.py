"""Kernels on this machine, each under a supervisor of its own that outlives the server.

``backend.py`` is the backend; ``directory.py`` a placement's files; ``launch.py`` how a supervisor is started;
``environment.py`` what a kernel gets to see; ``processes.py`` what ``/proc`` knows; ``warm.py`` the standby kernels.
"""

from __future__ import annotations

from .backend import LocalBackend
from .warm import WarmSettings

__all__ = ["LocalBackend", "WarmSettings"]
