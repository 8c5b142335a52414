"""The REST API, its contract, and the account page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from computehub_ext.app import ComputeHub


def register(app: ComputeHub) -> None:
    """Put the API into the server of ``app``. Called before any request, and before the control plane is open.

    Where the notebook wing has joined the server before, its moves are told on the event bus as well.
    """
    from computehub_ext.api import events, identity, routes

    server = app.serverapp
    assert server is not None, "an extension without its server"
    who = identity.mode(server.identity_provider, app.identity)
    routes.register(
        server.web_app,
        server.base_url,
        plane=app.plane,
        identity=identity.Identity(who, admins=app.admin_users),
        rate_limits=app.rate_limits,
    )
    bus = events.Events(server.event_logger)
    switches = server.web_app.settings.get("computehub_switches")
    if switches is not None:
        switches.listeners.append(bus.switch_changed)
    app.plane.on_open(lambda plane: bus.follow(plane.listen) if hasattr(type(plane), "listen") else None)
