"""Start an ipykernel, at once for a placement or as a standby that becomes one in a few milliseconds.

Run as ``python standby.py CONNECTION_FILE`` or ``python standby.py --standby CONNECTION_FILE``, by a supervisor. It
needs the standard library and ipykernel, nothing of ours, so any Python that has a kernel can run it.

A standby is a whole kernel that has run nothing yet. It listens on ``adopt.sock`` beside its connection file, a
directory that only its owner can enter, and takes one message that shows the secret in ``adopt.secret``:

    {"secret", "directory", "environment", "cwd", "session_key"}  ->  {"ok": true, "pid", "python_version"}

It then has the environment, folder and signing key of the placement, as if it had been started with them. What a
Python reads only at its start (PYTHON*, LD_*) it can't take over; whoever asks must not ask for that.
"""

from __future__ import annotations

import errno
import gc
import hmac
import json
import logging
import os
import platform
import site
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

gc.disable()  # what is imported stays: to look for garbage in it takes a tenth of the start
ENVIRONMENT_AT_START = dict(os.environ)  # before the imports below, some of which add to it
if sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]  # what lies beside this file must not shadow what the user imports

import ipykernel  # noqa: E402
import zmq  # noqa: E402
from ipykernel.heartbeat import Heartbeat  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from IPython.paths import get_ipython_dir  # noqa: E402
from tornado.ioloop import IOLoop  # noqa: E402

gc.freeze()  # nor is it looked at whenever a cell makes garbage

MESSAGE_BYTES_MAX = 1024 * 1024
MESSAGE_SECONDS_MAX = 2.0
IPYKERNEL_MIN = (7, 4)
"""Older ones leave a socket of theirs, such as a subshell's, in the clear."""
REFUSALS_MAX = 3
"""A secret of 256 bits is not guessed; who tries four times is not who we wait for, and the standby gives up."""


class BoundHeartbeat(Heartbeat):
    """A heartbeat whose port is bound when it is chosen: ipykernel's own closes it in between, and may lose it."""

    keys: tuple[bytes, bytes] | None = None
    wanted_port = 0

    def pick_port(self) -> int:
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 1000
        if self.keys is not None:
            self.socket.curve_publickey, self.socket.curve_secretkey = self.keys
            self.socket.curve_server = True
        if self.transport == "ipc":
            self.port = 1
            while os.path.exists(f"{self.ip}-{self.port}"):
                self.port += 1
            self.socket.bind(f"ipc://{self.ip}-{self.port}")
        elif self.wanted_port:
            self.port = self.wanted_port
            self.socket.bind(f"{self.transport}://{self.ip}:{self.port}")
        else:
            self.port = self.socket.bind_to_random_port(f"{self.transport}://{self.ip}")
        return self.port

    def run(self) -> None:
        while True:
            try:
                zmq.proxy(self.socket, self.socket)
                return
            except zmq.ZMQError as problem:
                if problem.errno == zmq.ETERM:
                    self.socket.close()
                    return
                if problem.errno == zmq.ENOTSOCK:
                    return
                if problem.errno != errno.EINTR:  # a signal, after which the heart goes on
                    raise


