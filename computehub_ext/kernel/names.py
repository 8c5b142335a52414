"""Which names of a namespace are the user's own, and which of them to keep."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Union

Keep = Union[str, "list[str]", "tuple[str, ...]"]

# IPython's own history of inputs and outputs; execution_count, In and Out travel apart (session.py).
_HISTORY = re.compile(r"^(_{1,3}|_i{1,3}|_i?\d+|_ih|_oh|_dh|In|Out)$")
_ALWAYS_THERE = frozenset(
    ["__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtin__", "__builtins__", "__file__"]
) | frozenset(
    ["__cached__", "__session__", "__annotations__", "__annotate__", "__conditional_annotations__"]
)  # fmt: skip
_ALWAYS_THERE |= {"get_ipython", "exit", "quit"}


class StateError(RuntimeError):
    """The state can't be carried as asked. The message is meant for the user."""


def shell() -> Any:
    """IPython's running shell, or None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def user_names(namespace: dict[str, Any]) -> list[str]:
    """The names that the user made, in the order in which they were made."""
    hidden: dict[str, Any] = {}
    running = shell()
    if running is not None and running.user_ns is namespace:
        hidden = running.user_ns_hidden
    missing = object()
    return [
        name
        for name, value in namespace.items()
        if isinstance(name, str)
        and name not in _ALWAYS_THERE
        and not _HISTORY.match(name)
        # Hidden means: put there by IPython. A user who gave such a name another value made it theirs.
        and hidden.get(name, missing) is not value
    ]


def choose(namespace: dict[str, Any], keep: Keep) -> list[str]:
    """The names to carry for ``keep``: "all", "none", or a list of names (imports always come along with a list).

    Raises
    ------
    StateError
        A name in the list does not exist; the message names it and the closest one that does.
    """
    if keep == "none":
        return []
    names = user_names(namespace)
    if keep == "all":
        return names
    wanted = [keep] if isinstance(keep, str) else list(keep)
    unknown = [name for name in wanted if name not in namespace]
    if unknown:
        raise StateError(_unknown(unknown, names))
    return [name for name in names if name in wanted or isinstance(namespace[name], ModuleType)] + [
        name for name in wanted if name not in names and name not in _ALWAYS_THERE and not _HISTORY.match(name)
    ]


def _unknown(unknown: list[str], names: Iterable[str]) -> str:
    close = difflib.get_close_matches(unknown[0], list(names), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(name) for name in unknown)
    return f"There is no variable called {listed} in this notebook.{hint}"


def type_name(value: Any) -> str:
    """The type as a user would say it: ``DataFrame``, ``function``, ``module``."""
    kind = type(value)
    return "function" if kind.__name__ == "builtin_function_or_method" else kind.__name__
