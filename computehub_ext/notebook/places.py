"""Where a kernel can run, as the server sees it: a process of its own here, or a placement of the control plane."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.connect import LocalPortCache, write_connection_file
from jupyter_client.provisioning import LocalProvisioner

from computehub_ext.core.errors import BackendError, ComputeHubError, NotFound, Refused
from computehub_ext.kernel.lacking import FOLDER_ADVICE
from computehub_ext.notebook.door import Door

log = logging.getLogger(__name__)

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")
GONE = -1
"""Exit code of a kernel that ended without leaving one."""


class Place(ABC):
    """A kernel that runs somewhere. ``connection_info`` has Jupyter's names; ``died`` says why it ended, if known."""

    kind: str
    connection_info: dict[str, Any]

    def __init__(self) -> None:
        self.died: str | None = None

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether there is something to ask after: also true for a kernel that has just died."""

    @abstractmethod
    async def poll(self) -> int | None:
        """Return the exit code, or None while the kernel runs."""

    @abstractmethod
    async def wait(self) -> int | None:
        """Wait for the end and forget the kernel."""

    @abstractmethod
    async def send_signal(self, signum: int) -> None: ...

    @abstractmethod
    async def end(self) -> None:
        """End the kernel now, whatever it does; twice is fine."""


class CpuPlace(Place):
    """A kernel process on this machine, with ports of its own: those that its connection file tells are the relay's."""

    kind = "cpu"

    def __init__(self, manager: Any, folder: Path) -> None:
        super().__init__()
        self._manager = manager
        self._file = folder / f"place-{manager.kernel_id}-{secrets.token_hex(4)}.json"
        self._process = LocalProvisioner(
            kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager, log=manager.log
        )
        self.connection_info = {}

    async def start(self, command: list[str], **popen: Any) -> None:
        """Launch ``command``, in which the connection file stands as the manager wrote it."""
        manager, ports = self._manager, LocalPortCache.instance()
        self.connection_info = {
            "transport": "tcp",
            "ip": manager.ip,
            "key": manager.session.key.decode(),
            "signature_scheme": manager.session.signature_scheme,
            **{name: ports.find_available_port(manager.ip) for name in PORTS},
        }
        if manager.curve_publickey is not None:
            self.connection_info["curve_publickey"] = manager.curve_publickey.decode()
            self.connection_info["curve_secretkey"] = manager.curve_secretkey.decode()
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = {name: self.connection_info[name] for name in (*PORTS, "ip", "transport", "signature_scheme")}
        write_connection_file(
            str(self._file),
            **written,
            key=manager.session.key,
            kernel_name=manager.kernel_name,
            curve_publickey=manager.curve_publickey,
            curve_secretkey=manager.curve_secretkey,
            jupyter_session=popen.get("env", {}).get("JPY_SESSION_NAME", ""),
        )
        public = os.path.realpath(manager.connection_file)  # noqa: ASYNC240
        command = [part.replace(public, str(self._file)) for part in command]
        await self._process.launch_kernel(command, **popen)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def started(self) -> bool:
        return self._process.has_process

    async def poll(self) -> int | None:
        code = await self._process.poll()
        if code is not None and self.died is None:
            self.died = _exit_in_words(code)
        return code

    async def wait(self) -> int | None:
        code = await self._process.wait()
        self._clean()
        return code

    async def send_signal(self, signum: int) -> None:
        await self._process.send_signal(signum)

    async def end(self) -> None:
        if self._process.has_process:
            await self._process.kill()
            await self._process.wait()
        self._clean()

    def _clean(self) -> None:
        self._file.unlink(missing_ok=True)
        for name in PORTS:
            LocalPortCache.instance().return_port(self.connection_info.get(name, 0))


def _exit_in_words(code: int) -> str:
    if code == -signal.SIGKILL:
        return "The kernel was killed, as happens when the machine has no memory left."
    if code < 0:
        try:
            return f"The kernel was ended by {signal.Signals(-code).name}."
        except ValueError:
            return f"The kernel was ended by signal {-code}."
    return "The kernel shut down." if code == 0 else f"The kernel ended with exit code {code}."


