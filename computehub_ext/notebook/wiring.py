"""Into a Jupyter server and out of it again.

The order of ``ServerApp.initialize`` decides what can be set when:

1. ``init_server_extensions`` *links* each extension (``_link_jupyter_server_extension``);
2. ``init_configurables`` builds the kernel and session managers from the classes that are configured by then;
3. ``init_webapp`` puts the websocket's class into the application's settings;
4. ``load_server_extensions`` *loads* each extension (``_load_jupyter_server_extension``), now with managers and routes;
5. with the loop running, ``_start_jupyter_server_extension``.

So ``link`` must be called in the first step: then plain ``jupyter lab`` gets our managers without a config file. What
an administrator has configured stays; ``setup`` says so where that takes the product away.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from traitlets.config import Config

from computehub_ext.core.web import route
from computehub_ext.notebook.saved import SavedKernels, state_dir_of

KERNEL_MANAGER = "computehub_ext.notebook.kernels.ComputeHubKernelManager"
CONNECTION = "computehub_ext.notebook.websocket.GatedConnection"


def link(serverapp: Any) -> None:
    """Set which managers the server will build; called when the extension is linked."""
    config = serverapp.config
    if config.GatewayClient.get("url") or config.GatewayWebSocketConnection:
        serverapp.log.warning("ComputeHub moves no kernels of a kernel gateway.")
        return
    ours = Config()
    if "kernel_manager_class" not in config.ServerApp:
        ours.ServerApp.kernel_manager_class = KERNEL_MANAGER
    if "kernel_websocket_connection_class" not in config.ServerApp:
        ours.ServerApp.kernel_websocket_connection_class = CONNECTION
    saved = SavedKernels(_state_dir(serverapp))
    serverapp.computehub_saved = saved
    if saved.open() and "database_filepath" not in config.SessionManager:
        # Sessions must be found again with their kernels. A second server on this folder keeps its own in memory: it
        # would take those of the first for stale, whose kernels it does not know, and drop them.
        ours.SessionManager.database_filepath = str(saved.folder / "sessions.sqlite")
    serverapp.update_config(ours)


def _state_dir(serverapp: Any) -> Path:
    chosen = serverapp.config.ComputeHubKernelManager.get("state_dir")
    return Path(chosen) if chosen else state_dir_of(serverapp.root_dir)


def setup(serverapp: Any, plane: Any) -> None:
    """Join a server that was linked to the control plane; called when the extension is loaded, before any request."""
    from computehub_ext.notebook.handlers import HANDLERS
    from computehub_ext.notebook.kernels import ComputeHubKernelManager
    from computehub_ext.notebook.switches import Switches
    from computehub_ext.notebook.websocket import GatedConnection

    manager = serverapp.kernel_manager
    if not isinstance(manager, ComputeHubKernelManager) or not issubclass(
        serverapp.kernel_websocket_connection_class, GatedConnection
    ):
        serverapp.log.warning(
            "ComputeHub moves no notebooks here: ServerApp.kernel_manager_class must be %s (or a subclass) and "
            "ServerApp.kernel_websocket_connection_class %s.",
            KERNEL_MANAGER,
            CONNECTION,
        )
        return
    switches = Switches(manager)
    settings = serverapp.web_app.settings
    settings["computehub_switches"] = switches
    settings["computehub_kernel_actor"] = manager.kernel_actor
    settings["computehub_lease_is_here"] = manager.has_lease
    manager.join(plane, switches)
    _add_routes(serverapp.web_app, [route(serverapp.base_url, handler) for handler in HANDLERS])
    for kernel in manager.survival.remember():
        serverapp.io_loop.add_callback(manager.survival.take_up, kernel)


def _add_routes(web_app: Any, routes: list[Any]) -> None:
    """Add routes in front of those that answer for unknown addresses, whichever was added first."""
    rules = web_app.default_router.rules
    before = list(rules)
    web_app.add_handlers(".*$", routes)
    added = [rule for rule in rules if rule not in before]
    rules[:] = [*added, *before]


async def stop(serverapp: Any, *, end_leases: bool) -> None:
    """Let go of leased kernels, or end them; called before the control plane closes.

    'Shut Down' in the browser ends them in any case: it does not go through the server's ``stop``.
    """
    manager = serverapp.kernel_manager
    if hasattr(manager, "part"):
        by_signal = getattr(serverapp, "_stopping", False)
        with contextlib.suppress(asyncio.CancelledError):
            await manager.part(end_leases=end_leases or not by_signal)
