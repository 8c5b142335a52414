"""All kernels of the server: tokens, activity, survival of leased ones, and what happens when one ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_client.session import Session
from jupyter_server import CallContext
from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.utils import url_path_join
from tornado import web
from traitlets import Unicode, default
from zmq.eventloop.zmqstream import ZMQStream

from computehub_ext.core.actor import Actor, Via
from computehub_ext.core.errors import ComputeHubError
from computehub_ext.core.web import API_PATH
from computehub_ext.notebook import staging, wire
from computehub_ext.notebook.kernel import SwitchableKernelManager
from computehub_ext.notebook.places import LeasedPlace
from computehub_ext.notebook.room import way_on
from computehub_ext.notebook.saved import SavedKernels, state_dir_of
from computehub_ext.notebook.state import Carrier, greeting
from computehub_ext.notebook.survival import Survival
from computehub_ext.notebook.traffic import reading
from computehub_ext.notebook.watch import Watch
from computehub_ext.notebook.websocket import close_all
from computehub_ext.notebook.wire import Subscription

STOP_SECONDS = 10.0
"""How long a stopping server waits for what it does in the background: ending kernels, releasing leases."""
FILES_SECONDS = 5.0
FILES_LOOK_SECONDS = 0.02
FILE_THREAD = "AnyIO worker thread"
"""What anyio calls the threads in which Jupyter reads and writes files."""
TOKEN_PREFIX = "chk_"


class ComputeHubKernelManager(AsyncMappingKernelManager):
    """Jupyter's kernel manager, for kernels that can move to a lease and back."""

    plane: Any = None
    """The control plane as ``client.py`` describes it; None until ``setup`` hands it in, and then nothing can move."""
    watch: Any = None

    state_dir = Unicode(
        config=True,
        help="Folder for what a new server has to know of leased kernels (their signing keys among it). By default one "
        "folder per root folder below Jupyter's data folder. Readable by its owner alone.",
    )
    kernel_server_url = Unicode(
        config=True,
        help="Address of this server for its kernels, with the base URL. By default the server's own local address; "
        "set it where leased kernels run on other machines.",
    )

    @default("kernel_manager_class")
    def _default_kernel_manager_class(self) -> str:
        return "computehub_ext.notebook.kernel.SwitchableKernelManager"

    @default("state_dir")
    def _default_state_dir(self) -> str:
        return str(state_dir_of(self.root_dir))

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._token_hashes: dict[str, str] = {}
        self._background: set[asyncio.Task[Any]] = set()
        saved = getattr(self.parent, "computehub_saved", None) or SavedKernels(Path(self.state_dir))
        self.survival = Survival(self, saved)
        self.carrier = Carrier(Path(self.state_dir) / "transfers")

    def __bool__(self) -> bool:
        """Without kernels too: a stopping server asks whether there is a manager, and means its length otherwise."""
        return True

    def join(self, plane: Any, switches: Any) -> None:
        """Learn of the control plane; from here on kernels can move."""
        self.plane = plane
        self.watch = Watch(self, switches)

    async def part(self, *, end_leases: bool) -> None:
        """Let go of leased kernels before the control plane closes, or end them."""
        if self.watch is not None:
            await self.watch.stop()
        for kernel_id, kernel in list(self._kernels.items()):
            if getattr(kernel, "lease_id", None) is None or not isinstance(kernel.place, LeasedPlace):
                continue
            lease_id = kernel.lease_id
            await self.survival.let_go(kernel)
            if end_leases:
                self.survival.forget(kernel_id)
                await self.released(lease_id, "server_stopped")
        self.survival.close()

    # -- kernels' tokens -----------------------------------------------------------------------------------------------

    def kernel_actor(self, token: str) -> Actor | None:
        """Who asks with a kernel's token: the person whose cell that kernel runs, or ran last, by our own record."""
        kernel_id = self._token_hashes.get(_hashed(token))
        kernel = self._kernels.get(kernel_id) if kernel_id is not None else None
        if kernel is None or kernel.traffic is None:
            return None
        person = kernel.traffic.executor or kernel.traffic.starter
        if person is None:
            return None
        return Actor(person.username, person.display_name, Via.KERNEL, kernel_id=kernel_id, is_admin=False)

    def hashes_of(self, kernel_id: str) -> list[str]:
        """Hashes of the tokens that this kernel was given; the tokens themselves are nowhere but in its environment."""
        return [token_hash for token_hash, owner in self._token_hashes.items() if owner == kernel_id]

    def know_tokens(self, kernel_id: str, token_hashes: list[str]) -> None:
        self._token_hashes.update(dict.fromkeys(token_hashes, kernel_id))

    def kernel_env(self, kernel_id: str, env: dict[str, str] | None) -> dict[str, str]:
        token = TOKEN_PREFIX + secrets.token_urlsafe(32)
        self._token_hashes[_hashed(token)] = kernel_id
        return {
            **(os.environ if env is None else env),
            "COMPUTEHUB_URL": self._server_url(),
            "COMPUTEHUB_KERNEL_TOKEN": token,
            "COMPUTEHUB_KERNEL_ID": kernel_id,
        }

    def _server_url(self) -> str:
        base = self.kernel_server_url or getattr(self.parent, "connection_url", "") or ""
        return base.rstrip("/") + f"/{API_PATH}/"

    def open_door(self, place: LeasedPlace) -> None:
        """Let a kernel that has no network reach this server's API, before it can run a cell."""
        server: Any = self.parent
        web_app = getattr(server, "web_app", None)
        if web_app is not None:
            place.open_door(web_app, url_path_join(server.base_url, API_PATH) + "/")

    # -- start and end -------------------------------------------------------------------------------------------------

    async def _async_start_kernel(self, *, kernel_id: str | None = None, path: Any = None, **kwargs: Any) -> str:
        if kernel_id is None or kernel_id not in self:
            kernel_id = kernel_id or self.new_kernel_id()
            kwargs["env"] = self.kernel_env(kernel_id, kwargs.get("env"))
        try:
            return await super()._async_start_kernel(kernel_id=kernel_id, path=path, **kwargs)
        except ComputeHubError as error:
            # Left there, it would be shut down with the others at the end, not be found, and stop their shutdown.
            self._pending_kernels.pop(kernel_id, None)
            raise web.HTTPError(409, error.message, reason="Not started") from error

    start_kernel = _async_start_kernel  # type: ignore[assignment]

    def attach(self, kernel: SwitchableKernelManager) -> None:
        """A kernel that can be switched is about to start: note for whom, and where its messages go."""
        traffic = kernel.traffic
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        identify = handler.settings.get("computehub_identify") if handler is not None else None
        if identify is not None:
            try:
                traffic.starter = identify(handler)
            except Exception:
                self.log.debug("kernel %s is started by nobody known", kernel.kernel_id, exc_info=True)
        traffic.to_buffer = partial(self._to_buffer, kernel.kernel_id, traffic.session)
        traffic.on_busy = partial(self._on_busy, kernel)

    async def greet(self, line: Any) -> None:
        """Bring %gpu into a kernel that has just started."""
        if self.plane is not None:
            await line.evaluate(*greeting())

    def remove_kernel(self, kernel_id: str) -> Any:
        """Forget a kernel; one that is dead already gets no shutdown from Jupyter, but has left things open."""
        kernel: Any = super().remove_kernel(kernel_id)
        if getattr(kernel, "traffic", None) is not None and not kernel.has_left:
            self.in_background(kernel.left())
        return kernel

    async def kernel_left(self, kernel: SwitchableKernelManager) -> None:
        self._forget(kernel)
        lease_id, kernel.lease_id = kernel.lease_id, None
        if lease_id is not None and self.plane is not None:
            await self.released(lease_id, "kernel_shut_down")

    def _forget(self, kernel: SwitchableKernelManager) -> None:
        self.survival.forget(kernel.kernel_id)
        self._token_hashes = {h: owner for h, owner in self._token_hashes.items() if owner != kernel.kernel_id}

    async def released(self, lease_id: str, reason: str, message: str | None = None) -> dict[str, Any] | None:
        try:
            lease: dict[str, Any] = await self.plane.release_lease(lease_id=lease_id, reason=reason, message=message)
        except ComputeHubError as error:
            # Its supervisor ends what nobody renews, and the control plane settles it.
            self.log.warning("lease %s could not be released: %s", lease_id, error)
            return None
        return lease

    def has_lease(self, lease_id: str) -> bool:
        """Whether a notebook of this server is on that lease."""
        return any(getattr(kernel, "lease_id", None) == lease_id for kernel in self._kernels.values())

    async def after_death(self, kernel: SwitchableKernelManager, reason: str) -> bool:
        """A kernel died by itself. True when the one from before its move is back, with its variables."""
        lease_id, kernel.lease_id = kernel.lease_id, None
        if lease_id is None:
            return False
        kernel.moved_by = None
        self.survival.forget(kernel.kernel_id)
        lease = await self.released(lease_id, "kernel_died", reason)
        cost = _cost_in_words(lease)
        kernel.last_lease_id = lease_id
        way_back, kernel.way_back = kernel.way_back, None
        await kernel.drop_way_back()
        if way_back is not None and await way_back.poll() is None:
            from computehub_ext.notebook.code import Line

            line = Line(kernel.context, way_back.connection_info, kernel.session)
            staged = await staging.stage(kernel, way_back, line)
            kernel.traffic.say(
                f"{reason} The lease is closed{cost}. The notebook is back on the CPU as it was before the move."
                + way_on(lease)
            )
            kernel.traffic.tell_restart()
            kernel.commit(staged, keep_old=False)
            kernel.start_restarter()
            kernel.traffic.open()
            return True
        if way_back is not None:
            await way_back.end()
        kernel.traffic.say(
            f"{reason} The lease is closed{cost}. The notebook goes on with a new kernel on the CPU, without variables."
            + way_on(lease)
        )
        return False

    # -- activity ------------------------------------------------------------------------------------------------------

    def start_watching_activity(self, kernel_id: str) -> None:
        kernel = self._kernels[kernel_id]
        if getattr(kernel, "place", None) is None:
            super().start_watching_activity(kernel_id)
            return
        kernel.reason = ""
        kernel.last_activity = utcnow()
        info = kernel.place.connection_info
        stream = wire.stream(wire.connect(kernel.context, info, "iopub", drops_nothing=True), "iopub")
        Subscription(stream)
        self._watch_activity(kernel, stream)

    def _watch_activity(self, kernel: SwitchableKernelManager, stream: ZMQStream) -> None:
        kernel._activity_stream = stream
        stream.on_recv(partial(self._record_activity, kernel))

    def _record_activity(self, kernel: SwitchableKernelManager, frames: list[bytes]) -> None:
        """Do as Jupyter does with each iopub message, and tell the gate; for every message, so unpacking little."""
        if frames[0].startswith(wire.READY_TOPIC):
            return
        try:
            header, parent, state = reading(frames, wire.after_identities(frames))
        except (ValueError, KeyError, IndexError):
            self.log.warning("kernel %s said something that can't be read", kernel.kernel_id)
            return
        msg_type, parent_type = header["msg_type"], parent.get("msg_type")
        tracked = self.track_message_type(parent_type)
        if self.track_message_type(msg_type) or tracked or kernel.execution_state == "busy":
            self.last_kernel_activity = kernel.last_activity = utcnow()
        if state is not None:
            if tracked:
                kernel.execution_state = state
            elif kernel.execution_state == "starting" and state != "starting":
                kernel.execution_state = "idle"
        if kernel.traffic is not None:
            kernel.traffic.saw(msg_type, parent.get("msg_id", ""), state)

    def kernel_moved(self, kernel: SwitchableKernelManager, buffered: Any, activity: ZMQStream | None = None) -> None:
        """Another kernel is behind this id: watch that one, and let a browser that is away find its output."""
        kernel_id = kernel.kernel_id
        if buffered is not None:
            self._move_buffer(kernel_id, buffered[0])
        if kernel_id in self._kernels and getattr(kernel, "_activity_stream", None) is not None:
            old = kernel._activity_stream
            if activity is not None:
                self._watch_activity(kernel, activity)
                kernel.last_activity = utcnow()
            else:
                self.start_watching_activity(kernel_id)
            close_all({"iopub": old})
        if kernel.traffic is not None:
            kernel.execution_state = "idle" if activity is not None else "starting"
        self.survival.save(kernel)
        if kernel.lease_id is not None and self.watch is not None:
            self.watch.start()

    def _move_buffer(self, kernel_id: str, streams: dict[str, ZMQStream]) -> None:
        buffer = self._kernel_buffers.get(kernel_id)
        if buffer is None:
            close_all(streams)
            return
        close_all(buffer["channels"])
        # In place: a connection that closed holds the same dict, and forwards through it what still waited.
        buffer["channels"].clear()
        buffer["channels"].update(streams)
        for channel, stream in streams.items():
            stream.on_recv(partial(_buffer, buffer, channel))

    def _to_buffer(self, kernel_id: str, session: Session, channel: str, message: dict[str, Any]) -> None:
        if kernel_id in self._kernel_buffers:
            _buffer(self._kernel_buffers[kernel_id], channel, session.serialize(message, ident=b"computehub"))

    def _on_busy(self, kernel: SwitchableKernelManager, busy: bool) -> None:
        if kernel.lease_id is not None and self.watch is not None:
            self.watch.start()
            self.watch.busy(kernel.kernel_id, busy)

    def in_background(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # -- the end -------------------------------------------------------------------------------------------------------

    async def shutdown_all(self, now: bool = False) -> None:  # type: ignore[override]
        await super()._async_shutdown_all(now=now)
        if self._background:
            await asyncio.wait(self._background, timeout=STOP_SECONDS)
        for task in self._background:
            task.cancel()
        if self.watch is not None:
            await self.watch.stop()
        self.survival.close()
        await files_are_at_rest()


async def files_are_at_rest(within_seconds: float = FILES_SECONDS) -> None:
    """Wait for tasks that still read or write files, so that none is cut off when the loop stops.

    A shared notebook's room saves once more when the server stops, in a task that its extension does not wait for. A
    loop that stops under it leaves the notebook as it was before the last edits, and a thread that Python waits for
    without end: anyio ends one only with the task that first asked for it. As leased kernels are let go, nothing else
    would take the time that such a save needs.
    """
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if all(thread.name != FILE_THREAD for thread in threading.enumerate()):
            return
        await asyncio.sleep(FILES_LOOK_SECONDS)


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _buffer(buffer: dict[str, Any], channel: str, frames: list[bytes]) -> None:
    buffer["buffer"].append((channel, frames))


def _cost_in_words(lease: dict[str, Any] | None) -> str:
    from computehub_ext.core.credits import in_credits

    if lease is None:
        return ""
    return f" after {in_credits(int(lease.get('cost_microcredits') or 0), 4)} credits"
