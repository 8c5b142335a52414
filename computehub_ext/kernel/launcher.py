"""What a cluster's job runs: it calls the control plane, gets a kernel to start, and stays as its sign of life.

The job script feeds this file to the kernel's own Python (``python -I - OPTIONS``), so the cluster needs the standard
library, pyzmq and ipykernel there and nothing of ours. Options are ``--name value``, none of them secret:

    link          tcp://HOST:PORT of the control plane
    server-key    its public CurveZMQ key: no other can answer in its place
    placement     which placement this is
    token-file    a private file with the token that shows it; read once and removed
    wait-until    for a job that was asked for ahead: until when it may be wanted, in seconds since 1970

Over the connection, which is encrypted with a key pair made here and now, JSON objects with a ``t`` pass. From here:

    report        everything worth knowing: placement, token, state, job, node, ip, connection, python_version, end
    beat          the state alone, twice a second
    answer        to what came with an ``id``
and from there:
    welcome       ``now``, the time there: paid_until is kept on the clock of the one who bills
    who           a report, please: a control plane that was started again does not know us
    start         the kernel to run: env, cwd, keys, paid_until, and the programs that run it (``runner.py`` first)
    renew, interrupt, stop, log; renew also moves ``wait-until``
    done          the end is written down; ``refused``: we are not wanted, so whatever runs here ends

States are waiting, starting, listening, ended. Without the control plane all goes on until ``paid_until``, at which the
supervisor (``supervisor.py``) ends the kernel. The exit code tells how it ended to whoever asks the cluster only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from typing import Any

BEAT_SECONDS = 0.5
POLL_SECONDS = 0.005
"""How often a kernel that starts is asked for its ports, in a file on this machine."""
WAIT_SECONDS_MAX = 60.0
"""How long to wait for something to start: a job that nobody wants holds a GPU that nobody pays. One that was asked for
ahead waits so long for its first word, too, however late the queue let it in."""
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
ORDINARY = ("exited", "stopped")  # exit code 0: in a site's accounting these are no failed jobs

_PR_SET_CHILD_SUBREAPER = 36


class Spare:
    """A child that waits to become a program of ours: another Python, started when it is wanted, takes 25 ms.

    It is made before this process has a thread, a key or a token, none of which a copy of it should have. It goes when
    its pipe is closed, as it is when this process ends.
    """

    def __init__(self) -> None:
        taken, self._pipe = os.pipe()
        self._code: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                os.close(self._pipe)
                _become(taken)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(code)  # nothing of the launcher's own end
        os.close(taken)

    def run(self, program: str, *arguments: str) -> None:
        """Have it run the program at a path as ``__main__``. Raises OSError if it is gone."""
        os.write(self._pipe, json.dumps([program, *arguments]).encode())
        os.close(self._pipe)

    def poll(self) -> int | None:
        """Return its exit code once it has ended."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                return self._code  # seen meanwhile: a signal's handler asks too
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # nobody else has its pid until then
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _become(taken: int) -> None:
    import ctypes  # noqa: F401  what the supervisor needs is there when it is wanted
    import fcntl  # noqa: F401

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # to the whole job; the supervisor takes them one by one
    with open(taken, "rb") as pipe:
        words = pipe.read()
    if not words:
        return  # nothing was started
    sys.argv = json.loads(words)
    with open(sys.argv[0], encoding="utf-8") as file:
        program = file.read()
    exec(compile(program, sys.argv[0], "exec"), {"__name__": "__main__", "__file__": sys.argv[0]})


