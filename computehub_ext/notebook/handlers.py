"""Kernels and switches over REST: the part of ``api/computehub/v1/`` that only the notebook's own server can answer."""

from __future__ import annotations

from typing import Any, cast

from computehub_ext.core.actor import Via
from computehub_ext.core.errors import Forbidden, IllegalMove, Invalid, NotFound
from computehub_ext.core.web import ComputeHubHandler, authorized
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import SwitchRequest, SwitchUnderWay
from computehub_ext.notebook.preview import preview
from computehub_ext.notebook.seen import place_of
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

    async def place_of(self, kernel_id: str) -> dict[str, Any]:
        return await place_of(self.plane, self.actor, self.kernel(kernel_id), await self.notebook_of(kernel_id))

    async def wanted(self) -> tuple[SwitchableKernelManager, str | None, SwitchRequest]:
        """The kernel and the notebook that the body is about, and what it asks for them."""
        wanted = dict(self.body())
        kernel_id, notebook_path = wanted.pop("kernel_id", None), wanted.pop("notebook_path", None)
        if kernel_id is None and notebook_path is None:
            raise Invalid("Say which notebook: give kernel_id or notebook_path.", field="kernel_id")
        if kernel_id is None:
            kernel_id = await self.kernel_of(notebook_path)
        kernel = self.kernel(kernel_id)
        given = {name: value for name, value in wanted.items() if value is not None}
        return kernel, await self.notebook_of(kernel_id) or notebook_path, SwitchRequest(**given)


class KernelHandler(NotebookHandler):
    path = "kernels/{kernel_id}"

    @authorized("read", resource="computehub:kernels")
    async def get(self, kernel_id: str) -> None:
        self.reply(await self.place_of(kernel_id))


class KeepHandler(NotebookHandler):
    path = "kernels/{kernel_id}/keep"

    @authorized("write", resource="computehub:kernels")
    async def post(self, kernel_id: str) -> None:
        self.body()
        self.only_via(Via.BROWSER, Via.TOKEN, reason="A kernel can't say that somebody is here; its running cells do.")
        kernel = self.kernel(kernel_id)
        if getattr(kernel, "lease_id", None) is None:
            raise IllegalMove("This notebook is on the CPU, from which nothing is taken.")
        if kernel.switch is not None:
            raise SwitchUnderWay("This notebook is moving already.", switch_id=kernel.switch.id)
        await self.plane.keep_lease(lease_id=kernel.lease_id)
        self.reply(await self.place_of(kernel_id))


class SwitchesHandler(NotebookHandler):
    path = "switches"

    @authorized("write", resource="computehub:switches")
    async def post(self) -> None:
        key, wanted = self.idempotency_key, await self.wanted()
        switch = await self.switches.begin(self.actor, key, *wanted)
        self.reply(switch, status=202, location=f"switches/{switch['id']}")


class PreviewHandler(NotebookHandler):
    path = "switches/preview"

    @authorized("write", resource="computehub:switches")
    async def post(self) -> None:
        self.reply(await preview(self.switches, self.actor, *await self.wanted()))


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


# The preview's address goes before that of a switch, which it would be taken for.
HANDLERS: tuple[type[ComputeHubHandler], ...] = (
    KernelHandler,
    KeepHandler,
    SwitchesHandler,
    PreviewHandler,
    SwitchHandler,
    CancelSwitchHandler,
)
