"""What the user set on libraries that hold it outside any variable: carried as the difference to the library's default.

Only libraries that the session has loaded are looked at, and only those are set at the target.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from typing import Any

from .names import shell

_INLINE = ("inline", "module://matplotlib_inline.backend_inline", "module://ipykernel.pylab.backend_inline")


def collect() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, reader in (("numpy", _numpy), ("pandas", _pandas), ("matplotlib", _matplotlib), ("torch", _torch)):
        library = sys.modules.get(name)
        if library is None:
            continue
        try:
            found[name] = reader(library)
        except Exception:
            continue  # an unusual version: its settings stay at their defaults
    decimal = sys.modules.get("decimal")
    if decimal is not None:
        found["decimal"] = decimal.getcontext()
    extensions = _extensions()
    if extensions:
        found["extensions"] = extensions
    return {name: value for name, value in found.items() if value}


def warning_filters() -> list[list[Any]]:
    """The filters that Python's own ``warnings`` would be set to again, in plain words; newest first."""
    found = []
    filters: Any = warnings.filters
    for action, message, category, module, line in filters:
        where = [category.__module__, category.__qualname__]
        # Python's own first filters hold texts where later ones hold compiled patterns.
        found.append([action, getattr(message, "pattern", message), where, getattr(module, "pattern", module), line])
    return found


def set_warning_filters(wanted: list[list[Any]]) -> None:
    known = warning_filters()
    for action, message, (module_name, name), module, line in reversed(wanted):
        loaded = sys.modules.get(module_name)
        category = getattr(loaded, name, None) if loaded is not None else None
        if [action, message, [module_name, name], module, line] in known or not isinstance(category, type):
            continue
        # Added by the public way, under a text that no other filter has, so that older decisions are forgotten ...
        warnings.filterwarnings(action, "computehub: filled in below", category, "", line)
        # ... and then as it was: the other way compiles texts in its own manner.
        entry = (action, message and re.compile(message, re.I), category, module and re.compile(module), line)
        warnings.filters[0] = entry  # type: ignore[index]


def habits(namespace: dict[str, Any]) -> list[tuple[str, Any]]:
    """Magics and callbacks that the user's own functions were made into, as (name, (where, key, function))."""
    running = shell()
    found: list[tuple[str, Any]] = []
    magics = getattr(getattr(running, "magics_manager", None), "magics", {})
    for kind, by_name in magics.items():
        for name, function in by_name.items():
            if getattr(function, "__globals__", None) is namespace:
                found.append((f"%{name}", ("magic", (kind, name), function)))
    callbacks = getattr(getattr(running, "events", None), "callbacks", {})
    for event, functions in callbacks.items():
        for function in functions:
            if getattr(function, "__globals__", None) is namespace:
                found.append((f"a callback of {event}", ("event", event, function)))
    return found


def take_up(habit: tuple[str, Any, Any]) -> None:
    """The other half: make a function a magic or a callback again."""
    where, key, function = habit
    running = shell()
    if running is None:
        return
    if where == "magic":
        kind, name = key
        running.magics_manager.magics[kind][name] = function
    elif function not in running.events.callbacks.get(key, ()):
        running.events.register(key, function)


def _numpy(numpy: Any) -> dict[str, Any]:
    options = dict(numpy.get_printoptions())
    options.pop("override_repr", None)
    return {"print": options, "errors": numpy.geterr()}


def _pandas(pandas: Any) -> dict[str, Any]:
    config = sys.modules["pandas._config.config"]
    changed = {}
    for key, option in config._registered_options.items():
        value = pandas.get_option(key) if key not in config._deprecated_options else option.defval
        if value is not option.defval and value != option.defval:
            changed[key] = value
    return changed


def _matplotlib(matplotlib: Any) -> dict[str, Any]:
    base = matplotlib.rcParamsOrig if hasattr(matplotlib, "rcParamsOrig") else matplotlib.rcParamsDefault
    changed = {
        key: value
        for key, value in dict.items(matplotlib.rcParams)
        if not key.startswith("backend") and base.get(key, None) != value
    }
    return {"rc": changed, "inline": "matplotlib.pyplot" in sys.modules and matplotlib.get_backend() in _INLINE}


def _torch(torch: Any) -> dict[str, Any]:
    return {"dtype": str(torch.get_default_dtype()).rpartition(".")[2], "grad": torch.is_grad_enabled()}


def _extensions() -> list[str]:
    running = shell()
    manager = getattr(running, "extension_manager", None)
    return sorted(getattr(manager, "loaded", ())) if manager is not None else []


# --- the other half


def restore(wanted: dict[str, Any]) -> list[str]:
    """Set what was collected. Returns what could not be set, in words."""
    notes = []
    for name, value in wanted.items():
        try:
            _SETTERS[name](value)
        except Exception as error:
            notes.append(f"The settings of {name} could not be carried: {type(error).__name__}.")
    return notes


def _set_numpy(wanted: dict[str, Any]) -> None:
    numpy = importlib.import_module("numpy")
    numpy.set_printoptions(**wanted["print"])
    numpy.seterr(**wanted["errors"])


def _set_pandas(wanted: dict[str, Any]) -> None:
    pandas = importlib.import_module("pandas")
    for key, value in wanted.items():
        pandas.set_option(key, value)


def _set_matplotlib(wanted: dict[str, Any]) -> None:
    matplotlib = importlib.import_module("matplotlib")
    running = shell()
    if wanted["inline"] and running is not None and hasattr(running, "enable_matplotlib"):
        running.enable_matplotlib("inline")
    for key, value in wanted["rc"].items():
        if key in matplotlib.rcParams:
            matplotlib.rcParams[key] = value


def _set_torch(wanted: dict[str, Any]) -> None:
    torch = importlib.import_module("torch")
    torch.set_default_dtype(getattr(torch, wanted["dtype"]))
    torch.set_grad_enabled(wanted["grad"])


def _set_decimal(wanted: Any) -> None:
    importlib.import_module("decimal").setcontext(wanted)


def _load_extensions(names: list[str]) -> None:
    manager = getattr(shell(), "extension_manager", None)
    for name in names:
        if manager is not None and name not in manager.loaded and not name.startswith("_computehub"):
            manager.load_extension(name)


_SETTERS: dict[str, Any] = {
    "numpy": _set_numpy,
    "pandas": _set_pandas,
    "matplotlib": _set_matplotlib,
    "torch": _set_torch,
    "decimal": _set_decimal,
    "extensions": _load_extensions,
}
