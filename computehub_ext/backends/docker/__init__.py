"""Kernels in containers of a Docker engine.

``settings.py`` is what an administrator chooses; ``backend.py`` the backend; ``engine.py`` the calls to the engine;
``recipe.py`` what a container is made from; ``containers.py`` how it is made and found; ``folders.py`` what it shares
with this side (``shared.py`` where folders are shared, ``volumes.py`` where not); ``ways.py`` how its kernel is
reached; ``records.py`` and ``endings.py`` what is known of those that ended; ``warm.py`` and ``adoption.py`` the
standby kernels. ``access.py``, ``tunnel.py`` and ``remote.py`` are the ways to an engine, ``archives.py`` and
``complaints.py`` what comes from it.
"""

from __future__ import annotations

from .backend import DockerBackend
from .settings import DockerSettings, Mount

__all__ = ["DockerBackend", "DockerSettings", "Mount"]