class LeasedKernelApp(IPKernelApp):
    """ipykernel, with all ports bound without a race and, as a standby, with its start-up code left for later."""

    is_standby = False
    keys: tuple[bytes, bytes] | None = None

    def init_sockets(self) -> None:
        level = self.log.level
        self.log.setLevel(logging.ERROR)  # it warns of plain TCP, which here never leaves the machine
        super().init_sockets()
        self.log.setLevel(level)

    def _bind_socket(self, s: Any, port: int) -> Any:
        """Encrypt where an ipykernel before 7.3, which knows of no keys, would open the port in the clear."""
        if self.keys is not None:
            s.curve_publickey, s.curve_secretkey = self.keys
            s.curve_server = True
        return super()._bind_socket(s, port)

    def init_heartbeat(self) -> None:
        BoundHeartbeat.keys, BoundHeartbeat.wanted_port = self.keys, self.hb_port
        self.heartbeat = BoundHeartbeat(zmq.Context(), (self.transport, self.ip, 0))  # 0 has it ask `pick_port`
        self.hb_port = self.heartbeat.port
        self.heartbeat.start()

    def init_shell(self) -> None:
        super().init_shell()
        gc.enable()  # before extensions and start-up files, which are the person's

    def init_code(self) -> None:
        if not self.is_standby:
            super().init_code()

    def start(self) -> None:
        if self.is_standby:
            self.is_standby = False
            Adoption(self).listen()
        super().start()

    def adopt(self, request: dict[str, Any]) -> None:
        """Become the kernel of a placement. Runs in the main thread, which has run nobody's code yet."""
        environment = request["environment"]
        for folder in request.get("folders", ()):
            see(folder)
        os.chdir(request["cwd"])
        # What ipykernel and its libraries have set themselves stays where the placement says nothing of it.
        own = {name: value for name, value in os.environ.items() if ENVIRONMENT_AT_START.get(name) != value}
        os.environ.clear()
        os.environ.update({**own, **environment})
        time.tzset()
        shell: Any = self.shell
        if any(ENVIRONMENT_AT_START.get(name) != environment.get(name) for name in ("HOME", "IPYTHONDIR")):
            self.move_home(shell)
        shell.init_environment()
        shell.starting_dir = os.getcwd()
        shell.history_manager.dir_hist[:] = [Path.cwd()]  # `_dh` in the namespace is this very list
        if "JPY_SESSION_NAME" in environment:
            shell.user_ns["__session__"] = environment["JPY_SESSION_NAME"]
        # One Session object signs for shell, control, stdin, iopub, the streams and the display hook.
        self.session.key = request["session_key"].encode("ascii")
        self.session.digest_history.clear()
        self.connection_file = os.path.join(request["directory"], "connection.json")
        self.write_connection_file()
        pretend_to_be_launcher(self.connection_file)
        super().init_code()  # the user's own start-up files, which may look at the folder and the environment

    def move_home(self, shell: Any) -> None:
        """Go over to a home folder that came later: its packages, its profile with start-up files, its history."""
        add_packages_at_home()
        self.profile_dir = None
        self.ipython_dir = shell.ipython_dir = get_ipython_dir()
        self.init_profile_dir()
        shell.profile_dir = self.profile_dir
        before = shell.history_manager
        shell.configurables.remove(before)
        shell.init_history()
        shell.init_user_ns()  # `In`, `Out`, `_dh` are the history's own lists
        before.end_session()
        if before.save_thread is not None:
            before.save_thread.stop()


class Adoption:
    """The standby's ear, on the main event loop."""

    def __init__(self, app: LeasedKernelApp) -> None:
        self.app = app
        self.directory = os.path.dirname(app.abs_connection_file)
        with open(os.path.join(self.directory, "adopt.secret"), encoding="ascii") as file:
            self.secret = file.read().strip()
        self.refusals = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def listen(self) -> None:
        # A socket's path holds only 107 bytes, less than many a folder has: the name is resolved in /proc instead.
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        self.listener.bind(f"/proc/self/fd/{directory}/.adopt.sock")
        os.chmod(f"/proc/self/fd/{directory}/.adopt.sock", 0o600)
        self.listener.listen(4)
        self.listener.setblocking(False)
        # Renamed only now, so that who sees the name can connect.
        os.rename(".adopt.sock", "adopt.sock", src_dir_fd=directory, dst_dir_fd=directory)
        os.close(directory)
        IOLoop.current().add_handler(self.listener, self._on_connection, IOLoop.READ)

    def _on_connection(self, _fd: Any, _events: Any) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(MESSAGE_SECONDS_MAX)
            try:
                request = self._trusted_request(connection)
            except Exception as problem:
                _reply(connection, {"ok": False, "message": str(problem)})
                self.refusals += 1
                if self.refusals > REFUSALS_MAX:
                    os._exit(1)
                return
            try:
                self.app.adopt(request)
            except Exception as problem:
                unseen = str(problem) if isinstance(problem, Unseen) else ""
                _reply(connection, {"ok": False, "message": f"{type(problem).__name__}: {problem}", "unseen": unseen})
                os._exit(1)  # half of one thing and half of another is no kernel
            IOLoop.current().remove_handler(self.listener)
            self.listener.close()
            _reply(connection, {"ok": True, "pid": os.getpid(), "python_version": platform.python_version()})

    def _trusted_request(self, connection: socket.socket) -> dict[str, Any]:
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (os.getuid(), 0):
            raise PermissionError("only the kernel's own user may take it over, or root, who starts it for others")
        request = json.loads(_read_line(connection))
        if not hmac.compare_digest(str(request.get("secret", "")).encode(), self.secret.encode()):
            raise PermissionError("the secret is wrong")
        return request


