"""The REST API, its contract, and the account page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def register(
    serverapp: Any, plane: Any, *, identity: str, admins: Collection[str], rate_limits: Mapping[str, str]
) -> None:
    """Put the API into a Jupyter server. Called before any request, and before the control plane is open.

    Where the notebook wing has joined the server before, its moves are told on the event bus as well.

    Parameters
    ----------
    plane:
        The control plane's facade; told when it was opened, so that the event bus can follow it.
    identity:
        Who pays, as the administrator chose: ``auto``, ``owner`` or ``person``.
    admins:
        Who may see and end everybody's leases.
    rate_limits:
        By route class, such as ``{"write": "120/minute"}``.
    """
    from computehub_ext.api import events, routes
    from computehub_ext.api.identity import Identity, mode

    routes.register(
        serverapp.web_app,
        serverapp.base_url,
        plane=plane,
        identity=Identity(mode(serverapp.identity_provider, identity), admins=admins),
        rate_limits=rate_limits,
    )
    bus = events.Events(serverapp.event_logger)
    switches = serverapp.web_app.settings.get("computehub_switches")
    if switches is not None:
        switches.listeners.append(bus.switch_changed)
    plane.on_open(lambda opened: bus.follow(opened.listen) if hasattr(type(opened), "listen") else None)
