"""A control plane without books: leases are dicts, and leased kernels are real ipykernels started by this process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zmq

import computehub_ext
from computehub_ext.core.actor import Actor
from computehub_ext.core.errors import ComputeHubError, Forbidden, NoCapacity, NotFound, Refused

STANDBY = Path(computehub_ext.__file__).parent / "kernel" / "standby.py"

PORTS = ("shell_port", "iopub_port", "stdin_port", "hb_port", "control_port")


@dataclass(frozen=True)
class Where:
    """What kind of place leased kernels get, beside this machine's plain one.

    Parameters
    ----------
    transport:
        ``tcp``, ``ipc`` or ``curve`` (which is TCP under CurveZMQ).
    meets:
        Whether it has a folder that the kernel's user alone can enter, and in it the server's socket.
    locked_in:
        Without any network, as in a container. Needs root.
    uid:
        Another user's. Needs root; it can read everything, since Python lies in root's home here.
    host:
        Where other machines reach it.
    python:
        The interpreter of its kernels, which are then started by our own program, as backends do.
    """

    transport: str = "tcp"
    meets: bool = False
    locked_in: bool = False
    uid: int | None = None
    host: str | None = None
    python: str | None = None

    def command(self, command: list[str]) -> list[str]:
        if self.uid is not None:
            capability = "+dac_read_search"
            to_user = ["--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups"]
            command = ["setpriv", *to_user, "--inh-caps", capability, "--ambient-caps", capability, *command]
        return ["unshare", "-n", *command] if self.locked_in else command


class FakePlane:
    """What ``client.ControlPlane`` offers to the notebook wing.

    Parameters
    ----------
    folder:
        For connection files, and for the record by which another FakePlane on the same folder finds its kernels again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.leases: dict[str, dict[str, Any]] = {}
        self.placements: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.reported: list[tuple[str, bool]] = []
        self.calls: list[str] = []
        self.refuse: dict[str, ComputeHubError] = {}
        self.cramped: dict[str, Any] | None = None
        """What ``room_for`` answers: where a kernel's memory is too small for what is to move."""
        self.pending_orders: list[dict[str, Any]] = []
        self.envs: list[dict[str, str]] = []
        self.where = Where()
        self.secrets: list[str] = []
        """What must stand in no log."""
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        """What the place says of its Python; the kernel itself is ours."""
        self.warm: list[tuple[Path, subprocess.Popen[bytes], dict[str, Any]]] = []
        self._folders: list[tempfile.TemporaryDirectory[str]] = []
        self._record = folder / "plane.json"
        if self._record.exists():
            saved = json.loads(self._record.read_text())
            self.leases, self.placements = saved["leases"], saved["placements"]

    def _write(self) -> None:
        self._record.write_text(json.dumps({"leases": self.leases, "placements": self.placements}))

    async def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            raise self.refuse[name]
        await asyncio.sleep(0)

    # -- what the notebook wing calls ----------------------------------------------------------------------------------

    async def take_lease(self, actor: Actor, key: str, kernel_id: str, model: str | None = None, **rest: Any) -> Any:
        await self._called("take_lease")
        if model == "none left":
            raise NoCapacity("No GPU is free now.", earliest=[], alternatives=[])
        now = datetime.now(UTC)
        lease = {
            "id": f"lease_{uuid.uuid4().hex[:8]}",
            "booking_id": "booking_1",
            "state": "requested",
            "end_reason": None,
            "end_message": None,
            "model": model or "T4",
            "pool": "Simulated T4",
            "simulated": True,
            "count": 1,
            "kernel_id": kernel_id,
            "notebook_path": rest.get("notebook_path"),
            "rate_microcredits_per_hour": 1_000_000,
            "cost_microcredits": 0,
            "held_microcredits": 2_000_000,
            "created_at": _moment(now),
            "started_at": None,
            "ends_at": _moment(now + timedelta(hours=2)),
            "idle_timeout_seconds": 1200,
            "billed_as": "credits",
            "server_now": _moment(now),
            "owner": actor.username,
        }
        self.leases[lease["id"]] = lease
        self._write()
        return dict(lease)

    async def start_placement(
        self, lease_id: str, cwd: str, kernel_name: str, session_key: bytes, username: str, env: dict[str, str]
    ) -> Any:
        await self._called("start_placement")
        self.envs.append(dict(env))
        placement_id = f"placement_{uuid.uuid4().hex[:8]}"
        meeting_dir = self._meeting_dir()
        info = await self._start(placement_id, cwd, session_key, env, meeting_dir)
        self.placements[placement_id] = {"lease_id": lease_id, "pid": self.processes[placement_id].pid, "info": info}
        self._write()
        return {"placement_id": placement_id, "connection_info": info, "warm": False,
                "python_version": self.python_version, "devices": [{"index": 0, "uuid": "SIM-1"}],
                "meeting_dir": meeting_dir, "host": self.where.host, "details": {}}  # fmt: skip

    def _meeting_dir(self) -> str | None:
        if not self.where.meets and self.where.transport != "ipc":
            return None
        self._folders.append(tempfile.TemporaryDirectory(prefix="ch-"))  # a socket's path holds 107 bytes
        if self.where.uid is not None:
            os.chown(self._folders[-1].name, self.where.uid, self.where.uid)
        return self._folders[-1].name

    async def _start(
        self, placement_id: str, cwd: str, key: bytes, env: dict[str, str], meeting_dir: str | None
    ) -> dict[str, Any]:
        holders = [socket.socket() for _ in PORTS]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        info: dict[str, Any] = {name: h.getsockname()[1] for name, h in zip(PORTS, holders, strict=True)}
        for holder in holders:
            holder.close()
        info |= {"transport": "tcp", "ip": "127.0.0.1", "key": key.decode(), "signature_scheme": "hmac-sha256"}
        if self.where.transport == "ipc":
            info |= {"transport": "ipc", "ip": f"{meeting_dir}/k", **{n: i for i, n in enumerate(PORTS, start=1)}}
        if self.where.transport == "curve":
            public, secret = zmq.curve_keypair()
            info |= {"curve_publickey": public.decode(), "curve_secretkey": secret.decode()}
            self.secrets.append(secret.decode())
        file = (self.folder if meeting_dir is None else Path(meeting_dir)) / f"{placement_id}.json"
        file.write_text(json.dumps(info))
        full = {**os.environ, **env, "COMPUTEHUB_TEST_PLACEMENT": placement_id}
        if self.where.uid is not None:
            os.chown(file, self.where.uid, self.where.uid)
            full["HOME"] = full["IPYTHONDIR"] = str(meeting_dir)
        if meeting_dir is not None:
            full["COMPUTEHUB_SOCKET"] = f"{meeting_dir}/server.sock"
        command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", str(file)]
        if self.where.python is not None:
            command = [self.where.python, str(STANDBY), str(file)]
            file.write_text(json.dumps(info | dict.fromkeys(PORTS, 0)))
        full.pop("JPY_PARENT_PID", None)
        self.processes[placement_id] = subprocess.Popen(
            self.where.command(command),
            cwd=cwd,
            env=full,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if self.where.python is not None:
            info |= await self._told_ports(file, self.processes[placement_id])
        return info

    async def _told_ports(self, file: Path, process: subprocess.Popen[bytes]) -> dict[str, int]:
        """The ports that a kernel of our own program chose."""
        async with asyncio.timeout(30):
            while True:
                assert process.poll() is None, "the kernel ended before it listened"
                try:
                    found = json.loads(file.read_text())
                except (OSError, ValueError):  # it is being written anew
                    found = {}
                if all(found.get(name) for name in PORTS):
                    return {name: found[name] for name in PORTS}
                await asyncio.sleep(0.02)

    async def lease_running(self, lease_id: str) -> Any:
        await self._called("lease_running")
        self._of(lease_id)["state"] = "running"
        self._write()
        return dict(self._of(lease_id))

    async def lease_failed(self, lease_id: str, reason: str, message: str | None = None) -> Any:
        await self._called("lease_failed")
        return self._close(lease_id, reason, message)

    async def release_lease(self, lease_id: str, reason: str, message: str | None = None) -> Any:
        await self._called("release_lease")
        return self._close(lease_id, reason, message)

    def _close(self, lease_id: str, reason: str, message: str | None) -> dict[str, Any]:
        lease = self._of(lease_id)
        lease |= {"state": "closed", "end_reason": reason, "end_message": message}
        for placement_id, placement in list(self.placements.items()):
            if placement["lease_id"] == lease_id:
                self._kill(placement_id)
        self._write()
        return dict(lease)

    def _of(self, lease_id: str) -> dict[str, Any]:
        if lease_id not in self.leases:
            raise NotFound(f"There is no lease {lease_id}.")
        return self.leases[lease_id]

    async def me(self, actor: Actor) -> Any:
        return {"username": actor.username, "available_microcredits": 5_000_000, "balance_microcredits": 5_000_000}

    async def lease(self, actor: Actor, lease_id: str) -> Any:
        lease = self._of(lease_id)
        if lease["owner"] != actor.username and not actor.is_admin:
            raise NotFound(f"There is no lease {lease_id} of yours.")
        return dict(lease)

    async def room_for(self, actor: Actor, pool: str, count: int, memory_mib: int) -> Any:
        await self._called("room_for")
        return self.cramped

    async def lease_seen(self, actor: Actor, lease_id: str) -> Any:
        lease = self._of(lease_id)
        mine, running = lease["owner"] == actor.username, lease["state"] == "running"
        return {
            "lease": dict(lease),
            "payer": {"username": lease["owner"], "display_name": lease["owner"].title()},
            "is_mine": mine,
            "may": dict.fromkeys(("return", "extend", "shorten", "end"), mine and running),
            "idle": {"since_at": None, "gives_back_at": None},
        }

    async def keep_lease(self, lease_id: str) -> None:
        await self._called("keep_lease")

    async def lease_by_id(self, lease_id: str) -> Any:
        return dict(self._of(lease_id))

    async def transfer_ticket(self, lease_id: str, source_kernel_id: str) -> Any:
        await self._called("transfer_ticket")
        if self._of(lease_id)["kernel_id"] != source_kernel_id:
            raise Forbidden("The lease belongs to another kernel.")
        self.secrets.append(uuid.uuid4().hex)
        return {"ticket": self.secrets[-1]}

    async def look_placement(self, placement_id: str) -> Any:
        if placement_id not in self.placements:
            raise NotFound("There is no such placement.")
        process = self.processes.get(placement_id)
        if process is not None:
            code = process.poll()
        else:
            code = None if _lives(self.placements[placement_id]["pid"]) else -9
        if code is None:
            return {"state": "running", "exit_code": None, "reason": None, "message": ""}
        message = "The kernel was killed, as happens when the machine has no memory left." if code == -9 else ""
        return {"state": "ended", "exit_code": code, "reason": "killed", "message": message}

    async def interrupt_placement(self, placement_id: str) -> None:
        await self._called("interrupt_placement")
        if (await self.look_placement(placement_id))["state"] == "ended":
            raise Refused("The kernel has ended.")
        os.kill(self.placements[placement_id]["pid"], signal.SIGINT)

    async def end_placement(self, placement_id: str) -> None:
        await self._called("end_placement")
        self._kill(placement_id)

    async def report_activity(self, kernel_id: str, busy: bool) -> None:
        self.reported.append((kernel_id, busy))

    async def orders(self, kernel_ids: list[str]) -> list[Any]:
        orders, self.pending_orders = self.pending_orders, []
        return orders

    # -- the test's side -----------------------------------------------------------------------------------------------

    @property
    def folders(self) -> list[str]:
        """Where its placements meet the server."""
        return [folder.name for folder in self._folders]

    def pid_of(self, lease_id: str) -> int:
        return next(p["pid"] for p in reversed(self.placements.values()) if p["lease_id"] == lease_id)

    def running(self) -> list[str]:
        return [name for name, process in self.processes.items() if process.poll() is None]

    def _kill(self, placement_id: str) -> None:
        process = self.processes.get(placement_id)
        if process is not None:
            process.kill()
            process.wait()
        else:
            try:
                os.kill(self.placements[placement_id]["pid"], signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self) -> None:
        for placement_id in list(self.placements):
            self._kill(placement_id)
        for folder in self._folders:
            folder.cleanup()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _moment(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
