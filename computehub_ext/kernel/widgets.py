"""ipywidgets stay alive in the open page: each comes back on the comm that the page already holds.

Nothing is sent while they are rebuilt: no ``comm_open`` (the page has the models) and no state (the page shows it).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from .place import current

# Made anew with the widget, or meaningless away from its process.
_LEFT_OUT = frozenset({"comm", "log", "keys"})
_TRANSIENT = {"_property_lock": dict, "_states_to_send": set}


def library() -> Any:
    """ipywidgets' base module, where the user's session has loaded it."""
    return sys.modules.get("ipywidgets.widgets.widget")


def reducer_for(kind: type) -> Any:
    loaded = library()
    if loaded is not None and issubclass(kind, loaded.Widget):
        return reduce_widget
    comm = sys.modules.get("comm.base_comm")
    if comm is not None and issubclass(kind, comm.BaseComm):
        return reduce_comm
    traitlets = sys.modules.get("traitlets.traitlets")
    if traitlets is not None and issubclass(kind, traitlets.HasTraits):
        return reduce_has_traits
    return None


def reduce_shell(carrier: Any, shell: Any) -> Any:
    return get_shell, ()


def reduce_widget(carrier: Any, widget: Any) -> Any:
    carrier.needs("ipywidgets")
    state = _state(widget)
    comm = widget.comm
    # The identifier last: with it the widget is on the air.
    state["comm"] = None if comm is None else (comm.comm_id, comm.target_name)
    return make_widget, (type(widget),), state, None, None, fill_widget


def reduce_has_traits(carrier: Any, value: Any) -> Any:
    """Other objects with traits: like pickling them, and with the observers that were added to this one."""
    if not _pickles_as_declared(type(value)):
        return NotImplemented
    return make_widget, (type(value),), _state(value), None, None, fill_widget


def _pickles_as_declared(kind: Any) -> bool:
    """Whether the type has no way of its own of being pickled beside the one of all objects with traits."""
    traits = sys.modules["traitlets.traitlets"].HasTraits
    if kind.__reduce_ex__ is not object.__reduce_ex__ or kind.__reduce__ is not object.__reduce__:
        return False
    return kind.__getstate__ is traits.__getstate__ and kind.__setstate__ is traits.__setstate__


def _state(value: Any) -> dict[str, Any]:
    contents = value.__getstate__()
    traits = {name: item for name, item in contents.pop("_trait_values").items() if name not in _LEFT_OUT}
    for name, empty in _TRANSIENT.items():
        if name in traits:
            traits[name] = empty()
    contents.pop("comm", None)
    extra = [name for name in value.traits() if not hasattr(type(value), name)]
    if extra:
        contents["_computehub_added"] = {name: value.traits()[name] for name in extra}
    return {"contents": contents, "traits": traits, "observers": _observers(value)}


def _observers(value: Any) -> list[tuple[Any, Any, list[Any]]]:
    """What ``observe`` added by hand; what the class declares comes with the class."""
    handler_type = sys.modules["traitlets.traitlets"].EventHandler
    found = []
    for name, by_type in value._trait_notifiers.items():
        for kind, handlers in by_type.items():
            added = [handler for handler in handlers if not isinstance(handler, handler_type)]
            if added:
                found.append((name, kind, added))
    return found


def reduce_comm(carrier: Any, comm: Any) -> Any:
    state = (comm._msg_callback, comm._close_callback)
    return make_comm, (comm.comm_id, comm.target_name), state, None, None, fill_comm


def live_widgets() -> list[Any]:
    """All widgets that a page may show, also those that no name holds."""
    loaded = library()
    instances = getattr(loaded, "_instances", None) if loaded is not None else None
    return list(instances.values()) if instances else []


# --- the other halves


def get_shell() -> Any:
    return importlib.import_module("IPython").get_ipython()


def make_widget(kind: Any) -> Any:
    return kind.__new__(kind)


def fill_widget(made: Any, state: dict[str, Any]) -> None:
    contents = state["contents"]
    added = contents.pop("_computehub_added", None)
    contents["_trait_values"] = {**made._trait_values, **state["traits"]}
    made.__setstate__(contents)
    if added:
        made.add_traits(**added)
        made._trait_values.update({name: state["traits"][name] for name in added if name in state["traits"]})
    for name, kind, handlers in state["observers"]:
        for handler in handlers:
            made._add_notifiers(handler, name, kind)
    if state.get("comm") is not None:
        made.comm = make_comm(*state["comm"])
        current().undo.append(lambda: _take_off_the_air(made))


def _take_off_the_air(widget: Any) -> None:
    """Forget a widget of a restore that failed, without telling the page, which still shows the old one."""
    widget.comm._closed = True
    loaded = library()
    if loaded is not None:
        loaded._instances.pop(widget.comm.comm_id, None)


def make_comm(comm_id: str, target_name: str) -> Any:
    """A comm that the page has open already."""
    package = importlib.import_module("comm")
    made = package.create_comm(comm_id=comm_id, target_name=target_name, primary=False)
    if getattr(made, "kernel", made) is None:
        # Set when a comm first speaks; until then a widget believes that nobody listens.
        made.kernel = getattr(get_shell(), "kernel", None)
    manager = package.get_comm_manager()
    manager.register_comm(made)

    def undo() -> None:
        made._closed = True
        manager.comms.pop(comm_id, None)

    current().undo.append(undo)
    return made


def fill_comm(made: Any, state: tuple[Any, Any]) -> None:
    made.on_msg(state[0])
    made.on_close(state[1])
