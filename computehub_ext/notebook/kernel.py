"""One kernel whose place can change behind its id."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import zmq
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import BackendError, ComputeHubError
from computehub_ext.notebook import staging, wire
from computehub_ext.notebook.code import Line
from computehub_ext.notebook.places import CpuPlace, LeasedPlace, Place
from computehub_ext.notebook.provisioner import SwitchProvisioner
from computehub_ext.notebook.relay import Relay
from computehub_ext.notebook.traffic import Traffic
from computehub_ext.notebook.websocket import close_all
from computehub_ext.notebook.wire import ShellRequest, Subscription

HEARD_SECONDS = 0.5
HEARD_ATTEMPTS_MAX = 40
SETTLED_SECONDS = 8.0
"""A kernel that does not end by itself is given 5 seconds before it is killed."""
CONNECTION_CHANNELS = ("shell", "iopub", "stdin", "control", "hb")


class SwitchableKernelManager(ServerKernelManager):
    """Jupyter's manager of one kernel, for a kernel that runs now here and now on a lease.

    Its ports, and so the connection file, are those of the relay and stay; its ``connect_*`` methods lead to the kernel
    in place. ``traffic`` is None for a kernel that can't be switched, which is then Jupyter's alone.
    """

    traffic: Any = None
    """The kernel's :class:`Traffic`; None for a kernel that can't be switched."""
    relay: Any = None
    _activity_stream: Any = None
    line: Line | None = None
    switch: Any = None
    """The move that is under way, if any."""
    remembered_ports: Mapping[str, int] = {}
    """Of the relay that a server before this one had."""
    way_back: Place | None = None
    """The kernel before the last move, kept until the new one has shown that it works."""
    lease_id: str | None = None
    last_lease_id: str | None = None
    """That of the kernel that died last, until the notebook moves again."""
    payer: str | None = None
    moved_by: Actor | None = None
    """Who asked for the last move; None where nobody did."""
    leaving: asyncio.Task[Any] | None = None
    """Settles the lease that the notebook was last on, or was to be."""
    way_back_keeper: asyncio.Task[None] | None = None
    has_left = False
    _greeting: asyncio.Task[None] | None = None

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def place(self) -> Place | None:
        return self.provisioner.place if isinstance(self.provisioner, SwitchProvisioner) else None

    @property
    def kernels(self) -> Any:
        """All kernels of the server, this one among them."""
        return self.parent

    @property
    def launch_arguments(self) -> dict[str, Any]:
        """What the kernel was started with, for starting another one like it."""
        arguments: Any = self._launch_args
        return dict(arguments or {})

    @property
    def switchable(self) -> SwitchProvisioner:
        assert isinstance(self.provisioner, SwitchProvisioner)
        return self.provisioner

    @property
    def plane(self) -> Any:
        return self.kernels.plane

    @property
    def why_not_switchable(self) -> str | None:
        """A sentence for a kernel that must stay where it is."""
        spec = self.kernel_spec
        if spec is None or (spec.language or "").lower() != "python":
            name = spec.display_name if spec is not None else self.kernel_name
            return f"Only Python kernels can move to a GPU with their variables, and this one is “{name}”."
        provisioner = spec.metadata.get("kernel_provisioner", {}).get("provisioner_name", "computehub")
        if provisioner != "computehub":
            return (
                f"“{spec.display_name}” is started by the provisioner {provisioner}, so it can't be moved from there."
            )
        if self.transport != "tcp":
            return "Kernels that are reached over files (transport ipc) can't be moved."
        return None

    # -- start and end -------------------------------------------------------------------------------------------------

    async def _async_pre_start_kernel(self, **kw: Any) -> Any:
        if self.provisioner is None and self.why_not_switchable is None:
            self.kernel_id = self.kernel_id or kw.pop("kernel_id", None)
            self.adopt(SwitchProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self))
        return await super()._async_pre_start_kernel(**kw)

    def adopt(self, provisioner: SwitchProvisioner) -> None:
        self.provisioner = provisioner
        self.traffic = Traffic(self.kernel_id, self.session)
        self.kernels.attach(self)

    def open_relay(self, *, jupyter_session: str = "", ports: Mapping[str, int] | None = None) -> None:
        """Open the ports that the connection file names, once for this kernel's whole life, and write that file."""
        if self.relay is None:
            public, secret = self.curve_publickey, self.curve_secretkey
            curve = (public, secret) if public is not None and secret is not None else None
            self.relay = Relay(self.context, self.session, self.traffic, self.ip, ports or {}, curve)
            self.traffic.relay = self.relay
            for channel in CONNECTION_CHANNELS:
                setattr(self, f"{channel}_port", self.relay.ports[channel])
        self.write_connection_file(jupyter_session=jupyter_session)

    def place_changed(self) -> None:
        """A kernel was started or restarted in place: connect everybody to it, and run our code in it before theirs."""
        assert self.place is not None
        info = self.place.connection_info
        line = Line(self.context, info, self.session)
        self._open_line(line)
        self.traffic.subshells.clear()
        relayed = self.relay.stage(info)
        self.relay.move(info, iopub=relayed.stream if relayed is not None else None)
        self.relay.alive = True
        for connection in list(self.traffic.connections):
            streams, _ = connection.connected(info)
            connection.move(streams, keep_old=False)
        self.kernels.kernel_moved(self, staging.connected_buffer(self, info))
        self._greet(line)

    def _open_line(self, line: Line) -> None:
        if self.line is not None:
            self.line.close()
        self.line = line

    def _greet(self, line: Line) -> None:
        self.traffic.shut()
        if self._greeting is not None:
            self._greeting.cancel()
        self._greeting = asyncio.ensure_future(self._run_greeting(line))

    async def _run_greeting(self, line: Line) -> None:
        try:
            await self.kernels.greet(line)
        except BackendError as error:
            self.log.warning("kernel %s has no %%gpu: %s", self.kernel_id, error)
        await self._all_heard()
        if self.switch is None and line is self.line:
            self.traffic.open()

    async def greeted(self) -> None:
        """Wait until our code has run in a kernel that was just started."""
        if self._greeting is not None:
            await asyncio.wait({self._greeting})  # which passes on that we are cancelled, and not that it was

    async def restart_kernel(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Restart where the kernel is; a kernel that died comes back empty on the CPU, or as it was before its move."""
        if self.traffic is None:
            return await super().restart_kernel(*args, **kwargs)
        kwargs.pop("newports", None)  # the relay's ports stay
        died = self.has_kernel and not await self.is_alive()
        reason = self.place.died if died and self.place is not None else None
        if self.switch is not None:
            await self.switch.stop(reason or "The kernel was restarted.")
        self.traffic.kernel_gone()
        try:
            if died and await self.kernels.after_death(self, reason or "The kernel ended by itself."):
                return None
        finally:
            self.traffic.tell_restart()
        if not died:
            await self.drop_way_back()
        try:
            return await super().restart_kernel(*args, **kwargs)
        except Exception as failure:
            self.traffic.abort(self.traffic.gate.reset())
            self.traffic.open()
            if isinstance(failure, ComputeHubError):
                self.execution_state, self.reason = "dead", failure.message
                self.traffic.publish("status", {"execution_state": "dead"}, {})
                self.traffic.say(failure.message)
            raise

    async def interrupt_kernel(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Interrupt the running cell. While the notebook moves this cancels the move as well."""
        if self.switch is not None:
            was_running = not self.traffic.gate.idle
            await self.switch.stop("Interrupted.", cancelled=True)
            if not was_running:
                return None
        return await super().interrupt_kernel(*args, **kwargs)

    async def shutdown_kernel(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        if self.switch is not None:
            await self.switch.stop("The kernel was shut down.", cancelled=True)
        return await super().shutdown_kernel(*args, **kwargs)

    async def start_kernel(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        try:
            return await super().start_kernel(*args, **kwargs)
        except BaseException:
            if self.traffic is not None:
                await self.left()
            raise

    async def left(self) -> None:
        """The kernel is gone for good: let go of all that was opened for it; twice is fine."""
        if self.has_left:
            return
        self.has_left = True
        await self.drop_way_back()
        self.disconnect()
        for connection in list(self.traffic.connections):
            connection.forget_old()
        if isinstance(self.place, CpuPlace):
            await self.place.end()
        await self.kernels.kernel_left(self)

    def disconnect(self) -> None:
        """Close the server's own connections to the kernel, and the ports for direct clients."""
        if self._greeting is not None:
            self._greeting.cancel()
        if self.line is not None:
            self.line.close()
        if self.relay is not None:
            self.relay.close()

    async def has_settled(self) -> None:
        """Wait until the lease before is settled, for a while: a kernel holds one at a time."""
        if self.leaving is not None:
            await asyncio.wait({self.leaving}, timeout=SETTLED_SECONDS)

    async def drop_way_back(self) -> None:
        """End the kernel that was kept to go back to."""
        place, self.way_back = self.way_back, None
        keeper, self.way_back_keeper = self.way_back_keeper, None
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
        if self.relay is not None:
            self.relay.forget_old()
        for connection in list(self.traffic.connections):
            connection.forget_old()
        if place is not None:
            with suppress(ComputeHubError):
                await place.end()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _create_connected_socket(self, channel: str, identity: bytes | None = None) -> Any:
        if self.place is None:
            return super()._create_connected_socket(channel, identity)
        context: zmq.Context[Any] = self.context
        socket = context.socket(wire.channel_socket_types[channel])  # of the class that the caller has set
        wire.prepare(socket, self.place.connection_info, identity)
        socket.connect(wire.address(self.place.connection_info, channel))
        return socket

    def send_for(self, request: ShellRequest) -> None:
        """Forward the request of a client that went away."""
        if self.line is not None:
            self.line.send(request.parts)
        else:
            self.traffic.finish(request.msg_id)

    async def heard(self, subscription: Subscription, info: Mapping[str, Any] | None = None) -> None:
        """Wait until the kernel knows of a subscription.

        ipykernel 7 announces it. An older kernel tells by its first message, for which it is asked a question on the
        control channel, which is answered even while a cell runs.
        """
        control: ZMQStream | None = None
        try:
            for _ in range(HEARD_ATTEMPTS_MAX):
                await asyncio.wait({subscription.heard}, timeout=HEARD_SECONDS)
                if subscription.heard.done() or subscription.stream.closed():
                    return
                info = info or (self.place.connection_info if self.place is not None else None)
                if control is None and info is not None:
                    control = wire.stream(wire.connect(self.context, info, "control"), "control")
                if control is not None:
                    self.session.send(control, "kernel_info_request")
            self.log.warning("kernel %s announced no subscription: output may be lost", self.kernel_id)
        finally:
            if control is not None:
                close_all({"control": control})

    async def _all_heard(self) -> None:
        """Wait until the kernel has heard of all who listen: it may answer before that, and what it says be lost."""
        waited: set[Subscription] = set()
        while unheard := [
            subscription
            for subscription in self._subscriptions()
            if subscription not in waited and not subscription.heard.done()
        ]:
            waited.update(unheard)
            await asyncio.gather(*(self.heard(subscription) for subscription in unheard))

    def _subscriptions(self) -> list[Subscription]:
        buffer = self.kernels._kernel_buffers.get(self.kernel_id) or {"channels": {}}
        channels = [buffer["channels"], *(connection.channels for connection in list(self.traffic.connections))]
        streams = [self._activity_stream, self.relay.iopub, *(streams.get("iopub") for streams in channels)]
        found = (getattr(stream, "subscription", None) for stream in streams)
        return [subscription for subscription in found if subscription is not None]

    # -- moving --------------------------------------------------------------------------------------------------------

    def commit(self, staged: staging.Staged, *, keep_old: bool) -> Place:
        """Change over, between two messages; returns the place before, which goes on running."""
        assert staged.activity is not None
        before = self.switchable.swap(staged.place)
        assert before is not None
        self._open_line(staged.line)
        self.traffic.subshells.clear()
        iopub = staged.relay.stream if staged.relay is not None else None
        self.relay.move(staged.place.connection_info, iopub=iopub, keep_old=keep_old)
        for connection in list(self.traffic.connections):
            if connection in staged.browsers:
                connection.move(staged.browsers.pop(connection)[0], keep_old=keep_old)
        for streams, _ in staged.browsers.values():
            close_all(streams)  # browsers that left meanwhile
        self._close_control_socket()
        self._connect_control_socket()
        self.lease_id = staged.place.lease_id if isinstance(staged.place, LeasedPlace) else None
        if self.lease_id is not None:
            self.last_lease_id = None
        self.kernels.kernel_moved(self, staged.buffered, staged.activity[0])
        return before