class Launcher:
    """One job's life, in one thread: messages, signals and the clock are taken in turn."""

    def __init__(
        self, link: str, server_key: str, placement: str, token: str, spare: Spare, wait_until: float = 0.0
    ) -> None:
        try:
            import zmq
        except ImportError as missing:
            sys.exit(
                f"{missing}: the job's Python, {sys.executable}, has no ipykernel. `kernels` of the place names it."
            )

        self.zmq, self.link, self.placement, self.token, self.spare = zmq, link, placement, token, spare
        self.state = "waiting"
        self.began_at = time.monotonic()
        self.offset = 0.0
        """The control plane's clock less ours."""
        self.wait_until = wait_until
        """By the control plane's clock; 0 for a job whose kernel is wanted at once."""
        self.kernel: Any = None  # a ``runner.Run``, whose program comes with the start
        self.end: dict[str, Any] | None = None
        self.is_signalled = False
        self.is_heard = False
        """Whether the control plane said until when to wait, since the job runs."""
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
        import shutil  # noqa: F401  what a start needs, while the control plane reads that
        import tempfile  # noqa: F401

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
        if self.kernel is not None:
            self.kernel.clear()
        reason = (self.end or {}).get("reason", "start_failed")
        return 0 if reason in ORDINARY else NO_CODE + (REASONS.index(reason) if reason in REASONS else 1)

    def _is_over(self) -> bool:
        if self.end is not None:
            return self.is_done or time.monotonic() - self.ended_at > GOODBYE_SECONDS_MAX
        if self.state == "waiting" and self.spare.poll() is not None and not self.is_signalled:
            self._finish("start_failed", f"What was kept for the kernel on {socket.gethostname()} was ended.")
        elif self.state == "waiting" and (self.is_signalled or self._has_waited()):
            if self.wait_until and not self.is_signalled:
                self._finish("unpaid", "Nobody came for what was kept.")
            else:
                self._finish("start_failed", "Nobody said what to start.")
        return False

    def _has_waited(self) -> bool:
        limit = 0.0 if self.is_heard else WAIT_SECONDS_MAX
        return time.monotonic() - self.began_at > limit and time.time() + self.offset > self.wait_until

    def _on_signal(self, *_: Any) -> None:
        """The cluster ends the job. Why, it tells those who ask it; what runs here is ended in order."""
        self.is_signalled = True
        if self.kernel is not None:
            self.kernel.terminate()

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
                "job_ends_at": self._job_ends_at(),
                "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
                "gpus": os.environ.get("SLURM_JOB_GPUS") or os.environ.get("SLURM_STEP_GPUS", ""),
                "ip": _own_address(self.link),
                "connection": _ports(self.kernel.connection) if self.kernel is not None else None,
                "python_version": self.kernel.python_version() if self.kernel is not None else "",
                "end": self.end,
            }
        )

    def _job_ends_at(self) -> float | None:
        told = os.environ.get("SLURM_JOB_END_TIME", "")  # from Slurm 23.02 on
        return float(told) + self.offset if told.isdecimal() else None

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
        names: dict[str, Any] = {"__name__": "runner"}
        exec(compile(message["runner"], "runner.py", "exec"), names)  # the control plane's, over its own connection
        try:
            self.kernel = names["Run"](message, message["paid_until"] - self.offset, self.spare)
            self.state = "starting"
        except names["CannotStart"] as problem:
            self._finish("start_failed", str(problem), kind=problem.kind)
        except OSError as problem:
            self._finish("start_failed", f"The kernel could not be started on {socket.gethostname()}: {problem}.")
        return self._report()

    def _on_renew(self, message: dict[str, Any]) -> dict[str, Any]:
        if self.state == "waiting" and self.wait_until:
            self.wait_until, self.is_heard = message["paid_until"], True
            return {"ok": True}
        if self.state != "listening":  # a signal could meet one that is only starting
            return {"ok": False}
        self.kernel.renew(message["paid_until"] - self.offset)
        return {"ok": True}

    def _on_interrupt(self, _: dict[str, Any]) -> dict[str, Any]:
        if self.state == "listening":
            self.kernel.interrupt()
        return {"ok": self.end is None}  # nothing runs in one that is only starting

    def _on_stop(self, message: dict[str, Any]) -> None:
        if self.end is None and self.kernel is None:
            self._finish("stopped", "")
        elif self.end is None:
            self.kernel.stop(float(message["grace"]))

    def _on_log(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"log": self.kernel.log_tail(LOG_BYTES_MAX) if self.kernel is not None else ""}

    # The kernel

    def _look_at_kernel(self) -> None:
        if self.kernel is None or self.end is not None:
            return
        if self.state == "starting" and self.kernel.listens():
            self.state = "listening"
            self._report()
        end = self.kernel.end()
        if end is not None:
            kind = end.get("kind", "")
            self._finish(end["reason"], end["message"], exit_code=end["exit_code"], at=end["at"], kind=kind)

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
            "listened": self.kernel is not None and self.kernel.connection is not None,
            "cluster": self.is_signalled,
            "log": self.kernel.log_tail(END_LOG_BYTES_MAX) if self.kernel is not None else "",
        }
        self.state = "ended"
        if not self.is_done:
            self._report()


def _ports(connection: dict[str, Any] | None) -> dict[str, Any] | None:
    return {name: port for name, port in connection.items() if name.endswith("_port")} if connection else None


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


def _drain(woken: socket.socket) -> None:
    try:
        while woken.recv(4096):
            pass
    except OSError:
        pass


def main() -> int:
    spare = Spare()
    options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    path = os.path.expandvars(options["--token-file"])
    try:
        with open(path, encoding="ascii") as file:
            token = file.read().strip()
        os.unlink(path)  # one job, one token; what a crash left of another is of no use to anybody
    except OSError as problem:
        sys.stderr.write(f"The token of this job can't be read: {problem}. It may have been used by another one.\n")
        return NO_CODE + REASONS.index("start_failed")
    link, server_key, placement = (options[name] for name in ("--link", "--server-key", "--placement"))
    return Launcher(link, server_key, placement, token, spare, float(options.get("--wait-until", 0))).run()


if __name__ == "__main__":
    sys.exit(main())
