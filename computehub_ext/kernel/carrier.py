"""The pickler of a whole session: one memo for all names, so that what was shared stays shared.

Each name is a pickle of its own, preceded by a marker. Where a name can't be carried, the stream and the memo are cut
back to its marker, and the other names go on: nobody's data is pickled twice to find out what may go.
"""

from __future__ import annotations

import enum
import inspect
import pickle
import sys
import types
from typing import Any

from . import arrays, bytecode, classes, functions, instances, memory, session, stdlib, tensors, widgets
from .memory import Memory
from .names import user_names
from .refusals import Refused, live_reason, refusal

_VERSION_ATTRIBUTE = "__version__"


class Sink:
    """Takes the pickler's output in pieces; large ones are the user's own objects, not copies."""

    def __init__(self, retain: bool) -> None:
        self.retain = retain
        self.pieces: list[Any] = []
        self.size = 0

    def write(self, data: Any) -> int:
        size = len(data)
        self.size += size
        if self.retain:
            self.pieces.append(data)
        return size


class Carrier(pickle.Pickler):
    """See the module's text."""

    def __init__(self, namespace: dict[str, Any], *, retain: bool, target_python: str | None = None) -> None:
        self.sink = Sink(retain)
        super().__init__(self.sink, 5, buffer_callback=self._buffer)
        self.namespace = namespace
        self.target_python = target_python
        self.same_python = session.same_minor(target_python)
        self._excused: set[int] = set()
        self.records: list[list[Any]] = []
        self.cuda_used = False
        self.last: Any = None
        self.same_python_names: set[str] = set()
        self.shares_small_arrays = "torch" in sys.modules
        self._name = ""
        self._memories = memory.Memories()
        self._blocks: list[Any] = []
        self._tokens: dict[int, tuple[Any, memory.Memory]] = {}
        self._globals: dict[int, functions.Globals] = {}
        self._cells: dict[int, functions.Cell] = {}
        self._made: dict[Any, tuple[Any, Any]] = {}
        self.needed: dict[str, str] = {}
        self._used: dict[str, set[str]] = {}
        self._warnings: dict[str, list[str]] = {}
        self._filenames: set[str] = set()
        self._reducers: dict[type, Any] = dict(_exact_reducers())

    # --- names

    def prepare(self, values: list[Any]) -> None:
        """Make known the memory that a smaller look into it might otherwise seem to own."""
        if self.shares_small_arrays:
            for value in values:
                arrays.make_known(self, value)

    def carry(self, name: str, value: Any, kind: str = "name", at_most: int | None = None) -> int:
        """Add one value. Returns its weight in bytes; raises, with everything as before, when it can't go."""
        marker = [name]
        began, blocks, pieces = self.sink.size, len(self._blocks), len(self.sink.pieces)
        self._name = name
        try:
            self.dump(marker)
            self.dump(value)
            weight = self.sink.size - began + sum(_weight(block) for block in self._blocks[blocks:])
            if at_most is not None and weight > at_most:
                raise Refused(value, "too large to come along unasked")
        except BaseException:
            self._cut_back(marker)
            del self._blocks[blocks:], self.sink.pieces[pieces:]
            self.sink.size = began
            self._warnings.pop(name, None)
            self._used.pop(name, None)
            self.same_python_names.discard(name)
            raise
        self.records.append([name, kind])
        return weight

    def _cut_back(self, marker: list[str]) -> None:
        known = self.memo.copy()
        if id(marker) in known:
            first = known[id(marker)][0]
            self.memo = {key: entry for key, entry in known.items() if entry[0] < first}

    # --- what reducers ask for

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        try:
            reducer = self._reducers[kind]
        except KeyError:
            reducer = self._reducers[kind] = _reducer_for(kind)
        self.last = value
        return NotImplemented if reducer is None else reducer(self, value)

    def globals_of(self, function: types.FunctionType) -> functions.Globals:
        namespace = function.__globals__
        known = self._globals.get(id(namespace))
        if known is None:
            name = namespace.get("__name__")
            module = sys.modules.get(name) if isinstance(name, str) else None
            if namespace is self.namespace:
                kind = "user"
            elif module is not None and vars(module) is namespace and functions.importable(module):
                kind = "module"
                self.needs(module.__name__)
            else:
                kind = "own"
            known = self._globals[id(namespace)] = functions.Globals(namespace, kind, name)
        return known

    def cell(self, cell: types.CellType) -> functions.Cell:
        if id(cell) not in self._cells:
            self._cells[id(cell)] = functions.Cell(cell)
        return self._cells[id(cell)]

    def memory(self, address: int, size: int, owner: Any) -> Memory:
        return self._memories.at(address, size, owner)

    def out_of_band(self, memory_: Memory) -> Any:
        token = memory.token()
        self._tokens[id(token)] = (token, memory_)
        return token

    def once(self, key: Any, keep: Any, make: Any) -> Any:
        """A copy that several objects share, made when first asked for (a CUDA storage in main memory)."""
        if key not in self._made:
            self._made[key] = (keep, make())
        return self._made[key][1]

    def reduce_array_of_tensor(self, array: Any, tensor: Any) -> Any:
        return tensors.reduce_array_of_tensor(self, array, tensor)

    def needs(self, module_name: str) -> None:
        self.needed.setdefault(module_name.partition(".")[0], module_name)

    def uses(self, names: frozenset[str]) -> None:
        """The current name's functions look up these names in the notebook."""
        self._used.setdefault(self._name, set()).update(names & self.namespace.keys())

    def excuse(self, methods: Any) -> None:
        """These have no source, and need none: the target can write them itself."""
        self._excused.update(id(inspect.unwrap(method).__code__) for method in methods)

    def uses_source(self, code: types.CodeType) -> None:
        if code.co_filename not in self._filenames:
            self._filenames.add(code.co_filename)
        if bytecode.source_of(code.co_filename) is None and id(code) not in self._excused:
            self.same_python_names.add(self._name)
            if not self.same_python:
                raise Refused(code, f"compiled code without its source, which Python {self.target_python} can't run")

    def warn(self, text: str) -> None:
        said = self._warnings.setdefault(self._name, [])
        if text not in said:
            said.append(text)

    # --- the results

    def blocks(self) -> tuple[list[Any], list[dict[str, Any]]]:
        """The memory to send out of band, and what the target is to make of each piece."""
        contents, kinds = [], []
        for block in self._blocks:
            if isinstance(block, memory.Memory):
                whole = (block.low, block.high) == (block.address, block.address + block.size)
                contents.append(block.used())
                kinds.append({**(block.kind if whole else {"k": "bytes"}), "a": block.low})
            else:
                contents.append(block)
                kinds.append({"k": "raw"})
        return contents, kinds

    def sources(self) -> dict[str, str]:
        found = {filename: bytecode.source_of(filename) for filename in sorted(self._filenames)}
        return {filename: text for filename, text in found.items() if text is not None}

    def modules(self) -> list[dict[str, str | None]]:
        """The packages that the target must have; Python's own are there."""
        own = getattr(sys, "stdlib_module_names", frozenset(sys.builtin_module_names)) | {"_computehub", "__main__"}
        names = [name for name in sorted(self.needed) if name not in own and name != "computehub_ext"]
        return [{"name": name, "version": _version(name)} for name in names]

    def warnings_about(self, kept: set[str]) -> list[dict[str, str]]:
        """What should be said about names that do come along."""
        own = set(user_names(self.namespace)) - kept
        found: list[dict[str, str]] = []
        for name in sorted(kept):
            stays = sorted(self._used.get(name, set()) & own)
            reasons = [f"uses {used!r}, which stays" for used in stays] + self._warnings.get(name, [])
            found.extend({"name": name, "reason": reason} for reason in reasons)
        return found

    def close(self) -> None:
        """Let go of everything that was looked at."""
        self.clear_memo()
        self._memories = memory.Memories()
        for held in (self._tokens, self._reducers, self._made, self._globals, self._cells, self._blocks):
            held.clear()
        self.last = None

    def _buffer(self, buffer: Any) -> bool:
        known = self._tokens.pop(id(buffer), None)
        if known is not None:
            self._blocks.append(known[1])
            return False
        raw = buffer.raw()
        if raw.nbytes <= memory.INLINE_BYTES_MAX:
            return True
        self._blocks.append(raw)
        return False


