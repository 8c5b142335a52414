"""Turning a session into bytes: which names come along, what they weigh, and why some can't."""

from __future__ import annotations

import sys
import threading
import types
import warnings
from typing import Any

from . import session
from .carrier import Carrier
from .names import Keep, choose, type_name
from .refusals import Refused, explain, refusal
from .stdlib import standard_stream
from .stream import FORMAT

# Values nested deeper than the usual limit (a linked list, say) are tried again with this much room.
_DEEP_LIMIT = 100_000
_DEEP_STACK_BYTES = 512 << 20
# What a transfer within one machine was seen to do, hashing on both sides; and the switch's fixed part.
_BYTES_PER_SECOND = 400e6
_SECONDS_AT_LEAST = 0.1


class Captured:
    """A session ready to be framed: header, pickles and blocks for the stream, and the manifest."""

    def __init__(self, header: dict[str, Any], pickles: list[Any], blocks: list[Any], manifest: dict[str, Any]) -> None:
        self.header = header
        self.pickles = pickles
        self.blocks = blocks
        self.manifest = manifest


def preview(namespace: dict[str, Any], keep: Keep = "all", *, target_python: str | None = None) -> dict[str, Any]:
    """What would come along, what would not and why, and how much it weighs. Copies no large data.

    Returns
    -------
    {carried: [{name, type, bytes}], lost: [{name, type, reason}], warnings: [{name, reason}], total_bytes, seconds,
    modules: [{name, version}], python, cuda_used, cwd, sys_path, same_python}
    """
    manifest = _capture(namespace, keep, target_python, retain=False).manifest
    manifest["seconds"] = round(_SECONDS_AT_LEAST + manifest["total_bytes"] / _BYTES_PER_SECOND, 2)
    return manifest


def capture(namespace: dict[str, Any], keep: Keep = "all", *, target_python: str | None = None) -> Captured:
    """Everything that ``keep`` names, pickled once; large memory by reference."""
    return _capture(namespace, keep, target_python, retain=True)


def _capture(namespace: dict[str, Any], keep: Keep, target_python: str | None, *, retain: bool) -> Captured:
    names = choose(namespace, keep)
    surroundings = session.surroundings() if keep != "none" else {}
    with warnings.catch_warnings():
        # Libraries warn about pickling in general; what matters to the user is said in our words.
        warnings.simplefilter("ignore")
        result = _try(namespace, names, keep, target_python, retain)
        if result is None:
            result = _with_deep_stack(lambda: _try(namespace, names, keep, target_python, retain, deep=True))
    result.header["session"] = surroundings
    return result


def _try(
    namespace: dict[str, Any], names: list[str], keep: Keep, target_python: str | None, retain: bool, deep: bool = False
) -> Captured | None:
    """One pass over the names; None when something was nested too deep for the usual stack."""
    carrier = Carrier(namespace, retain=retain, target_python=target_python)
    lost: list[dict[str, str]] = []
    carried: list[dict[str, Any]] = []
    try:
        carrier.prepare([namespace[name] for name in names])
        for name in sorted(names, key=lambda name: _rank(namespace[name])):
            value = namespace[name]
            reason = None if standard_stream(value) else refusal(value)
            if reason is None:
                try:
                    size = carrier.carry(name, value)
                    carried.append({"name": name, "type": type_name(value), "bytes": size})
                    continue
                except RecursionError as error:
                    if not deep:
                        return None
                    reason = explain(name, value, error, None)
                except Exception as error:
                    reason = explain(name, value, error, carrier.last)
            lost.append({"name": name, "type": type_name(value), "reason": reason})
        if keep != "none":
            session.carry(carrier, namespace, everything=keep == "all")
        blocks, kinds = carrier.blocks()
        header = {
            "format": FORMAT,
            "names": carrier.records,
            "blocks": kinds,
            "sources": carrier.sources() if retain else {},
        }
        order = {name: index for index, name in enumerate(names)}
        carried.sort(key=lambda item: order[item["name"]])
        lost.sort(key=lambda item: order[item["name"]])
        manifest = _manifest(carrier, carried, lost)
        return Captured(header, carrier.sink.pieces, blocks, manifest)
    finally:
        carrier.close()


def _rank(value: Any) -> int:
    """Imports first, then functions and classes: code that rebuilds a value at the target may use them."""
    if isinstance(value, types.ModuleType):
        return 0
    return 1 if isinstance(value, (types.FunctionType, type)) else 2


def _manifest(carrier: Carrier, carried: list[dict[str, Any]], lost: list[dict[str, str]]) -> dict[str, Any]:
    kept = {item["name"] for item in carried}
    return {
        "names": [item["name"] for item in carried],
        "carried": carried,
        "lost": lost,
        "warnings": carrier.warnings_about(kept),
        "modules": carrier.modules(),
        "same_python": sorted(carrier.same_python_names & kept),
        "cuda_used": carrier.cuda_used,
        "total_bytes": sum(item["bytes"] for item in carried),
        **session.facts(),
    }


def _with_deep_stack(work: Any) -> Any:
    """Run in a thread whose stack is large enough for a long chain of objects."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    limit, size = sys.getrecursionlimit(), threading.stack_size(_DEEP_STACK_BYTES)
    sys.setrecursionlimit(max(limit, _DEEP_LIMIT))
    try:
        thread = threading.Thread(target=run, name="computehub-capture")
        try:
            thread.start()
        except RuntimeError:
            run()  # no room for such a stack: what fits into this one
        else:
            thread.join()
    finally:
        sys.setrecursionlimit(limit)
        threading.stack_size(size)
    if failure:
        raise failure[0]
    return outcome[0]


__all__ = ["Captured", "Refused", "capture", "preview"]
