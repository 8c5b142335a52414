"""You: balance, allowance and defaults."""

from __future__ import annotations

from computehub_ext.core.actor import Via
from computehub_ext.core.web import ComputeHubHandler, authorized


class MeHandler(ComputeHubHandler):
    path = "me"

    @authorized("read", resource="computehub:people")
    async def get(self) -> None:
        self.reply(await self.plane.me(self.actor))


class AllowanceHandler(ComputeHubHandler):
    path = "me/allowance"

    @authorized("write", resource="computehub:people")
    async def put(self) -> None:
        self.only_via(Via.BROWSER, Via.TOKEN, reason="A kernel can't change its own allowance; open your account page.")
        self.reply(await self.plane.set_allowance(self.actor, **self.body()))


class DefaultsHandler(ComputeHubHandler):
    path = "me/defaults"

    @authorized("read", resource="computehub:people")
    async def get(self) -> None:
        self.reply(await self.plane.defaults(self.actor))

    @authorized("write", resource="computehub:people")
    async def put(self) -> None:
        self.only_via(
            Via.BROWSER, Via.TOKEN, reason="A kernel can't change your defaults; set them in the browser or the shell."
        )
        self.reply(await self.plane.set_defaults(self.actor, **self.body()))