def _reply(connection: socket.socket, answer: dict[str, Any]) -> None:
    try:
        connection.sendall(json.dumps(answer).encode() + b"\n")
    except OSError:
        pass  # who asked is gone; whether it took place is seen by the key in the connection file


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        part = connection.recv(65536)
        if not part or len(line) > MESSAGE_BYTES_MAX:
            raise ValueError("a message ends with a line feed within a megabyte")
        line += part
    return bytes(line)


class Unseen(Exception):
    """A folder that should be here by now is not."""


def see(folder: dict[str, Any]) -> None:
    """Raise ``Unseen`` unless the folder that was mounted for us is here: that very one, and read-only if it should be.

    What was seen to on the other side may have been lost on the way, and what stands here instead is not its person's.
    """
    try:
        found = os.stat(folder["path"])
        is_read_only = bool(os.statvfs(folder["path"]).f_flag & os.ST_RDONLY)
    except OSError as problem:
        raise Unseen(f"{folder['path']}: {problem.strerror}") from problem
    if (found.st_dev, found.st_ino) != (folder["device"], folder["inode"]):
        raise Unseen(f"{folder['path']} is another folder")
    if folder["read_only"] and not is_read_only:
        raise Unseen(f"{folder['path']} can be written to")


def add_packages_at_home() -> None:
    """See to what was installed with `pip install --user`, as a Python does that starts with this home."""
    if not site.ENABLE_USER_SITE:
        return
    site.USER_BASE = site.USER_SITE = None
    folder, others = site.getusersitepackages(), set(site.getsitepackages())
    if not os.path.isdir(folder):
        return
    before = list(sys.path)
    site.addsitedir(folder)
    added = [path for path in sys.path if path not in before]
    position = next((index for index, path in enumerate(before) if path in others), len(before))
    sys.path[:] = [*before[:position], *added, *before[position:]]


def pretend_to_be_launcher(connection_file: str) -> None:
    """Give the user the ``sys.argv`` that kernels have: notebooks parse it, and expect that ``-f``."""
    sys.argv = ["ipykernel_launcher.py", "-f", connection_file]


def curve_keys(connection_file: str) -> tuple[bytes, bytes] | None:
    """Return the public and the secret key that a connection file asks for, or None for sockets in the clear."""
    with open(connection_file, encoding="utf-8") as file:
        info = json.load(file)
    if not info.get("curve_secretkey"):
        return None
    return info["curve_publickey"].encode("ascii"), info["curve_secretkey"].encode("ascii")


def refuse_old_ipykernel(directory: str) -> None:
    """End with a sentence for the person where encryption is asked of an ipykernel that can't do all of it."""
    if LeasedKernelApp.keys is None or ipykernel.version_info[:2] >= IPYKERNEL_MIN:
        return
    wanted = ".".join(map(str, IPYKERNEL_MIN))
    words = f"The Python {sys.executable} has ipykernel {ipykernel.__version__}, and {wanted} or newer is needed there."
    descriptor = os.open(os.path.join(directory, "refused"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(words)
    sys.exit(words)


def main() -> None:
    arguments = sys.argv[1:]
    LeasedKernelApp.is_standby = arguments[0] == "--standby"
    if LeasedKernelApp.is_standby:
        del arguments[0]
    connection_file, *others = arguments
    version = os.open(
        os.path.join(os.path.dirname(connection_file), "python_version"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600
    )
    with open(version, "w", encoding="ascii") as file:
        file.write(platform.python_version())
    pretend_to_be_launcher(connection_file)
    LeasedKernelApp.keys = curve_keys(connection_file)
    refuse_old_ipykernel(os.path.dirname(connection_file))
    # A parent of 1 is never polled for, and keeps ipykernel from explaining itself on a terminal that is not there.
    app = LeasedKernelApp.instance(parent_handle=1)
    app.initialize(["-f", connection_file, *others])
    app.start()


if __name__ == "__main__":
    main()
