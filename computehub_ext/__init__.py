"""ComputeHub: a notebook moves to a booked, billed GPU kernel and back, keeping its variables.

This module holds what Jupyter looks for; everything else is imported when it is needed, so that a server that merely
has ComputeHub installed starts as fast as before.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from computehub_ext.app import ComputeHub

    return [{"module": "computehub_ext.app", "app": ComputeHub}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "computehub"}]
