"""A shell on a terminal of its own beside a running kernel: in its container or its job, as its user, for its folder.

``backends/shells.py`` sends this file to a Python there, after ``supervisor.py``, of which it uses the walk over
``/proc``. Both are sent over standard input, so that a place needs nothing of ours; then come frames, each a letter,
eight hexadecimal digits of length, and so much of

    C   once, first: a JSON object with ``rows``, ``columns`` and where the kernel is found: ``label``, a variable and
        its value that its environment has, or ``below``, the process that it was started by. ``environment`` is what
        the shell gets; null takes over the kernel's own, without what ``secret_names`` (a pattern) matches
    I   what was typed
    R   a JSON list: rows and columns, changed

What the terminal shows goes to standard output as it is.

The end of standard input ends the shell and all that it started, also what detached itself: whoever held the other end
is gone, or has closed the terminal. So nothing of a terminal outlives it, whatever becomes of the control plane.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import struct
import termios
import time
from typing import Any

INPUT_BYTES_MAX = 256 * 1024
"""What was typed and not read yet; then nothing more is taken from the other end."""
HANGUP_SECONDS = 0.5
KILL_SECONDS_MAX = 5.0
DRAIN_SECONDS = 0.5
SHELLS = ("bash", "sh")
NO_SHELL = "This place has no shell (neither bash nor sh), so that no terminal can be opened in it."
NO_KERNEL = "The kernel is not found here any more; nothing to open a terminal beside."

_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38


class Failed(Exception):
    """Why there is no shell, in a sentence."""


class Shell:
    """One terminal, in one thread: what comes from either side is passed on, and none is read faster than the other."""

    def __init__(self, supervisor: Any) -> None:
        self.supervisor = supervisor
        self.frames = bytearray()
        self.typed = bytearray()
        self.shown = b""
        self.is_hung_up = False
        self.pid = 0
        self.master = -1
        self.status: int | None = None

    def run(self) -> int:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what detaches stays below us
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for descriptor in (0, 1):
            os.set_blocking(descriptor, False)
        while not self.frames and not self.is_hung_up:
            select.select([0], [], [])
            self._take()
        while (config := self._frame()) is None and not self.is_hung_up:
            select.select([0], [], [])
            self._take()
        if config is None:
            return 0
        try:
            self._begin(json.loads(config[1]))
        except (Failed, OSError) as problem:
            self.shown = f"{problem}\r\n".encode()
            self._flush(DRAIN_SECONDS)
            return 127
        try:
            self._relay()
        finally:
            self._end()
        self._flush(DRAIN_SECONDS)
        return 0

    # The beginning

    def _begin(self, config: dict[str, Any]) -> None:
        kernel = self._kernel(config)
        environment = config["environment"]
        if environment is None:
            secret = re.compile(config["secret_names"], re.IGNORECASE)
            environment = {name: value for name, value in _environment(kernel).items() if not secret.search(name)}
        path = environment.get("PATH", os.defpath)
        program = next(filter(None, (shutil.which(name, path=path) for name in SHELLS)), None)
        if program is None:
            raise Failed(NO_SHELL)
        environment.update(TERM="xterm-256color", SHELL=program)
        self.master, slave = os.openpty()
        self._resize([config["rows"], config["columns"]])
        folders = (f"/proc/{kernel}/cwd", environment.get("HOME", "/"), "/")
        self.pid = os.fork()
        if self.pid:
            os.close(slave)
            os.set_blocking(self.master, False)
            return
        try:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for descriptor in (0, 1, 2):
                os.dup2(slave, descriptor)
            os.closerange(3, 256)
            # What was ignored stays so in all that it starts: for a server that a script put into the background these
            # are Ctrl-C and Ctrl-\\.
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTSTP):
                signal.signal(number, signal.SIG_DFL)
            _enter(folders)
            os.execve(program, [program], environment)
        except OSError as problem:
            os.write(2, f"{program} could not be started: {problem}\r\n".encode())
        finally:
            os._exit(127)

    def _kernel(self, config: dict[str, Any]) -> int:
        """Return the kernel's process: the oldest of our own user's that fits."""
        found = []
        for name in os.listdir("/proc"):
            stat = self.supervisor["stat_of"](int(name)) if name.isdigit() else None
            if stat is None or stat.state in "ZX" or os.getuid() != _owner(name):
                continue
            if "below" in config:
                fits = stat.parent == config["below"]
            else:
                variable, value = config["label"]
                fits = _environment(int(name)).get(variable) == value
            if fits:
                found.append((stat.start_time, int(name)))
        if not found:
            raise Failed(NO_KERNEL)
        return min(found)[1]

    def _resize(self, size: list[int]) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 0, 0))

    # Passing on

    def _relay(self) -> None:
        while not self.is_hung_up:
            reads = [] if self.shown else [self.master]
            if len(self.typed) < INPUT_BYTES_MAX:
                reads.append(0)
            writes = ([1] if self.shown else []) + ([self.master] if self.typed else [])
            select.select(reads, writes, [], 1.0)
            self._take()
            while (frame := self._frame()) is not None:
                self._obey(*frame)
            if not self._show():
                return
            if self.typed:
                try:
                    del self.typed[: os.write(self.master, self.typed[:4096])]
                except BlockingIOError:
                    pass
                except OSError:
                    return
            self._flush(0)
            self._reap()
            if self.status is not None and not self.shown:
                # Its last words are there by now; what it left in the background does not keep the terminal open.
                self._say_the_rest()
                return

    def _say_the_rest(self) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._show() and self.shown and time.monotonic() < deadline:
            self._flush(DRAIN_SECONDS)

    def _obey(self, letter: bytes, text: bytes) -> None:
        if letter == b"I":
            self.typed += text
        elif letter == b"R":
            self._resize(json.loads(text))

    def _take(self) -> None:
        if len(self.typed) >= INPUT_BYTES_MAX:
            return
        try:
            part = os.read(0, 65536)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self.is_hung_up = True
        self.frames += part

    def _frame(self) -> tuple[bytes, bytes] | None:
        if len(self.frames) < 9:
            return None
        length = int(self.frames[1:9], 16)
        if len(self.frames) < 9 + length:
            return None
        letter, text = bytes(self.frames[:1]), bytes(self.frames[9 : 9 + length])
        del self.frames[: 9 + length]
        return letter, text

    def _show(self) -> bool:
        """Take what the terminal shows; False once nobody has it open any more."""
        if self.shown:
            return True
        try:
            self.shown = os.read(self.master, 65536)
        except BlockingIOError:
            return True
        except OSError:  # what Linux says instead of an end
            return False
        return bool(self.shown)

    def _flush(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.shown:
            try:
                self.shown = self.shown[os.write(1, self.shown) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                select.select([], [1], [], left)
            except OSError:  # nobody reads any more
                self.shown, self.is_hung_up = b"", True

    # The end

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def _end(self) -> None:
        """End all that was started from here, as losing a terminal does, and then for sure."""
        descendants, send = self.supervisor["descendants"], self.supervisor["_send"]
        send(signal.SIGHUP, descendants(os.getpid()))
        send(signal.SIGCONT, descendants(os.getpid()))
        now = time.monotonic()
        hangup_until, deadline = now + HANGUP_SECONDS, now + KILL_SECONDS_MAX
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            if time.monotonic() > hangup_until:
                send(signal.SIGKILL, left)
            self._reap()
            time.sleep(0.01)
        self._reap()


def _owner(name: str) -> int:
    try:
        return os.stat(f"/proc/{name}").st_uid
    except OSError:
        return -1


def _environment(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0") if pair]
    except OSError:
        return {}
    return {name: value for name, _, value in pairs}


def _enter(folders: tuple[str, ...]) -> None:
    for folder in folders:
        try:
            # By its own name, so that the shell shows that one.
            os.chdir(os.readlink(folder) if folder.startswith("/proc/") else folder)
        except OSError:
            continue
        return


def main(supervisor: Any) -> int:
    return Shell(supervisor).run()
