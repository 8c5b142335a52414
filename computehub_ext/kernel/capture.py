"""Turning a session into bytes: which names come along, what they weigh, and why some can't."""

from __future__ import annotations

import io
import os
import pickle
import sys
from types import ModuleType
from typing import Any, Optional

from .names import Keep, choose, shell, type_name
from .stream import FORMAT


class Captured:
    """A session ready to be framed: header, pickles and blocks for the stream, and the manifest."""

    def __init__(self, header: "dict[str, Any]", pickles: "list[Any]", blocks: "list[Any]", manifest: "dict[str, Any]"):
        self.header = header
        self.pickles = pickles
        self.blocks = blocks
        self.manifest = manifest


def capture(namespace: "dict[str, Any]", keep: Keep = "all", *, target_python: Optional[str] = None) -> Captured:
    carried, lost, pickles, blocks, segments, modules = [], [], [], [], [], []
    for name in choose(namespace, keep):
        value = namespace[name]
        if isinstance(value, ModuleType):
            segments.append([name, "module", value.__name__])
            modules.append({"name": value.__name__, "version": _version(value)})
            carried.append({"name": name, "type": "module", "bytes": 0})
            continue
        sink, buffers = io.BytesIO(), []
        try:
            pickle.Pickler(sink, 5, buffer_callback=buffers.append).dump(value)
        except Exception as error:
            lost.append({"name": name, "type": type_name(value), "reason": str(error)})
            continue
        raw = [buffer.raw() for buffer in buffers]
        segments.append([name, "pickle", sink.tell(), len(raw)])
        pickles.append(sink.getvalue())
        blocks.extend(raw)
        carried.append(
            {"name": name, "type": type_name(value), "bytes": sink.tell() + sum(view.nbytes for view in raw)}
        )
    running = shell()
    header = {"format": FORMAT, "names": segments, "blocks": [{} for _ in blocks]}
    manifest = {
        "names": [item["name"] for item in carried],
        "carried": carried,
        "lost": lost,
        "warnings": [],
        "modules": modules,
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "cwd": os.getcwd(),
        "sys_path": [],
        "cuda_used": False,
        "same_python": [],
        "execution_count": running.execution_count if running is not None else None,
        "total_bytes": sum(item["bytes"] for item in carried),
    }
    return Captured(header, pickles, blocks, manifest)


def preview(namespace: "dict[str, Any]", keep: Keep = "all") -> "dict[str, Any]":
    """What would come along, what would not and why, and how much it weighs. Copies no large data."""
    manifest = dict(capture(namespace, keep).manifest)
    manifest["seconds"] = round(0.1 + manifest["total_bytes"] / 500e6, 2)
    return manifest


def _version(module: ModuleType) -> Optional[str]:
    version = getattr(sys.modules.get(module.__name__.partition(".")[0]), "__version__", None)
    return version if isinstance(version, str) else None
