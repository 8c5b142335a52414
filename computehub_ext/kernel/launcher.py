"""What a cluster's job runs: it calls the control plane, gets a kernel to start, and stays as its sign of life.

The job script feeds this file to the kernel's own Python (``python -I - OPTIONS``), so the cluster needs the standard
library, pyzmq and ipykernel there and nothing of ours. Options are ``--name value``, none of them secret:

    link          tcp://HOST:PORT of the control plane
    server-key    its public CurveZMQ key: no other can answer in its place
    placement     which placement this is
    token-file    a private file with the token that shows it; read once and removed

Over the connection, which is encrypted with a key pair made here and now, JSON objects with a ``t`` pass. From here:

    report        everything worth knowing: placement, token, state, job, node, ip, connection, python_version, end
    beat          the state alone, twice a second
    answer        to what came with an ``id``
and from there:
    welcome       ``now``, the time there: paid_until is kept on the clock of the one who bills
    who           a report, please: a control plane that was started again does not know us
    start         the kernel to run: env, cwd, keys, paid_until, and the two programs that run it
    renew, interrupt, stop, log
    done          the end is written down; ``refused``: we are not wanted, so whatever runs here ends

States are waiting, starting, listening, ended. Without the control plane all goes on until ``paid_until``, at which the
supervisor (``supervisor.py``) ends the kernel. The exit code tells how it ended to whoever asks the cluster only.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

BEAT_SECONDS = 0.5
POLL_SECONDS = 0.005
"""How often a kernel that starts is asked for its ports, in a file on this machine."""
WAIT_SECONDS_MAX = 60.0
"""How long to wait for something to start: a job that nobody wants holds a GPU that nobody pays."""
GOODBYE_SECONDS_MAX = 5.0
LOG_BYTES_MAX = 16 * 1024
END_LOG_BYTES_MAX = 2000
NO_CODE = 100
REASONS = (
    "exited",
    "crashed",
    "killed",
    "out_of_memory",
    "stopped",
    "unpaid",
    "supervisor_lost",
    "start_failed",
)
"""Exit code ``NO_CODE + index``; new ones go last, since a job may end after an upgrade of the control plane."""

_PR_SET_CHILD_SUBREAPER = 36
_PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")


class Launcher:
    """One job's life, in one thread: messages, signals and the clock are taken in turn."""

    def __init__(self, link: str, server_key: str, placement: str, token: str) -> None:
        import zmq

        self.zmq, self.link, self.placement, self.token = zmq, link, placement, token
        self.state = "waiting"
        self.began_at = time.monotonic()
        self.offset = 0.0
        """The control plane's clock less ours."""
        self.directory = ""
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.connection: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None
        self.is_signalled = False
        self.is_stopped = False
        self.is_done = False
        self.ended_at = 0.0
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        public, secret = zmq.curve_keypair()
        self.socket.curve_publickey, self.socket.curve_secretkey = public, secret
        self.socket.curve_serverkey = server_key.encode("ascii")
        self.socket.linger = 1000
        self.socket.sndhwm = 50  # beats that nobody takes must not pile up
        self.socket.reconnect_ivl, self.socket.reconnect_ivl_max = 100, 1000
        # A connection whose other end is gone without a word is made anew.
        self.socket.heartbeat_ivl, self.socket.heartbeat_timeout = 2000, 6000
        self.socket.connect(link)

    # The loop

    def run(self) -> int:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _adopt_orphans()
        poller = self.zmq.Poller()
        poller.register(self.socket, self.zmq.POLLIN)
        poller.register(woken, self.zmq.POLLIN)
        self._report()
        beat_at = time.monotonic() + BEAT_SECONDS
        while not self._is_over():
            wait = POLL_SECONDS if self.state == "starting" else max(0.0, beat_at - time.monotonic())
            for ready, _ in poller.poll(int(wait * 1000) + 1):
                if ready == woken.fileno():
                    _drain(woken)
            self._take_messages()
            self._look_at_kernel()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + BEAT_SECONDS
                if self.end is None:
                    self._send({"t": "beat", "state": self.state})
                else:
                    self._report()  # again, until it is written down there
        self.socket.close()
        self.context.term()
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        reason = (self.end or {}).get("reason", "start_failed")
        return 0 if reason == "exited" else NO_CODE + (REASONS.index(reason) if reason in REASONS else 1)

    def _is_over(self) -> bool:
        if self.end is not None:
            return self.is_done or time.monotonic() - self.ended_at > GOODBYE_SECONDS_MAX
        if self.state == "waiting" and (self.is_signalled or time.monotonic() - self.began_at > WAIT_SECONDS_MAX):
            self._finish("start_failed", "Nobody said what to start.")
        return False

    def _on_signal(self, *_: Any) -> None:
        """The cluster ends the job. Why, it tells those who ask it; what runs here is ended in order."""
        self.is_signalled = True
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)

    # Messages

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.socket.send(json.dumps(message).encode(), self.zmq.NOBLOCK)
        except self.zmq.Again:
            pass  # nobody takes them now; who comes back asks for a report

    def _report(self) -> None:
        self._send(
            {
                "t": "report",
                "placement": self.placement,
                "token": self.token,
                "state": self.state,
                "job": os.environ.get("SLURM_JOB_ID", ""),
                "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
                "gpus": os.environ.get("SLURM_JOB_GPUS", ""),
                "ip": _own_address(self.link),
                "connection": {name: self.connection[name] for name in _PORTS} if self.connection else None,
                "python_version": self._python_version(),
                "end": self.end,
            }
        )

    def _take_messages(self) -> None:
        while True:
            try:
                message = json.loads(self.socket.recv(self.zmq.NOBLOCK))
            except self.zmq.Again:
                return
            except ValueError:
                continue
            answer = getattr(self, "_on_" + str(message.get("t")), lambda _: None)(message)
            if "id" in message:
                self._send({"t": "answer", "id": message["id"], **(answer or {})})

    def _on_welcome(self, message: dict[str, Any]) -> None:
        self.offset = message["now"] - time.time()

    def _on_who(self, _: dict[str, Any]) -> None:
        self._report()

    def _on_done(self, _: dict[str, Any]) -> None:
        self.is_done = self.end is not None

    def _on_refused(self, message: dict[str, Any]) -> None:
        sys.stderr.write(f"The control plane refused this job: {message.get('why')}\n")
        self.is_done = True
        if self.state in ("starting", "listening"):
            self._on_stop({"grace": 0.0})
        elif self.end is None:
            self._finish("start_failed", "The control plane refused it.")

    def _on_start(self, message: dict[str, Any]) -> None:
        if self.state != "waiting":
            return self._report()
        try:
            self._start(message)
        except OSError as problem:
            self._finish("start_failed", f"The kernel could not be started on {socket.gethostname()}: {problem}.")
        return self._report()

    def _on_renew(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.state != "listening" or self.supervisor is None:  # a signal could meet one that is only starting
            return {"ok": False}
        _write(os.path.join(self.directory, "d", "paid_until"), repr(message["paid_until"] - self.offset))
        self.supervisor.send_signal(signal.SIGHUP)  # it looks at once, so that an earlier moment holds too
        return {"ok": True}

    def _on_interrupt(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.state == "listening" and self.supervisor is not None:
            self.supervisor.send_signal(signal.SIGINT)
        return {"ok": self.end is None}  # nothing runs in one that is only starting

    def _on_stop(self, message: dict[str, Any]) -> None:
        if self.supervisor is None:
            if self.end is None:
                self._finish("stopped", "")
            return
        if self.end is None:
            self.is_stopped = True
            _write(os.path.join(self.directory, "d", "stop"), repr(float(message["grace"])))
            self.supervisor.send_signal(signal.SIGTERM)

    def _on_log(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"log": self._log_tail(LOG_BYTES_MAX)}

    # The kernel

    def _start(self, request: dict[str, Any]) -> None:
        if not os.path.isdir(request["cwd"]):
            node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
            return self._finish("start_failed", f"There is no folder {request['cwd']} on {node}.", kind="folder")
        # On the node's own disk, which only this user enters; the programs beside the folder that a kernel's code sees.
        self.directory = tempfile.mkdtemp(prefix="computehub-")
        place = os.path.join(self.directory, "d")
        os.mkdir(place, 0o700)
        programs = {}
        for name in ("supervisor", "standby"):
            programs[name] = os.path.join(self.directory, name + ".py")
            _write(programs[name], request[name])
        file = os.path.join(place, "connection.json")
        connection = {
            "transport": "tcp",
            "ip": "0.0.0.0",
            **dict.fromkeys(_PORTS, 0),
            "key": request["session_key"],
            "signature_scheme": "hmac-sha256",
            "curve_publickey": request["curve_publickey"],
            "curve_secretkey": request["curve_secretkey"],
        }
        _write(file, json.dumps(connection))
        _write(os.path.join(place, "paid_until"), repr(request["paid_until"] - self.offset))
        to_start = {
            "argv": [sys.executable, programs["standby"], file],
            "cwd": request["cwd"],
            "env": environment(os.environ, request),
            "umask": request["umask"],
            "parent": os.getpid(),
        }
        _write(os.path.join(place, "request.json"), json.dumps(to_start))
        self.supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", programs["supervisor"], place, "-"],
            stdin=subprocess.DEVNULL,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        )
        self.state = "starting"
        return None

    def _look_at_kernel(self) -> None:
        if self.supervisor is None or self.end is not None:
            return
        if self.state == "starting":
            found = _read_json(os.path.join(self.directory, "d", "connection.json"))
            if found is not None and all(found.get(port) for port in _PORTS):
                self.connection, self.state = found, "listening"
                self._report()
        if self.supervisor.poll() is None:
            return
        end = _read_json(os.path.join(self.directory, "d", "end.json"))
        if end is None:
            self._kill_orphans()
            reason = "stopped" if self.is_stopped else "supervisor_lost"  # it may have been only starting
            end = {"reason": reason, "exit_code": -int(signal.SIGKILL), "at": time.time()}
        self._finish(end["reason"], "", exit_code=end["exit_code"], at=end["at"])

    def _finish(
        self, reason: str, message: str, *, exit_code: int | None = None, at: float = 0.0, kind: str = ""
    ) -> None:
        """Write down the end. ``cluster`` tells that the cluster ended it, who alone knows why."""
        self.ended_at = time.monotonic()
        self.end = {
            "reason": reason,
            "exit_code": exit_code,
            "at": (at or time.time()) + self.offset,
            "message": message,
            "kind": kind,
            "listened": self.connection is not None,
            "cluster": self.is_signalled,
            "log": self._log_tail(END_LOG_BYTES_MAX),
        }
        self.state = "ended"
        if not self.is_done:
            self._report()

    def _kill_orphans(self) -> None:
        """End what a supervisor that was killed left: it came to us, who adopt orphans."""
        with open(os.path.join(self.directory, "supervisor.py"), encoding="utf-8") as file:
            names: dict[str, Any] = {"__name__": "supervisor"}
            exec(compile(file.read(), "supervisor.py", "exec"), names)  # our own program, sent to us a moment ago
        deadline = time.monotonic() + GOODBYE_SECONDS_MAX
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
            time.sleep(POLL_SECONDS)

    def _python_version(self) -> str:
        try:
            with open(os.path.join(self.directory, "d", "python_version"), encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""

    def _log_tail(self, bytes_max: int) -> str:
        try:
            with open(os.path.join(self.directory, "d", "log"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - bytes_max))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""


def environment(own: Any, request: dict[str, Any]) -> dict[str, str]:
    """Return the kernel's environment: what the job has of the listed names, and what was asked for.

    Where the cluster handed GPUs to the job, these are the ones it may see, whatever the request calls them.
    """
    exact = {name for name in request["names"] if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in request["names"] if name.endswith("*"))
    secret = re.compile(request["secret_names"], re.IGNORECASE)
    kept = {
        name: value
        for name, value in own.items()
        if (name in exact or (prefixes and name.startswith(prefixes))) and not secret.search(name)
    }
    asked = dict(request["env"])
    if not request["simulated"] and own.get("SLURM_JOB_GPUS") and own.get("CUDA_VISIBLE_DEVICES"):
        asked["CUDA_VISIBLE_DEVICES"] = own["CUDA_VISIBLE_DEVICES"]
    return {**kept, **asked}


def _adopt_orphans() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _own_address(link: str) -> str:
    """Return the address that this machine has towards the control plane."""
    host, _, port = link.rpartition("://")[2].rpartition(":")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return ""


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


def _drain(woken: socket.socket) -> None:
    try:
        while woken.recv(4096):
            pass
    except OSError:
        pass


def main() -> int:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    path = os.path.expandvars(options["--token-file"])
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
        os.unlink(path)  # one job, one token; what a crash left of another is of no use to anybody
    except OSError as problem:
        sys.stderr.write(f"The token of this job can't be read: {problem}. It may have been used by another one.\n")
        return NO_CODE + REASONS.index("start_failed")
    return Launcher(options["--link"], options["--server-key"], options["--placement"], token).run()


if __name__ == "__main__":
    sys.exit(main())
