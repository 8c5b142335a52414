"""One kernel on a cluster's node: its private folder, its supervisor, its end.

The control plane sends this file to the launcher (``launcher.py``) together with what to start, so it is always of the
version that wants the start. It needs the standard library alone. Times given to it are of this machine's clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from typing import Any

PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
GIVEN = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_SHARDS_ON_NODE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")
"""One of these says that Slurm gave GPUs or parts of them: to a batch job, to one by srun, as shards, by MPS."""
SET_BY_JOB = "COMPUTEHUB_SET_BY_JOB"
"""Names what the job's modules and the lines before the kernel set or changed."""
KILL_SECONDS_MAX = 5.0
_POLL_SECONDS = 0.005


class CannotStart(Exception):
    """It can't be started here. ``kind`` is empty, or says what is missing."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Run:
    """The kernel, from its start on; raises ``CannotStart``.

    Parameters
    ----------
    request:
        The control plane's ``start``.
    paid_until:
        The moment at which the supervisor ends it unless ``renew`` moved it.
    spare:
        The launcher's child, which becomes the supervisor; one that was submitted before an upgrade has none.
    """

    def __init__(self, request: dict[str, Any], paid_until: float, spare: Any = None) -> None:
        if spare is None:
            raise CannotStart("This job was submitted by an older ComputeHub. Start again: that submits a new one.")
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        if not os.path.isdir(request["cwd"]):
            raise CannotStart(f"There is no folder {request['cwd']} on {node}.", "folder")
        python = shutil.which(request["python"]) if request.get("python") else sys.executable
        if python is None:
            raise CannotStart(f"There is no {request['python']} on {node}.", "python")
        self.connection: dict[str, Any] | None = None
        # On the node's own disk, which only this user enters; the programs beside the folder that a kernel's code sees.
        self.directory = tempfile.mkdtemp(prefix="computehub-")
        self._place = os.path.join(self.directory, "d")
        os.mkdir(self._place, 0o700)
        programs = {}
        for name in ("supervisor", "standby"):
            programs[name] = os.path.join(self.directory, name + ".py")
            _write(programs[name], request[name])
        file = os.path.join(self._place, "connection.json")
        connection = {
            "transport": "tcp",
            "ip": "0.0.0.0",
            **dict.fromkeys(PORTS, 0),
            "key": request["session_key"],
            "signature_scheme": "hmac-sha256",
            "curve_publickey": request["curve_publickey"],
            "curve_secretkey": request["curve_secretkey"],
        }
        _write(file, json.dumps(connection))
        _write(os.path.join(self._place, "paid_until"), repr(paid_until))
        to_start = {
            "argv": [python, programs["standby"], file],
            "cwd": request["cwd"],
            "env": environment(os.environ, request),
            "umask": request["umask"],
            "parent": os.getpid(),
        }
        _write(os.path.join(self._place, "request.json"), json.dumps(to_start))
        spare.run(programs["supervisor"], self._place, "-")
        self._supervisor = spare
        self._is_stopped = False

    def listens(self) -> bool:
        """Whether it has all its ports, which ``connection`` has from then on."""
        if self.connection is None:
            found = _read_json(os.path.join(self._place, "connection.json"))
            if found is not None and all(found.get(port) for port in PORTS):
                self.connection = found
        return self.connection is not None

    def end(self) -> dict[str, Any] | None:
        """Return ``reason``, ``exit_code``, ``at`` and ``message`` once it has ended."""
        if self._supervisor.poll() is None:
            return None
        end = _read_json(os.path.join(self._place, "end.json"))
        if end is None:
            self._kill_orphans()
            reason = "stopped" if self._is_stopped else "supervisor_lost"  # it may have been only starting
            end = {"reason": reason, "exit_code": -int(signal.SIGKILL), "at": time.time()}
        refusal = self._read("refused")
        if refusal:  # by the kernel's own program, which looked at the ipykernel that it has
            end = {**end, "reason": "start_failed", "kind": "ipykernel"}
        return {**end, "message": refusal}

    def renew(self, paid_until: float) -> None:
        _write(os.path.join(self._place, "paid_until"), repr(paid_until))
        self._supervisor.send_signal(signal.SIGHUP)  # it looks at once, so that an earlier moment holds too

    def interrupt(self) -> None:
        self._supervisor.send_signal(signal.SIGINT)

    def stop(self, grace: float) -> None:
        self._is_stopped = True
        _write(os.path.join(self._place, "stop"), repr(grace))
        self._supervisor.send_signal(signal.SIGTERM)

    def terminate(self) -> None:
        """The cluster ends the job: in order, but as the supervisor sees fit."""
        self._supervisor.send_signal(signal.SIGTERM)

    def python_version(self) -> str:
        return self._read("python_version")

    def log_tail(self, bytes_max: int) -> str:
        return self._read("log", bytes_max)

    def clear(self) -> None:
        with contextlib.suppress(RecursionError):  # folders a thousand deep: left to who clears the node's /tmp
            shutil.rmtree(self.directory, ignore_errors=True)

    def _read(self, name: str, bytes_max: int = 2000) -> str:
        try:
            with open(os.path.join(self._place, name), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - bytes_max))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def _kill_orphans(self) -> None:
        """End what a supervisor that was killed left: it came to us, who adopt orphans."""
        with open(os.path.join(self.directory, "supervisor.py"), encoding="utf-8") as file:
            names: dict[str, Any] = {"__name__": "supervisor"}
            exec(compile(file.read(), "supervisor.py", "exec"), names)  # our own program, sent to us a moment ago
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while (left := names["descendants"](os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError):
                    pass
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(_POLL_SECONDS)


def environment(own: Any, request: dict[str, Any]) -> dict[str, str]:
    """Return the kernel's environment: what the job has of the listed names, and what was asked for.

    It sees the GPUs that the cluster gave to the job, whatever the request calls them, and none where it gave none:
    without the cluster's device limits those would be somebody else's.
    """
    exact = {name for name in request["names"] if not name.endswith("*")}
    exact.update(set(own.get(SET_BY_JOB, "").split()) - {SET_BY_JOB, "PWD", "OLDPWD"})
    prefixes = tuple(name[:-1] for name in request["names"] if name.endswith("*"))
    secret = re.compile(request["secret_names"], re.IGNORECASE)
    kept = {
        name: value
        for name, value in own.items()
        if (name in exact or (prefixes and name.startswith(prefixes))) and not secret.search(name)
    }
    asked = dict(request["env"])
    if not request["simulated"]:
        is_given = any(own.get(name) for name in GIVEN)
        asked["CUDA_VISIBLE_DEVICES"] = own.get("CUDA_VISIBLE_DEVICES", "") if is_given else ""
        if not is_given:
            asked["NVIDIA_VISIBLE_DEVICES"] = ""
    return {**kept, **asked}


def _write(path: str, text: str) -> None:
    """Write a private file so that a reader sees the old text or the new one."""
    descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
