"""What kernels asked to spend above the allowance, and the person's answer."""

from __future__ import annotations

from computehub_ext.core.actor import Via
from computehub_ext.core.web import ComputeHubHandler, authorized


class ApprovalsHandler(ComputeHubHandler):
    path = "approvals"

    @authorized("read", resource="computehub:approvals")
    async def get(self) -> None:
        self.reply(await self.plane.approvals(self.actor))


class ApprovalHandler(ComputeHubHandler):
    path = "approvals/{approval_id}"

    @authorized("read", resource="computehub:approvals")
    async def get(self, approval_id: str) -> None:
        self.reply(await self.plane.approval(self.actor, **self.arguments))


class DecisionHandler(ComputeHubHandler):
    """Base of both decisions. A token is no proof that a person is looking, so it does not decide."""

    approve: bool

    @authorized("write", resource="computehub:approvals")
    async def post(self, approval_id: str) -> None:
        self.only_via(Via.BROWSER, reason="An approval is given in the browser, where you are logged in.")
        self.body()
        self.reply(await self.plane.decide_approval(self.actor, **self.arguments, approve=self.approve))


class ApproveHandler(DecisionHandler):
    path = "approvals/{approval_id}/approve"
    approve = True


class DeclineHandler(DecisionHandler):
    path = "approvals/{approval_id}/decline"
    approve = False
