"""What belongs to a session beside its variables: folder, ``sys.path``, environment, random states, settings, history.

Applied in two parts: the surroundings before anything is unpickled, since imports depend on them, and taken back when
the restore fails; the rest when everything is in place.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any

from . import settings, widgets
from .names import shell
from .place import Place

# Set for the process by whoever started it, and wrong in another one.
_ENVIRONMENT_OWN = (
    "COMPUTEHUB_", "CUDA_", "NVIDIA_", "JPY_", "JUPYTERHUB_", "LD_", "SLURM_", "KUBERNETES_", "XDG_RUNTIME",
    "PYDEVD_", "IPYTHON", "PYTEST_",
)  # fmt: skip
_ENVIRONMENT_OWN_NAMES = frozenset(
    ["PWD", "OLDPWD", "HOSTNAME", "HOME", "USER", "SHLVL", "_", "TMPDIR", "TERM", "CLICOLOR", "FORCE_COLOR"]
) | {"CLICOLOR_FORCE", "PAGER", "GIT_PAGER", "MPLBACKEND", "PATH", "VIRTUAL_ENV", "KMP_INIT_AT_FORK"}
# Outputs that nobody named come along while they are small.
_OUTPUT_BYTES_MAX = 1 << 20


def same_minor(target_python: str | None) -> bool:
    if not target_python:
        return True
    return target_python.split(".")[:2] == [str(part) for part in sys.version_info[:2]]


def facts() -> dict[str, Any]:
    """What the manifest says about this session."""
    running = shell()
    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "cwd": _folder(),
        "sys_path": [path for path, _front in _added_paths()],
        "execution_count": running.execution_count if running is not None else None,
    }


def surroundings() -> dict[str, Any]:
    return {
        "cwd": _folder(),
        "sys_path": _added_paths(),
        "environ": _changed_environment(),
        "recursion_limit": sys.getrecursionlimit(),
        "warnings": settings.warning_filters(),
    }


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it was deleted


def _baseline() -> dict[str, Any] | None:
    for finder in sys.meta_path:
        if getattr(finder, "computehub_finder", False):
            return finder.baseline  # type: ignore[attr-defined]
    return None


def _added_paths() -> list[tuple[str, bool]]:
    """The folders that the user added to ``sys.path``, and whether in front."""
    baseline = _baseline()
    if baseline is None:
        return []
    before = set(baseline["path"])
    ours = [path for path in sys.path if isinstance(path, str)]
    first_known = next((index for index, path in enumerate(ours) if path in before), 0)
    return [(os.path.abspath(path), index < first_known) for index, path in enumerate(ours) if path not in before]


def _changed_environment() -> dict[str, str | None]:
    baseline = _baseline()
    if baseline is None:
        return {}
    before = baseline["environ"]
    changed: dict[str, str | None] = {
        name: value for name, value in os.environ.items() if before.get(name) != value and not _own(name)
    }
    changed.update({name: None for name in before if name not in os.environ and not _own(name)})
    return changed


def _own(name: str) -> bool:
    return name.startswith(_ENVIRONMENT_OWN) or name in _ENVIRONMENT_OWN_NAMES


def carry(carrier: Any, namespace: dict[str, Any], *, everything: bool) -> None:
    """Add what no name holds. Nothing here is worth failing for: what can't go is left out."""
    _carry_quietly(carrier, "random states", random_states(), "random")
    _carry_quietly(carrier, "settings", settings.collect(), "settings")
    if not everything:
        return
    # From the plainest on: where one can't be rebuilt, those after it are not read.
    running = shell()
    own = running is not None and running.user_ns is namespace
    if own:
        _carry_quietly(carrier, "In", list(namespace.get("In", [])), "inputs")
        for name, value in settings.habits(namespace):
            _carry_quietly(carrier, name, value, "habit")
    for widget in widgets.live_widgets():
        _carry_quietly(carrier, "a widget on the page", widget, "widget")
    if not own:
        return
    for number, value in list(namespace.get("Out", {}).items()):
        _carry_quietly(carrier, f"Out[{number}]", (number, value), "output", _OUTPUT_BYTES_MAX)


def _carry_quietly(carrier: Any, name: str, value: Any, kind: str, at_most: int | None = None) -> None:
    needed = dict(carrier.needed)
    try:
        carrier.carry(name, value, kind, at_most)
    except Exception:
        return
    finally:
        carrier.needed = needed  # the target is not asked to have a package for these


def random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate()}
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "get_state"):
        name, key, *rest = numpy.get_state()
        states["numpy"] = (name, key.tobytes(), *rest)  # plain values: nothing here needs NumPy there
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        states["torch"] = torch.get_rng_state().numpy().tobytes()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["torch.cuda"] = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states


# --- the other halves


def surround(place: Place, wanted: dict[str, Any]) -> None:
    """Bring the target's surroundings in line, in a way that can be taken back."""
    for name, value in (wanted.get("environ") or {}).items():
        _set_environment(place, name, value)
    path = list(sys.path)
    place.undo.append(lambda: sys.path.__setitem__(slice(None), path))
    limit = sys.getrecursionlimit()
    if isinstance(wanted.get("recursion_limit"), int) and wanted["recursion_limit"] > limit:
        sys.setrecursionlimit(wanted["recursion_limit"])
        place.undo.append(lambda: sys.setrecursionlimit(limit))
    front = 0
    for folder, in_front in wanted.get("sys_path") or ():
        if folder not in sys.path:
            sys.path.insert(front if in_front else len(sys.path), folder)
            front += in_front
    folder = wanted.get("cwd")
    before = _folder()
    if folder and folder != before:
        try:
            os.chdir(folder)
        except OSError:
            place.note(f"The notebook's folder {folder} does not exist here; it works in {before}.")
            return
        if before:
            place.undo.append(lambda: os.chdir(before))


def _set_environment(place: Place, name: str, value: str | None) -> None:
    before = os.environ.get(name)
    _environ(name, value)
    place.undo.append(lambda: _environ(name, before))


def _environ(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def set_random_states(states: dict[str, Any]) -> None:
    if "random" in states:
        random.setstate(states["random"])
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and "numpy" in states:
        name, key, *rest = states["numpy"]
        numpy.set_state((name, sys.modules["numpy"].frombuffer(key, "uint32"), *rest))
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in states:
        torch.set_rng_state(_bytes_tensor(torch, states["torch"]))
        if "torch.cuda" in states and torch.cuda.is_available():
            for index, state in enumerate(states["torch.cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(_bytes_tensor(torch, state), index)


def _bytes_tensor(torch: Any, contents: bytes) -> Any:
    return torch.frombuffer(bytearray(contents), dtype=torch.uint8)


def set_history(namespace: dict[str, Any], inputs: list[str], outputs: dict[int, Any], count: int | None) -> None:
    """Number the next cell on, and let ``In`` and ``Out`` answer for the cells before."""
    running = shell()
    if running is None or running.user_ns is not namespace:
        return
    if isinstance(namespace.get("In"), list) and inputs:
        namespace["In"][:] = inputs
    if isinstance(namespace.get("Out"), dict):
        namespace["Out"].update(outputs)
    if isinstance(count, int):
        running.execution_count = count