class LeasedPlace(Place):
    """A placement: started, looked after and ended by the control plane, never by this server itself."""

    kind = "gpu"

    def __init__(self, plane: Any, lease_id: str, placed: Mapping[str, Any]) -> None:
        super().__init__()
        self.plane = plane
        self.lease_id = lease_id
        self.placement_id: str = placed["placement_id"]
        self.connection_info = dict(placed["connection_info"])
        self.python_version: str = placed.get("python_version") or ""
        self.meeting_dir: str | None = placed.get("meeting_dir")
        self.host: str | None = placed.get("host")
        self.details: dict[str, str] = dict(placed.get("details") or {})
        self._door: Door | None = None
        self._ended = False

    @classmethod
    async def start(
        cls,
        plane: Any,
        lease_id: str,
        *,
        cwd: str,
        kernel_name: str,
        session_key: bytes,
        username: str,
        env: dict[str, str],
    ) -> LeasedPlace:
        try:
            placed = await plane.start_placement(
                lease_id=lease_id, cwd=cwd, kernel_name=kernel_name, session_key=session_key, username=username, env=env
            )
        except Refused as refusal:
            if refusal.details.get("kind") != "folder":
                raise
            raise Refused(f"{refusal.message} {FOLDER_ADVICE}", **refusal.details) from refusal
        return cls(plane, lease_id, placed)

    def as_json(self) -> dict[str, Any]:
        """What a server after this one needs to find it; the connection's keys are in it."""
        return {
            "placement_id": self.placement_id,
            "connection_info": self.connection_info,
            "python_version": self.python_version,
            "meeting_dir": self.meeting_dir,
            "host": self.host,
            "details": self.details,
        }

    def open_door(self, web_app: Any, api_path: str) -> None:
        """Serve the API where a kernel without a network finds it. A failure costs it %gpu and nothing else."""
        if self.meeting_dir is None or self._door is not None or self._ended:
            return
        try:
            self._door = Door(web_app, api_path, self.meeting_dir)
        except OSError as error:
            log.warning("placement %s has no way to this server, so no %%gpu: %s", self.placement_id, error)

    def close_door(self) -> None:
        """Stop that; twice is fine."""
        door, self._door = self._door, None
        if door is not None:
            door.close()

    @property
    def started(self) -> bool:
        return not self._ended

    async def poll(self) -> int | None:
        if self._ended:
            return 0
        try:
            look = await self.plane.look_placement(placement_id=self.placement_id)
        except NotFound:
            self.close_door()
            return GONE
        except ComputeHubError as error:
            # Nobody can tell: taken for dead, a kernel that runs would be replaced by an empty one.
            log.warning("placement %s can't be seen, so it counts as running: %s", self.placement_id, error)
            return None
        if look["state"] in ("starting", "running"):
            return None
        self.close_door()
        self.died = look.get("message") or "The kernel on the GPU ended by itself."
        code = look.get("exit_code")
        return GONE if code is None else int(code)

    async def wait(self) -> int | None:
        while (code := await self.poll()) is None:  # noqa: ASYNC110  nobody tells; it is asked after
            await asyncio.sleep(0.1)
        self._ended = True
        return code

    async def send_signal(self, signum: int) -> None:
        if signum == 0 or self._ended:
            return
        if signum == signal.SIGINT:
            try:
                await self.plane.interrupt_placement(placement_id=self.placement_id)
            except (NotFound, Refused):
                pass  # its lease was ended meanwhile, and what has ended has nothing to interrupt
        else:
            await self.end()

    async def end(self) -> None:
        self._ended = True
        self.close_door()
        try:
            await self.plane.end_placement(placement_id=self.placement_id)
        except NotFound:
            pass  # it ended, and its record is gone
        except BackendError as error:
            log.warning("placement %s is left to the control plane to end: %s", self.placement_id, error)
