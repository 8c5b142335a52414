"""The moves of this server: begun once per key, found by id, drawn in the notebook at each step."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import Forbidden, IdempotencyMismatch, IllegalMove, Invalid, NotFound
from computehub_ext.core.replayed import Replayed
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.moves import SwitchRequest
from computehub_ext.notebook.switch import Switch

log = logging.getLogger(__name__)

KEPT_MAX = 500


class Switches:
    """Begins and remembers moves; they live as long as this server."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._by_id: OrderedDict[str, Switch] = OrderedDict()
        self._by_key: dict[tuple[str, str], tuple[str, Switch]] = {}
        self.listeners: list[Callable[[Switch], None]] = []

    def add(self, switch: Switch) -> None:
        self._by_id[switch.id] = switch
        while len(self._by_id) > KEPT_MAX:
            old_id, old = self._by_id.popitem(last=False)
            self._by_key = {key: kept for key, kept in self._by_key.items() if kept[1].id != old_id}
            assert old.ended or old.kernel.switch is not old, "hundreds of moves at once are a bug"

    def find(self, actor: Actor, switch_id: str) -> Switch:
        switch = self._by_id.get(switch_id)
        if switch is None or not _may_see(actor, switch):
            raise NotFound(
                f"There is no switch {switch_id} of yours; the notebook's server remembers moves until it stops.",
                switch_id=switch_id,
            )
        return switch

    async def begin(
        self,
        actor: Actor,
        key: str,
        kernel: SwitchableKernelManager,
        notebook_path: str | None,
        request: SwitchRequest,
    ) -> dict[str, Any]:
        """Begin a move, or answer again for the key that began it."""
        asked = json.dumps([kernel.kernel_id, asdict(request)], sort_keys=True, default=list)
        known = self._by_key.get((actor.username, key))
        if known is not None:
            if known[0] != asked:
                raise IdempotencyMismatch("This Idempotency-Key came with another switch before.", key=key)
            return Replayed(known[1].as_json())
        await self.refuse_senseless(actor, kernel, request)
        switch = Switch(kernel, actor, request, key=f"switch:{key}", notebook_path=notebook_path)
        switch.on_change = self.changed
        await switch.begin()
        self.add(switch)
        self._by_key[actor.username, key] = asked, switch
        return switch.as_json()

    async def refuse_senseless(self, actor: Actor, kernel: SwitchableKernelManager, request: SwitchRequest) -> None:
        """Refuse a move that needs no look into the books to be impossible."""
        if actor.via is Via.KERNEL and actor.kernel_id != kernel.kernel_id:
            raise Forbidden("A kernel may move its own notebook only.")
        reason = kernel.why_not_switchable
        if reason is not None or kernel.place is None:
            raise Invalid(reason or "This kernel is not running.", field="kernel_id")
        if request.target == "gpu" and kernel.lease_id is not None:
            raise IllegalMove("This notebook is on a GPU already.", lease_id=kernel.lease_id)
        if request.target == "cpu":
            if kernel.lease_id is None:
                raise IllegalMove("This notebook is on the CPU already.")
            await self._manager.plane.lease(actor, lease_id=kernel.lease_id)  # refuses whoever does not own it
        if request.strict and request.accept_loss:
            # Both can't be meant; the careful one wins in the switch, and is named here.
            log.debug("strict wins over accept_loss")

    def changed(self, switch: Switch) -> None:
        """Draw the switch's card anew. What goes wrong in drawing must not stop a move."""
        from computehub_ext.kernel import card

        try:
            bundle = card.render(switch.as_json(), switch.lease)
            switch.kernel.traffic.show(switch.display_id, bundle, switch.parent)
            for listener in self.listeners:
                listener(switch)
        except Exception:
            log.exception("the card of switch %s could not be drawn", switch.id)


def _may_see(actor: Actor, switch: Switch) -> bool:
    if actor.via is Via.KERNEL and actor.kernel_id != switch.kernel.kernel_id:
        return False
    return actor.is_admin or actor.username == switch.actor.username
