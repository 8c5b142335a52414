"""Leased kernels outlive their server: what is written down of them, and how a new server takes them up again."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from jupyter_server._tz import utcnow
from tornado import web

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.places import LeasedPlace
from computehub_ext.notebook.provisioner import SwitchProvisioner
from computehub_ext.notebook.saved import SavedKernels


class Survival:
    """Saves, finds and lets go of the leased kernels of one manager.

    Parameters
    ----------
    manager:
        The server's :class:`~computehub_ext.notebook.kernels.ComputeHubKernelManager`.
    """

    def __init__(self, manager: Any, saved: SavedKernels) -> None:
        self._manager, self._saved = manager, saved

    def save(self, kernel: SwitchableKernelManager) -> None:
        """Write down what it takes to find a leased kernel again; forget one that is here.

        One that has just come back is forgotten when its lease is released: a server that is killed in between would
        leave a lease that runs on, and that nobody knows of.
        """
        if isinstance(kernel.place, LeasedPlace):
            self._saved.put(kernel.kernel_id, self._record(kernel, kernel.place))
        elif kernel.switch is None or kernel.switch.to_gpu:
            self.forget(kernel.kernel_id)

    async def intend(self, kernel: SwitchableKernelManager, place: LeasedPlace) -> None:
        """Write down a kernel that is to be moved to a lease, before anything is paid for it.

        A server that is killed between the first payment and the swap would otherwise leave a lease that nobody uses.
        """
        written = self._saved.put(kernel.kernel_id, self._record(kernel, place))
        if written is not None:
            await asyncio.wrap_future(written)

    def _record(self, kernel: SwitchableKernelManager, place: LeasedPlace) -> dict[str, Any]:
        arguments = kernel.launch_arguments
        person = kernel.traffic.executor or kernel.traffic.starter
        return {
            "kernel_name": kernel.kernel_name,
            "lease_id": place.lease_id,
            **place.as_json(),
            "key": kernel.session.key.decode(),
            "relay_ports": kernel.relay.ports,
            "cwd": str(arguments.get("cwd") or os.getcwd()),
            "session_name": arguments.get("env", {}).get("JPY_SESSION_NAME", ""),
            "token_hashes": self._manager.hashes_of(kernel.kernel_id),
            "payer": kernel.payer,
            "person": _written(person),
            "moved_by": _written(kernel.moved_by),
        }

    def forget(self, kernel_id: str, lease_id: str | None = None) -> None:
        """With ``lease_id`` only what it was on that lease: it may be on its way to another one."""
        if lease_id is None or self._saved.load().get(kernel_id, {}).get("lease_id") == lease_id:
            self._saved.drop(kernel_id)

    def close(self) -> None:
        self._saved.close()

    def remember(self) -> list[SwitchableKernelManager]:
        """List the kernels of the server before: before any request, or their sessions would be dropped as stale."""
        if not self._saved.open():
            return []
        found = []
        for kernel_id, saved in self._saved.load().items():
            try:
                found.append(self._remembered(kernel_id, saved))
            except Exception:
                self._manager.log.exception("kernel %s can't be taken up; its lease ends unpaid", kernel_id)
        return found

    def _remembered(self, kernel_id: str, saved: dict[str, Any]) -> SwitchableKernelManager:
        manager = self._manager
        kernel = cast(
            SwitchableKernelManager, manager.pre_start_kernel(saved["kernel_name"], {"kernel_id": kernel_id})[0]
        )
        kernel.kernel_id = kernel_id
        kernel.session.key = saved["key"].encode()
        kernel._attempted_start = True
        manager.know_tokens(kernel_id, saved["token_hashes"])
        environment = {**manager.kernel_env(kernel_id, None), "JPY_SESSION_NAME": saved["session_name"]}
        arguments: dict[str, Any] = {"env": environment, "cwd": saved["cwd"]}
        kernel._launch_args = arguments
        provisioner = SwitchProvisioner(kernel_id=kernel_id, kernel_spec=kernel.kernel_spec, parent=kernel)
        kernel.adopt(provisioner)
        if saved.get("person"):
            kernel.traffic.starter = Actor(via=Via.TOKEN, **saved["person"])
        if saved.get("moved_by"):
            kernel.moved_by = Actor(via=Via.TOKEN, **saved["moved_by"])
        kernel.lease_id, kernel.payer = saved["lease_id"], saved["payer"]
        provisioner.place = LeasedPlace(manager.plane, saved["lease_id"], saved)
        kernel.execution_state, kernel.reason, kernel.last_activity = "starting", "", utcnow()
        kernel.remembered_ports = saved["relay_ports"]
        manager._kernels[kernel_id] = kernel
        manager._kernel_connections[kernel_id] = 0
        return kernel

    async def take_up(self, kernel: SwitchableKernelManager) -> None:
        """Connect to a kernel that was remembered, if it still runs."""
        manager, place, kernel_id = self._manager, kernel.place, kernel.kernel_id
        assert isinstance(place, LeasedPlace)
        if await place.poll() is not None or not await self._is_paid(place.lease_id):
            await self._give_up(kernel, place)
            return
        manager.open_door(place)
        environment = kernel.launch_arguments.get("env", {})
        kernel.open_relay(jupyter_session=environment.get("JPY_SESSION_NAME", ""), ports=kernel.remembered_ports)
        kernel.switchable.connection_info = kernel.get_connection_info()
        kernel.place_changed()
        kernel.start_restarter()
        kernel._connect_control_socket()
        kernel.ready.set_result(None)
        await manager._finish_kernel_start(kernel_id)
        if not manager._initialized_culler:
            manager.initialize_culler()
        manager.log.info("Found the leased kernel %s again", kernel_id)

    async def _is_paid(self, lease_id: str) -> bool:
        """Whether the move to this lease was completed as far as it concerns the books."""
        try:
            lease = await self._manager.plane.lease_by_id(lease_id=lease_id)
        except ComputeHubError as error:
            self._manager.log.warning("lease %s of a leased kernel can't be read: %s", lease_id, error)
            return True  # nobody can tell: taken for unpaid, a kernel that is paid for would be given up
        return lease["state"] == "running"

    async def _give_up(self, kernel: SwitchableKernelManager, place: LeasedPlace) -> None:
        manager, kernel_id = self._manager, kernel.kernel_id
        why = place.died or "The server was stopped before the notebook had moved."
        manager.log.warning("the leased kernel %s is not taken up: %s", kernel_id, why)
        place.close_door()
        kernel.lease_id = None
        manager.remove_kernel(kernel_id)
        manager._kernel_connections.pop(kernel_id, None)
        await manager.released(place.lease_id, "kernel_died" if place.died else "cancelled", why)
        kernel.ready.set_exception(web.HTTPError(404, "The kernel ended while the server was away."))
        kernel.ready.exception()

    async def let_go(self, kernel: SwitchableKernelManager) -> None:
        """Leave a leased kernel running, for a server after this one."""
        if kernel.switch is not None:
            await kernel.switch.stop("The server was stopped.")
        kernel.stop_restarter()
        self._manager.stop_watching_activity(kernel.kernel_id)
        self._manager.stop_buffering(kernel.kernel_id)
        await kernel.drop_way_back()
        kernel.disconnect()
        if isinstance(kernel.place, LeasedPlace):
            kernel.place.close_door()
        kernel._close_control_socket()
        kernel.cleanup_connection_file()
        self._manager._kernels.pop(kernel.kernel_id, None)


def _written(person: Actor | None) -> dict[str, str] | None:
    """By name alone: how they were connected does not outlive the server."""
    return None if person is None else {"username": person.username, "display_name": person.display_name}