def _weight(block: Any) -> int:
    return block.high - block.low if isinstance(block, memory.Memory) else block.nbytes


def _version(name: str) -> str | None:
    version = getattr(sys.modules.get(name), _VERSION_ATTRIBUTE, None)
    return version if isinstance(version, str) else None


def _exact_reducers() -> dict[type, Any]:
    return {
        types.FunctionType: functions.reduce_function,
        types.CellType: functions.reduce_cell,
        types.MethodType: functions.reduce_method,
        types.ModuleType: functions.reduce_module,
        types.CodeType: bytecode.reduce_code,
        memory.Memory: memory.reduce_memory,
        memoryview: arrays.reduce_memoryview,
        # Only ever met by name, and often: nothing to decide.
        types.BuiltinFunctionType: _reduce_builtin,
        **stdlib.reducers(),
    }


def _reduce_builtin(carrier: Carrier, value: Any) -> Any:
    owner = getattr(value, "__self__", None)
    if isinstance(owner, types.ModuleType):
        carrier.needs(owner.__name__)
    return NotImplemented


def _reducer_for(kind: type) -> Any:
    """Which reducer values of this type go through, decided once per type."""
    if issubclass(kind, type):
        return classes.reduce_class
    if live_reason(kind) is not None:
        return _reduce_live
    if any(type(getattr(sys, name, None)) is kind for name in stdlib.STREAMS):
        return _reduce_stream
    if arrays.is_array_type(kind):
        return arrays.reduce_array
    found = tensors.reducer_for(kind) or widgets.reducer_for(kind)
    if found is not None:
        return found
    if issubclass(kind, types.ModuleType):
        return functions.reduce_module
    if issubclass(kind, BaseException):
        return stdlib.reduce_exception
    if issubclass(kind, property) and kind.__reduce_ex__ is object.__reduce_ex__:
        return stdlib.reduce_property
    if kind.__module__.partition(".")[0] == "IPython" and kind.__name__.endswith("InteractiveShell"):
        return widgets.reduce_shell
    if not issubclass(kind, enum.Enum) and stdlib.is_marker(kind):
        return stdlib.reduce_constant
    return instances.reducer_for(kind)


def _reduce_stream(carrier: Carrier, value: Any) -> Any:
    name = stdlib.standard_stream(value)
    return NotImplemented if name is None else (stdlib.make_standard_stream, (name,))


def _reduce_live(carrier: Carrier, value: Any) -> Any:
    stream = stdlib.standard_stream(value)
    if stream is not None:
        return stdlib.make_standard_stream, (stream,)
    raise Refused(value, refusal(value) or "part of this process")
