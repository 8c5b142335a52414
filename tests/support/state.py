"""Notebooks without a kernel: namespaces whose cells are compiled as IPython compiles them, carried in one process.

The target is another namespace of the same process, so that whatever still points into the source shows at once.
"""

from __future__ import annotations

import builtins
import itertools
import linecache
import textwrap
from dataclasses import dataclass
from typing import Any

from computehub_ext.kernel.capture import capture
from computehub_ext.kernel.restore import Loaded, allocate, commit, load
from computehub_ext.kernel.stream import Incoming, Outgoing, pieces_of

_numbers = itertools.count(1)


class Notebook:
    """A user's namespace."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}

    def cell(self, source: str) -> Notebook:
        """Run a cell; its source is known by its file name, as IPython sees to."""
        source = textwrap.dedent(source)
        filename = f"<cell {next(_numbers)}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        exec(compile(source, filename, "exec", dont_inherit=True), self.namespace)
        return self

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]

    def __contains__(self, name: str) -> bool:
        return name in self.namespace

    def names(self) -> list[str]:
        return [name for name in self.namespace if not name.startswith("__")]


@dataclass
class Arrived:
    """What a journey came to."""

    notebook: Notebook
    manifest: dict[str, Any]
    loaded: Loaded

    @property
    def lost(self) -> dict[str, str]:
        return {item["name"]: item["reason"] for item in self.manifest["lost"]}

    @property
    def failed(self) -> dict[str, str]:
        return {item["name"]: item["reason"] for item in self.loaded.failed}

    def __getitem__(self, name: str) -> Any:
        return self.notebook[name]


def packed(notebook: Notebook, keep: Any = "all", target_python: str | None = None) -> tuple[Outgoing, dict[str, Any]]:
    captured = capture(notebook.namespace, keep, target_python=target_python)
    return Outgoing(captured.header, captured.pickles, captured.blocks), captured.manifest


def received(data: list[Any], size: int, sha256: str) -> Incoming:
    incoming = Incoming(pieces_of(data), size, sha256)
    incoming.read(allocate)
    incoming.verify()
    return incoming


def carry(
    notebook: Notebook, keep: Any = "all", target_python: str | None = None, *, accept_failures: bool = False
) -> Arrived:
    """Capture, stream, verify and restore into an empty namespace."""
    outgoing, manifest = packed(notebook, keep, target_python)
    incoming = received(outgoing.pieces, outgoing.size, outgoing.sha256)
    target = Notebook()
    loaded = load(target.namespace, incoming.header, incoming.pickles, incoming.blocks)
    commit(target.namespace, loaded, accept_failures=accept_failures)
    return Arrived(target, manifest, loaded)


def moved(source: str, keep: Any = "all") -> Arrived:
    """One cell, carried; nothing may be lost on the way."""
    arrived = carry(Notebook().cell(source), keep)
    assert not arrived.lost
    assert not arrived.failed
    return arrived
