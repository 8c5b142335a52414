"""Kernels and switches over REST: the part of ``api/computehub/v1/`` that only the notebook's own server can answer."""

from __future__ import annotations

from typing import Any, cast

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import Forbidden, Invalid, NotFound
from computehub_ext.core.web import ComputeHubHandler, authorized
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import SwitchRequest
from computehub_ext.notebook.switches import Switches


class NotebookHandler(ComputeHubHandler):
    """Base of the handlers here: finds kernels and notebooks of this server."""

    @property
    def switches(self) -> Switches:
        found: Switches = self.settings["computehub_switches"]
        return found

    def kernel(self, kernel_id: str) -> SwitchableKernelManager:
        if self.actor.via is Via.KERNEL and self.actor.kernel_id != kernel_id:
            raise Forbidden("A kernel may ask about itself only.")
        if kernel_id not in self.kernel_manager:
            raise NotFound(f"There is no kernel {kernel_id} on this server.", kernel_id=kernel_id)
        return cast(SwitchableKernelManager, self.kernel_manager.get_kernel(kernel_id))

    async def notebook_of(self, kernel_id: str) -> str | None:
        for session in await self.session_manager.list_sessions():
            if (session.get("kernel") or {}).get("id") == kernel_id:
                return str(session["path"])
        return None

    async def kernel_of(self, notebook_path: str) -> str:
        for session in await self.session_manager.list_sessions():
            if session.get("path") == notebook_path.lstrip("/") and session.get("kernel"):
                return str(session["kernel"]["id"])
        raise NotFound(f"No kernel runs for {notebook_path}: open the notebook first.", notebook_path=notebook_path)


class KernelHandler(NotebookHandler):
    path = "kernels/{kernel_id}"

    @authorized("read", resource="computehub:kernels")
    async def get(self, kernel_id: str) -> None:
        kernel = self.kernel(kernel_id)
        switch = kernel.switch
        lease = await self._own_lease(self.actor, getattr(kernel, "lease_id", None))
        shown = switch is not None and (self.actor.is_admin or switch.actor.username == self.actor.username)
        self.reply(
            {
                "kernel_id": kernel_id,
                "place": "gpu" if getattr(kernel, "lease_id", None) is not None else "cpu",
                "notebook_path": await self.notebook_of(kernel_id),
                "lease": lease,
                "switch": switch.as_json() if shown else None,
            }
        )

    async def _own_lease(self, actor: Actor, lease_id: str | None) -> dict[str, Any] | None:
        """The lease, for its owner: what somebody else pays is not for everybody who shares the notebook."""
        if lease_id is None:
            return None
        try:
            lease: dict[str, Any] = await self.plane.lease(actor, lease_id=lease_id)
        except (NotFound, Forbidden):
            return None
        return lease


class SwitchesHandler(NotebookHandler):
    path = "switches"

    @authorized("write", resource="computehub:switches")
    async def post(self) -> None:
        key, wanted = self.idempotency_key, dict(self.body())
        kernel_id, notebook_path = wanted.pop("kernel_id", None), wanted.pop("notebook_path", None)
        if (kernel_id is None) == (notebook_path is None) and kernel_id is None:
            raise Invalid("Say which notebook: give kernel_id or notebook_path.", field="kernel_id")
        if kernel_id is None:
            kernel_id = await self.kernel_of(notebook_path)
        kernel = self.kernel(kernel_id)
        notebook_path = await self.notebook_of(kernel_id) or notebook_path
        given = {name: value for name, value in wanted.items() if value is not None}
        switch = await self.switches.begin(self.actor, key, kernel, notebook_path, SwitchRequest(**given))
        self.reply(switch, status=202, location=f"switches/{switch['id']}")


class SwitchHandler(NotebookHandler):
    path = "switches/{switch_id}"

    @authorized("read", resource="computehub:switches")
    async def get(self, switch_id: str) -> None:
        self.reply(self.switches.find(self.actor, switch_id).as_json())


class CancelSwitchHandler(NotebookHandler):
    path = "switches/{switch_id}/cancel"

    @authorized("write", resource="computehub:switches")
    async def post(self, switch_id: str) -> None:
        self.body()
        switch = self.switches.find(self.actor, switch_id)
        switch.cancel_now()
        await switch.finished()
        self.reply(switch.as_json())


HANDLERS: tuple[type[ComputeHubHandler], ...] = (KernelHandler, SwitchesHandler, SwitchHandler, CancelSwitchHandler)
