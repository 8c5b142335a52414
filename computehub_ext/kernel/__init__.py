"""What runs inside a user's kernel: the magic, and the carrying of a session's state.

Sent into any Python 3.9+ kernel as one string of code (see ``bundle.py``), where it is the package ``_computehub``:
the standard library and IPython alone, relative imports only, nothing imported before it is used.

    preview(namespace, keep="all")                  what would come along, what would not, how much
    offer(namespace, keep, ticket, directory)       in the source: serve the state once, to whoever shows the ticket
    expect(ticket, host)                            in the target, on another machine: await the source there
    check(manifest_or_preview)                      in the target: what this place lacks
    fetch(namespace, manifest, ticket)              in the target: verify, then restore, all or nothing
"""

from __future__ import annotations

import importlib
from typing import Any

# No module may be called like one of these: importing it would put it in the function's place.
_HOME = {
    "preview": ".capture",
    "offer": ".transfer",
    "fetch": ".transfer",
    "expect": ".transfer",
    "withdraw": ".transfer",
    "check": ".lacking",
    "StateError": ".names",
}

__all__ = ["StateError", "check", "expect", "fetch", "offer", "preview", "withdraw"]


def __getattr__(name: str) -> Any:
    """Import a part when it is first used, so that a kernel's start pays for none of it."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
