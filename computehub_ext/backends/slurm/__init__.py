"""Kernels on a Slurm cluster: a job each, which calls the control plane and stays connected.

``backend.py`` is the backend; ``settings.py`` what an administrator chooses; ``script.py`` the job; ``submit.py`` the
same as another user; ``commands.py`` what Slurm is asked; ``immediate.py`` jobs that need not wait; ``link.py`` the
connection, ``desk.py`` what arrives on it; ``watch.py`` what became of jobs that are not heard of; ``records.py`` what
a successor has to know. The other end is ``kernel/launcher.py``.
"""

from __future__ import annotations

from .backend import SlurmBackend
from .settings import SlurmSettings

__all__ = ["SlurmBackend", "SlurmSettings"]
