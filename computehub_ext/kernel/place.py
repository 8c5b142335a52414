"""Where a restore happens. Pickle hands no context to what it calls, so it is set here for the restore's duration.

In the modules beside this one each reducer has its other half next to it: what the stream calls at the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Place:
    """The target's side of one restore."""

    def __init__(self, namespace: dict[str, Any], sources: dict[str, str]) -> None:
        self.namespace = namespace
        self.sources = sources
        self.notes: list[str] = []
        self.undo: list[Callable[[], object]] = []

    def note(self, text: str) -> None:
        """Something that the user should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def roll_back(self) -> None:
        """Undo what restoring did outside the namespace, newest first."""
        while self.undo:
            self.undo.pop()()


_current: list[Place] = [Place({}, {})]


def current() -> Place:
    return _current[-1]


class at:
    """``with at(place):`` makes it the current one."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> Place:
        _current.append(self.place)
        return self.place

    def __exit__(self, *_: Any) -> None:
        _current.remove(self.place)
