"""An engine's socket on another machine, brought here by the system's own ssh.

One ssh for all connections: it forwards a socket in a private folder of ours to the engine's. It knows hosts, keys and
agents as every other ssh of this account does. On the other side it runs a program that says when all is ready and then
waits for the end of its input, which comes with ours: so nothing is left there or here, however this process ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path

from computehub_ext.core.errors import Invalid, Unreachable

from ..waiting import wait_to_read

_SOCKET = "/var/run/docker.sock"
_WAIT = "echo ready; exec cat >/dev/null"
_AGAIN_SECONDS = 2.0
# None of its parts begins with a dash, which would make it an option, or has a colon, which would end a path.
_URL = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.+-]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9_.-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[^:?#\s]*)?"
)
_SAID_MAX = 4000
_OPTIONS = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes", "ConnectionAttempts=1"),
    # A connection that is shared with others would not end with us.
    *("ControlMaster=no", "ControlPath=none", "ForkAfterAuthentication=no", "SessionType=default"),
    *("ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "RequestTTY=no", "RemoteCommand=none"),
    *("ServerAliveInterval=5", "ServerAliveCountMax=3", "StreamLocalBindMask=0177"),
    "LogLevel=INFO",
)
_SAID = (
    ("host key verification failed", "its host key is not known here: `ssh` to it once by hand, or see known_hosts"),
    ("host identification has changed", "its host key is not the one that is known here"),
    ("permission denied", "it lets nobody in with the keys that this account has; see ssh_config"),
    ("could not resolve", "no such host is known"),
    ("connection refused", "nobody listens there"),
    ("timed out", "it does not answer"),
)


class Tunnel:
    """One engine's.

    Parameters
    ----------
    url:
        ``ssh://[user@]host[:port][/path/of/the/socket]``.
    config:
        A file as ssh_config(5) describes it; the account's own when empty.
    seconds_max:
        How long it may take to open.
    folder:
        A private folder for the socket.
    """

    def __init__(self, url: str, config: str, seconds_max: int, folder: Path) -> None:
        self._target = parse(url)
        self._url, self._config, self._seconds_max, self._folder = url, config, seconds_max, folder
        self._name = f"{secrets.token_hex(8)}.sock"
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._descriptor = -1
        self._failed: tuple[float, str] = (0.0, "")

    @property
    def path(self) -> str:
        """Where the socket is: a name that is short however deep the folder lies, since a socket's has 107 bytes."""
        return f"/proc/self/fd/{self._descriptor}/{self._name}"

    @property
    def _log(self) -> Path:
        return self._folder / f"{self._name}.log"

    def keep_open(self) -> None:
        """Open it if it is not. Raises ``Unreachable``."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            if self._failed[0] > time.monotonic():
                raise self._problem(self._failed[1])
            self._end()
            try:
                self._open()
            except OSError as problem:
                self._end()
                self._fail(f"ssh can't be started ({problem.strerror})", problem)
            except BaseException:
                self._end()  # or its process would be taken for an open tunnel by who asks next
                raise

    def complaint(self) -> str:
        """Return what ssh last said of a connection that it could not make on the other side."""
        try:
            said = self._log.read_text(errors="replace")[-_SAID_MAX:]
            os.truncate(self._log, 0)  # each is told once, and the file stays small
        except OSError:
            return ""
        failed = [line for line in said.splitlines() if "open failed" in line]
        return f"its socket does not open there ({failed[-1].strip(' .')})" if failed else ""

    def close(self) -> None:
        with self._lock:
            self._end()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> None:
        if self._descriptor < 0:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(self._folder, 0o700)
            self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._remove_old()
        user, host, port, remote = self._target
        options = [part for option in (*_OPTIONS, f"ConnectTimeout={self._seconds_max}") for part in ("-o", option)]
        if self._config:
            options[:0] = ["-F", self._config]
        options += ["-l", user] if user else []
        options += ["-p", str(port)] if port else []
        with open(self._log, "a+b") as said:
            self._process = subprocess.Popen(
                ["ssh", *options, "-L", f"./{self._name}:{remote}", "--", host, _WAIT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is ours to hear
            )
            deadline = time.monotonic() + self._seconds_max
            assert self._process.stdout is not None
            heard = b""
            while b"ready" not in heard:
                left = deadline - time.monotonic()
                part = b""
                if left > 0 and wait_to_read(left, self._process.stdout.fileno()):
                    part = os.read(self._process.stdout.fileno(), 4096)
                if not part:
                    self._end()  # so that it has said all
                    said.seek(0)
                    text = said.read(_SAID_MAX).decode(errors="replace").strip()
                    self._fail(_in_words(text) if left > 0 else "it does not answer")
                heard = (heard + part)[-4096:]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
            process.terminate()
            process.wait()
        for name in (self._name, f"{self._name}.log"):
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def _fail(self, why: str, cause: Exception | None = None) -> None:
        self._failed = (time.monotonic() + _AGAIN_SECONDS, why)  # who asks meanwhile need not wait for the same
        raise self._problem(why) from cause

    def _problem(self, why: str) -> Unreachable:
        return Unreachable(f"The Docker engine at {self._url} is not reached: {why}.", engine=self._url)

    def _remove_old(self) -> None:
        """Remove what a process left that was killed: sockets at which nobody listens any more."""
        for old in self._folder.glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(f"/proc/self/fd/{self._descriptor}/{old.name}")
                except ConnectionRefusedError:
                    for path in (old, old.with_name(f"{old.name}.log")):
                        path.unlink(missing_ok=True)
                except OSError:
                    pass


def parse(url: str) -> tuple[str, str, int, str]:
    """Return user, host, port and the path of the engine's socket. Raises ``Invalid``."""
    found = _URL.fullmatch(url)
    if found is None or int(found["port"] or 0) > 65535:
        raise Invalid(
            "ssh://user@host is the form, with a port and the path of a socket if need be.", field="engine_url"
        )
    path = found["path"] or ""
    return found["user"] or "", found["host"].strip("[]"), int(found["port"] or 0), path if len(path) > 1 else _SOCKET


def _in_words(said: str) -> str:
    lower = said.lower()
    known = next((sentence for part, sentence in _SAID if part in lower), "")
    last = said.splitlines()[-1].strip(" .") if said else "ssh ended"
    return f"{known} ({last})" if known else last
