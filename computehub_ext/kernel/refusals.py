"""What can't leave its process, said so that a person knows what to do about it; and where in a value it was found."""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

_LOCK = "a lock, which belongs to this process: make a new one there"
_THREAD = "a thread of this process: start it again there"
_EVENT = "a tool for this process's threads: make a new one there"
_GENERATOR = "a generator, whose place in its code can't be carried: make it again from its function"
_LOOP = "part of this kernel's event loop: start it again there"
_PROCESS = "a program that runs beside this kernel: start it again there"
_DATABASE = "an open database connection: connect again there"
_FRAME = "a moment of running code"
_EXECUTOR = "a pool of this process's workers: make a new one there"
_MULTI = "shared between this machine's processes: make a new one there"
_ZMQ = "an open message channel of this process: open it again there"

# Looked up for each class in a type's MRO, so that a subclass is refused like its base.
LIVE = {
    "_thread.lock": _LOCK,
    "_thread.RLock": _LOCK,
    "_thread._local": "data of this process's threads: fill it again there",
    "_thread._localdummy": _LOCK,
    "threading.Thread": _THREAD,
    "threading.Condition": _EVENT,
    "threading.Event": _EVENT,
    "threading.Semaphore": _EVENT,
    "threading.Barrier": _EVENT,
    "threading._RLock": _LOCK,
    "builtins.generator": _GENERATOR,
    "builtins.coroutine": "a coroutine that was not awaited, or has begun: call its function again",
    "builtins.async_generator": _GENERATOR,
    "builtins.frame": _FRAME,
    "builtins.traceback": _FRAME,
    "socket.socket": "an open network connection: connect again there",
    "_socket.socket": "an open network connection: connect again there",
    "subprocess.Popen": _PROCESS,
    "sqlite3.Connection": _DATABASE,
    "sqlite3.Cursor": _DATABASE,
    "psycopg.Connection": _DATABASE,
    "psycopg2.extensions.connection": _DATABASE,
    "sqlalchemy.engine.base.Engine": _DATABASE,
    "sqlalchemy.engine.base.Connection": _DATABASE,
    "sqlalchemy.orm.session.Session": _DATABASE,
    "asyncio.events.AbstractEventLoop": _LOOP,
    "asyncio.events.Handle": _LOOP,
    "_asyncio.Future": _LOOP,
    "asyncio.futures.Future": _LOOP,
    "concurrent.futures._base.Executor": _EXECUTOR,
    "concurrent.futures._base.Future": "a result that a worker of this process owes: ask for it again there",
    "multiprocessing.process.BaseProcess": _PROCESS,
    "multiprocessing.pool.Pool": _EXECUTOR,
    "multiprocessing.synchronize.SemLock": _MULTI,
    "multiprocessing.queues.Queue": _MULTI,
    "multiprocessing.queues.SimpleQueue": _MULTI,
    "multiprocessing.connection._ConnectionBase": _MULTI,
    "multiprocessing.managers.BaseManager": _MULTI,
    "mmap.mmap": "a file mapped into this process's memory: map it again there",
    "ctypes.CDLL": "a C library loaded into this process: load it again there",
    "select.epoll": "watching this process's files: make it again there",
    "tempfile.TemporaryDirectory": "a temporary folder that ends with this process",
    "tempfile._TemporaryFileWrapper": "a temporary file that ends with this process",
    "weakref.finalize": "a finalizer of this process",
    "_contextvars.ContextVar": "a context variable of this process: make it again there",
    "_contextvars.Context": "a context of this process",
    "_contextvars.Token": "a token of this process's context",
    "os.DirEntry": "an entry of an open folder listing: list the folder again",
    "posix.ScandirIterator": "an open folder listing: list the folder again",
    "zmq.sugar.context.Context": _ZMQ,
    "zmq.sugar.socket.Socket": _ZMQ,
}
_FILES = frozenset(
    {"_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom", "_io.FileIO"}
)

# A path is worth some looking, not a minute of it.
_NODES_MAX = 200_000
_KEY_LENGTH_MAX = 40


class Refused(Exception):
    """Raised while pickling, at the object that can't go."""

    def __init__(self, culprit: Any, what: str) -> None:
        super().__init__(what)
        self.culprit = culprit
        self.what = what


_reasons: dict[Any, str | None] = {}


def live_reason(kind: Any) -> str | None:
    """Why no value of this type can leave its process, or None."""
    if kind not in _reasons:
        _reasons[kind] = _look_up(kind)
    return _reasons[kind]


def _look_up(kind: Any) -> str | None:
    for base in getattr(kind, "__mro__", ()):
        full = f"{getattr(base, '__module__', '')}.{getattr(base, '__qualname__', '')}"
        if full in LIVE:
            return LIVE[full]
        if full in _FILES:
            return "file"
    return None


def refusal(value: Any) -> str | None:
    """What to say about this very value, or None when its type may travel."""
    reason = live_reason(type(value))
    if reason == "file":
        name = getattr(value, "name", None)
        named = f" ({name})" if isinstance(name, str) else ""
        state = "a closed file" if getattr(value, "closed", False) else "an open file"
        return f"{state}{named}: open it again there"
    return reason


