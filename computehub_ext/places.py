"""The places and pools that an administrator configured, and the backends made of them.

``ComputeHub.places`` names engines and clusters; ``ComputeHub.pools`` says which devices they have:

    c.ComputeHub.places = {
        "gpu-server": {"kind": "docker", "image": "computehub/slim", "memory_mib": 16384},
        "cluster": {"kind": "slurm", "partition": "gpu", "account": "teaching", "gres": {"T4": "gpu:t4:{count}"}},
    }
    c.ComputeHub.pools = [
        {"name": "A100 of the GPU server", "place": "gpu-server", "model": "A100", "devices": ["0", "1"],
         "rate_credits_per_hour": 4.0, "memory_mib": 81920},
        {"name": "T4 of the cluster", "place": "cluster", "model": "T4", "devices": 8, "rate_credits_per_hour": 1.0},
    ]

The place ``local`` is this machine and always there. Another package adds a kind by an entry point of the group
``computehub.backends``: its name is the kind, its object a ``Backend`` with a ``settings_class``, the dataclass that
the rest of the place is read into. What is said of a place of any kind is in ``AnyPlace``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from computehub_ext.core.credits import MICROCREDITS_PER_CREDIT
from computehub_ext.core.errors import Invalid

if TYPE_CHECKING:
    from computehub_ext.backends.model import Backend
    from computehub_ext.pools.model import PoolSpec

LOCAL = "local"
KINDS = {
    "docker": ("computehub_ext.backends.docker", "DockerBackend", "DockerSettings"),
    "slurm": ("computehub_ext.backends.slurm", "SlurmBackend", "SlurmSettings"),
}
"""Our own kinds. Their settings are read without the backend, which imports what only that kind needs."""
KINDS_OF_OTHERS = "computehub.backends"
_TAKEN = (LOCAL, "backend_id", "new", "placements", "standbys")
"""What the place ``local`` keeps where each other place has a folder by its name."""

T = TypeVar("T")


class Misconfigured(ValueError):
    """What is wrong with a place or a pool, with the name of the setting in it."""


@dataclass(frozen=True)
class ConfiguredPool:
    """One entry of ``ComputeHub.pools``.

    Parameters
    ----------
    name:
        What people read; a pool keeps its bookings as long as its name.
    place:
        A name in ``ComputeHub.places``, or ``local``.
    model:
        As people ask for it, such as ``A100`` or ``A100-1g.10gb``.
    devices:
        How many there are, or the ids by which the place knows each: an NVIDIA UUID or number for Docker. A
        real GPU is in one pool.
    rate_credits_per_hour:
        What an hour of one device costs; 1.0 is the reference device.
    memory_mib:
        Memory of one device, shown to people; 0 where nobody says.
    simulated:
        Devices that are none: called simulated wherever they are shown.
    """

    name: str
    place: str
    model: str
    devices: int | tuple[str, ...]
    rate_credits_per_hour: float
    memory_mib: int = 0
    simulated: bool = False

    def __post_init__(self) -> None:
        ids = self.device_ids
        if not self.name or not self.model:
            raise Misconfigured("name and model say what people book, so neither is empty")
        if not ids or len(set(ids)) < len(ids):
            raise Misconfigured("devices is how many there are, at least 1, or a list of different ids")
        if not 0 <= self.rate_credits_per_hour <= 10_000:
            raise Misconfigured("rate_credits_per_hour is between 0 and 10,000")

    @property
    def device_ids(self) -> tuple[str, ...]:
        if isinstance(self.devices, int):
            return tuple(str(index) for index in range(self.devices))
        return self.devices


@dataclass(frozen=True)
class AnyPlace:
    """What is said of a place whatever its kind is.

    Parameters
    ----------
    terminals:
        Whether who pays for a GPU there may open a terminal beside the kernel, in JupyterLab: a shell as the kernel's
        user, in its container or job. Whatever is not allowed by name is forbidden.
    """

    terminals: bool = False


def read(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make the dataclass of what an administrator wrote, lists for tuples.

    Raises
    ------
    Misconfigured
        An unknown, missing or wrongly typed setting, named, with what would be right.
    """
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    found = {}
    for name, value in values.items():
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f". Known are {', '.join(known)}."
            raise Misconfigured(f"{where}: there is no setting {name}{hint}")
        try:
            found[name] = _fitted(value, hints[name])
        except TypeError as error:
            raise Misconfigured(f"{where}: {name} must be {error}, and is {value!r}.") from None
        except Misconfigured as error:
            raise Misconfigured(f"{where}: {name}: {error}") from error
    missing = [name for name, field in known.items() if name not in found and _is_required(field)]
    if missing:
        raise Misconfigured(f"{where}: {' and '.join(missing)} must be set.")
    try:
        return cls(**found)
    except ValueError as error:
        raise Misconfigured(f"{where}: {error}.") from error
    except Exception as error:
        raise Misconfigured(f"{where}: {error}") from error


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _fitted(value: Any, hint: Any) -> Any:
    """The value as its type wants it. Raises ``TypeError`` with what would be right."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for each in inner:
            try:
                return _fitted(value, each)
            except TypeError:
                continue
        raise TypeError(" or ".join(_called(each) for each in inner))
    if origin in (tuple, Sequence, list):
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise TypeError(_called(hint))
        return tuple(_inner(each, inner[0], hint) for each in value)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError(_called(hint))
        return {_inner(key, inner[0], hint): _inner(each, inner[1], hint) for key, each in value.items()}
    if origin is typing.Literal:
        if value not in inner:
            raise TypeError(_called(hint))
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is type(None):
        if value is not None:
            raise TypeError("None")
        return None
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    if isinstance(hint, type) and isinstance(value, Mapping) and hasattr(hint, "__dataclass_fields__"):
        return read(hint, value, _called(hint))
    raise TypeError(_called(hint))


def _inner(value: Any, hint: Any, whole: Any) -> Any:
    try:
        return _fitted(value, hint)
    except TypeError:
        raise TypeError(_called(whole)) from None


def _called(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(each) for each in inner)
    if origin in (tuple, Sequence, list):
        return f"a list of {_called(inner[0])}"
    if origin in (dict, Mapping):
        return f"a dict of {_called(inner[0])} to {_called(inner[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_called(each) for each in inner)
    names = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", type(None): "None"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def check(places: Mapping[str, Mapping[str, Any]], pools: Iterable[Mapping[str, Any]]) -> None:
    """Say what is wrong with the configuration, without reaching for any engine or cluster."""
    settings = {name: _settings(name, place) for name, place in places.items()}
    names: set[str] = set()
    models: dict[str, set[str]] = {}
    devices: dict[tuple[str, str], str] = {}
    for number, pool in enumerate(pools, 1):
        read_pool = read(ConfiguredPool, pool, f"pool {pool.get('name') or number}")
        if read_pool.name in names:
            raise Misconfigured(f"pool {read_pool.name}: there are two pools of this name.")
        names.add(read_pool.name)
        if read_pool.place != LOCAL and read_pool.place not in places:
            known = ", ".join([LOCAL, *places])
            raise Misconfigured(f"pool {read_pool.name}: there is no place {read_pool.place}; there is {known}.")
        check_model = getattr(settings.get(read_pool.place), "check_model", None)
        if check_model is not None and not read_pool.simulated:
            try:
                check_model(read_pool.model)
            except Invalid as error:
                raise Misconfigured(f"pool {read_pool.name}: place {read_pool.place}: {error}") from error
        models.setdefault(read_pool.place, set()).add(read_pool.model)
        # Only where GPUs are given out by their ids; elsewhere they are counted, or the cluster gives them.
        machine = "" if read_pool.place == LOCAL else getattr(settings[read_pool.place], "machine_of_gpus", None)
        if machine is None or read_pool.simulated:
            continue
        for device in read_pool.device_ids:
            other = devices.setdefault((machine, device), read_pool.name)
            if other != read_pool.name:
                raise Misconfigured(
                    f"pool {read_pool.name}: devices: {device} is in pool {other} already, on the same machine; two "
                    "people would have it at once. Each GPU is in one pool."
                )
    for name, each in settings.items():
        check_models = getattr(each, "check_models", None)
        if check_models is not None:
            try:
                check_models(models.get(name, set()))
            except Invalid as error:
                raise Misconfigured(f"place {name}: {error}") from error


def backends(places: Mapping[str, Mapping[str, Any]], state_dir: Path) -> dict[str, Backend]:
    """Make the backend of each configured place; slow, since it imports what that kind needs."""
    made: dict[str, Backend] = {}
    for name, place in places.items():
        settings = _settings(name, place)
        if place["kind"] in KINDS:
            module, backend, _ = KINDS[place["kind"]]
            cls = getattr(import_module(module), backend)
        else:
            cls = _of_others(place["kind"], f"place {name}")
        made[name] = cls(state_dir / name, settings, name=name)
    return made


def with_terminals(places: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """The places at which the administrator allows terminals."""
    return frozenset(name for name, place in places.items() if place.get("terminals") is True)


def pool_specs(pools: Iterable[Mapping[str, Any]]) -> list[PoolSpec]:
    """The pools as they are written into the books."""
    from computehub_ext.pools.model import DeviceSpec, PoolSpec

    specs = []
    for each in pools:
        pool = read(ConfiguredPool, each, "pool")
        called = f"Simulated {pool.model}" if pool.simulated else pool.model
        specs.append(
            PoolSpec(
                name=pool.name,
                backend=pool.place,
                model=pool.model,
                count=len(pool.device_ids),
                rate_microcredits_per_hour=round(pool.rate_credits_per_hour * MICROCREDITS_PER_CREDIT),
                simulated=pool.simulated,
                memory_mib=pool.memory_mib,
                devices=tuple(DeviceSpec(index, device, called) for index, device in enumerate(pool.device_ids)),
            )
        )
    return specs


def _settings(name: str, place: Mapping[str, Any]) -> Any:
    where = f"place {name}"
    if name in _TAKEN or not name.replace("-", "_").isidentifier() or len(name) > 40:
        raise Misconfigured(
            f"{where}: a place is named by letters, digits and dashes, at most 40, and not {' or '.join(_TAKEN)}."
        )
    values = dict(place)
    kind = values.pop("kind", None)
    common = {field.name: values.pop(field.name) for field in fields(AnyPlace) if field.name in values}
    has_terminals = read(AnyPlace, common, where).terminals
    if isinstance(kind, str) and kind in KINDS:
        module, _, name_of_settings = KINDS[kind]
        settings = read(getattr(import_module(f"{module}.settings"), name_of_settings), values, where)
    else:
        backend = _of_others(kind, where)
        settings = read(backend.settings_class, values, where)
        if has_terminals and not hasattr(backend, "open_terminal"):
            raise Misconfigured(f"{where}: terminals: places of the kind {kind} have none.")
    if has_terminals and getattr(settings, "submit_command", None):
        raise Misconfigured(
            f"{where}: terminals: jobs run as the people themselves there (submit_command), into whose jobs the "
            "account of ComputeHub can't put a terminal."
        )
    return settings


def _of_others(kind: Any, where: str) -> Any:
    """Return the backend class that another package offers as this kind."""
    from computehub_ext.backends.model import Backend

    offered = entry_points(group=KINDS_OF_OTHERS)
    found = [point for point in offered if point.name == kind]
    if not found:
        known = ", ".join(dict.fromkeys([*KINDS, *sorted(offered.names)]))
        raise Misconfigured(f"{where}: kind must be one of {known}, and is {kind!r}.")
    if len(found) > 1:
        both = " and ".join(sorted(point.value for point in found))
        raise Misconfigured(f"{where}: two packages offer the kind {kind}: {both}; one of them has to go.")
    try:
        cls = found[0].load()
    except Exception as error:
        raise Misconfigured(f"{where}: the kind {kind} can't be loaded from {found[0].value}: {error!r}.") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend) and is_dataclass(getattr(cls, "settings_class", None))):
        raise Misconfigured(f"{where}: {found[0].value} is no Backend with a dataclass as its settings_class.")
    return cls