def explain(name: str, value: Any, error: BaseException, last: Any) -> str:
    """One sentence on why ``name`` stays, naming the place inside it.

    ``last`` is the object that the pickler looked at last, which is where it gave up.
    """
    if isinstance(error, RecursionError):
        return "it is nested too deep to be carried"
    if isinstance(error, MemoryError):
        return "there is not enough memory to carry it"
    culprit = error.culprit if isinstance(error, Refused) else last
    place = _outermost(name, value, culprit)
    if place is not None:
        path, found = place
        what = refusal(found)
        if what is None:
            what = error.what if isinstance(error, Refused) else _unknown(found, error)
        return what if path == name else f"{path} is {what}"
    if isinstance(error, Refused):
        return f"something inside it is {error.what}"
    return _short(error)


def _unknown(found: Any, error: BaseException) -> str:
    kind = f"a {type(found).__name__}"
    said = _short(error)
    return f"{kind}, which Python can't pickle" if said.startswith("cannot pickle") else f"{kind}: {said}"


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


def _outermost(name: str, value: Any, culprit: Any) -> tuple[str, Any] | None:
    """The path to the culprit, cut short at the first thing on the way that is itself known to be live."""
    trail = find(name, value, culprit)
    if trail is None:
        return None
    for path, found in trail:
        if refusal(found) is not None:
            return path, found
    return trail[-1]


def find(name: str, value: Any, wanted: Any) -> list[tuple[str, Any]] | None:
    """The way from a named value to an object inside it, nearest way first, as (path, object) pairs."""
    came_from: dict[int, tuple[int, str, Any]] = {id(value): (0, name, value)}
    queue = deque([(name, value)])
    keep = [value]  # what attribute access made must live while its id counts
    while queue and len(keep) < _NODES_MAX:
        path, current = queue.popleft()
        if current is wanted:
            return _trail(came_from, id(current))
        for label, child in _children(path, current):
            if id(child) not in came_from and not isinstance(child, (int, float, str, bytes, bool, type(None))):
                came_from[id(child)] = (id(current), label, child)
                keep.append(child)
                queue.append((label, child))
    return None


def _trail(came_from: dict[int, tuple[int, str, Any]], at: int) -> list[tuple[str, Any]]:
    trail = []
    while at:
        before, path, found = came_from[at]
        trail.append((path, found))
        at = before
    return trail[::-1]


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    try:
        yield from _contents(path, value)
    except Exception:
        return  # a value that can't be looked into; the sentence then names its type alone


def _contents(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, types.ModuleType):
        return
    if isinstance(value, (dict, types.MappingProxyType)):
        for key, item in list(value.items()):
            yield f"{path}[{_key(key)}]", item
            yield f"a key of {path}", key
    elif isinstance(value, (list, tuple, deque)):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f"an element of {path}", item
    if isinstance(value, types.FunctionType):
        yield from _inside_function(path, value)
    elif isinstance(value, types.MethodType):
        yield f"{path}.__self__", value.__self__
        yield path, value.__func__
    elif isinstance(value, types.CellType):
        yield path, value.cell_contents
    elif isinstance(value, (staticmethod, classmethod)):
        yield path, value.__func__
    elif isinstance(value, property):
        for function in (value.fget, value.fset, value.fdel):
            yield path, function
    elif isinstance(value, functools.partial):
        yield f"{path}.func", value.func
        yield f"{path}.args", value.args
        yield f"{path}.keywords", value.keywords
    elif isinstance(value, BaseException):
        yield f"{path}.args", value.args
    if isinstance(value, type):
        for label, item in list(vars(value).items()):
            if not (label.startswith("__") and label.endswith("__")):
                yield f"{path}.{label}", item
    else:
        for label, item in list(getattr(value, "__dict__", {}).items()):
            yield f"{path}.{label}", item
        for label in _slots(type(value)):
            if hasattr(value, label):
                yield f"{path}.{label}", getattr(value, label)
        if not isinstance(value, (list, dict, tuple, set, frozenset, types.FunctionType)):
            yield path, type(value)


def _inside_function(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for index, cell in enumerate(function.__closure__ or ()):
        try:
            yield f"the variable {function.__code__.co_freevars[index]!r} inside {path}", cell.cell_contents
        except ValueError:
            continue  # an empty cell
    yield path, function.__code__
    for item in function.__defaults__ or ():
        yield f"a default of {path}", item
    for label, item in (function.__kwdefaults__ or {}).items():
        yield f"the default of {label!r} in {path}", item


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            mangled = slot.startswith("__") and not slot.endswith("__")
            yield f"_{base.__name__.lstrip('_')}{slot}" if mangled else slot


def _key(key: Any) -> str:
    text = repr(key) if isinstance(key, (str, int, float, bool, tuple, bytes, type(None))) else type(key).__name__
    return text if len(text) <= _KEY_LENGTH_MAX else text[:_KEY_LENGTH_MAX] + "…"
