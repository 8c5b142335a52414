"""The small process above one leased kernel: nothing that it watches over runs unpaid or outlives it.

Run as ``python -I -S supervisor.py DIRECTORY LOCK_FD [CONTROL]``. It needs the standard library alone and starts in
about 15 ms. The directory belongs to this placement; the supervisor makes it its working directory and names files
relatively, so that it may be renamed while it runs (that is how a standby kernel becomes a placement). In it:

    request.json     what to start: argv, cwd, env, umask, and perhaps a ``parent`` without whom it ends; read once and
                     removed, since the environment holds a token
    paid_until       seconds since 1970; replaced by whoever renews, read about once a second
    stop             seconds of grace; written by whoever wants the end, who then sends SIGTERM
    lock             held by this process for its whole life: whoever can lock it knows that the supervisor is gone
    supervisor.json  {pid, start_time}, before the kernel is started
    kernel.json      {pid, start_time}, after
    end.json         {reason, exit_code, at}, the last thing written
    log              what the kernel wrote outside its channels, at most a few megabytes

``CONTROL`` is another directory for what only the other side may write (``paid_until``, ``stop``), where the kernel
could write to this one. A named pipe ``bell`` in it takes the place of signals for who sees that directory but not this
process: any byte has us look again, an ``I`` among them is an interrupt. ``LOCK_FD`` is ``-`` where nobody looks at it.

SIGINT is passed on to the kernel's process group: who is not on this machine interrupts a cell so.

A container's first process is this one too, by way of ``first.py``, which starts the kernel before. There it also does
an init's work (it reaps what lost its parent), and neither a signal from inside nor a debugger of the same user
reaches it.

If this process is killed, the kernel is killed by the operating system (PR_SET_PDEATHSIG). What the kernel started
stays below this process even when it detaches (PR_SET_CHILD_SUBREAPER), so that a walk over ``/proc`` finds it.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import math
import os
import signal
import sys
import time
from typing import NamedTuple

POLL_SECONDS = 1.0
UNREADABLE_SECONDS_MAX = 30.0
"""How long ``paid_until`` may be missing or nonsense before we take it as not paid."""
UNPAID_GRACE_SECONDS = 1.0
STOP_GRACE_SECONDS = 2.0
OOM_SECONDS_MAX = 15.0
"""A process with much memory takes seconds to die, so the count may rise well before the death is seen."""
KILL_SECONDS_MAX = 10.0
LOG_BYTES_MAX = 4 * 1024 * 1024
KERNEL_OOM_SCORE_ADJUSTMENT = 300
"""When memory runs out the kernel goes first, then its supervisor can still say why."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36
_SECRETS = ("request.json", "connection.json", "adopt.secret", "adopt.sock")


class Stat(NamedTuple):
    state: str
    parent: int
    group: int
    start_time: int
    """In ticks since boot; it tells a process from a later one with the same pid."""


def stat_of(pid: int) -> Stat | None:
    """Return what ``/proc`` knows of a process, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may hold anything, parentheses and spaces too.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Stat(fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[19]))


def descendants(root: int) -> dict[int, Stat]:
    """Return the processes below ``root`` that are not zombies, nearest first."""
    stats: dict[int, Stat] = {}
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := stat_of(int(name))) is not None:
            stats[int(name)] = stat
            below.setdefault(stat.parent, []).append(int(name))
    found, queue = [], [root]
    while queue:
        children = below.get(queue.pop(0), [])
        found += children
        queue += children
    return {pid: stats[pid] for pid in found if stats[pid].state not in "ZX"}


def oom_kills() -> int:
    """Return how many processes were ended for lack of memory (0 where it is not counted).

    Of this machine, since boot; or of this container, where we are its first process.
    """
    names = ["/proc/vmstat"]
    if os.getpid() == 1:
        names[:0] = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]
    for name in names:
        try:
            with open(name, "rb") as file:
                for line in file:
                    if line.startswith(b"oom_kill "):
                        return int(line.split()[1])
        except OSError:
            pass
    return 0


def write_atomically(name: str, text: str) -> None:
    """Write a private file so that a reader sees the old text or the new one, never half of it."""
    temporary = f".{name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, name)


class Supervisor:
    """One kernel's life. Everything happens in one thread, in the order in which signals and seconds arrive."""

    def __init__(self, control: str = ".", kernel_pid: int = 0) -> None:
        self.control = control
        self.bell = -1
        self.kernel_pid = kernel_pid
        self.paid_until = 0.0
        self.read_at = time.monotonic()
        self.kernel_status: int | None = None
        self.oom_kills = oom_kills()
        self.oom_kill_at = -math.inf

    def run(self) -> None:
        request = {}
        if not self.kernel_pid:
            with open("request.json", encoding="utf-8") as file:
                request = json.load(file)
        self.paid_until = self._read_paid_until() or 0.0
        write_atomically("supervisor.json", _identity(os.getpid()))
        # Blocked, and taken one by one below, so that none gets lost between a look and a wait.
        watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO}
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        if request.get("parent"):
            # A launcher, who alone hears the control plane: without it the kernel ends in order.
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != request["parent"]:
                os.kill(os.getpid(), signal.SIGTERM)  # it died before the line above
        self.bell = _open_bell(os.path.join(self.control, "bell"))
        if not self.kernel_pid:
            self.kernel_pid = self._start_kernel(request)
        write_atomically("kernel.json", _identity(self.kernel_pid))
        _unlink("request.json")
        del request
        wait = 0.0  # a stop may have been asked for already
        while True:
            taken = signal.sigtimedwait(watched, wait)
            self._reap()
            self._count_oom_kills()
            asked = taken is not None and taken.si_signo == signal.SIGINT
            if (_heard(self.bell) or asked) and self.kernel_status is None:
                # To its whole group, as Jupyter does: a cell may wait for a program that it runs.
                _send_to_group(signal.SIGINT, self.kernel_pid)
            grace_seconds = _read_number(os.path.join(self.control, "stop"))
            if grace_seconds is None and taken is not None and taken.si_signo == signal.SIGTERM:
                grace_seconds = STOP_GRACE_SECONDS  # the machine shuts down
            if self.kernel_status is not None:
                return self._end(self._why_it_died(), grace_seconds=0.0)
            if grace_seconds is not None:
                return self._end("stopped", grace_seconds=grace_seconds)
            if self._is_unpaid():
                return self._end("unpaid", grace_seconds=UNPAID_GRACE_SECONDS)
            self._bound_log()
            wait = max(0.0, min(POLL_SECONDS, self.paid_until - time.time()))

    # Starting

    def _start_kernel(self, request: dict) -> int:
        parent = os.getpid()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        pid = os.fork()
        if pid:
            return pid
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)  # the supervisor died before the line above
            os.setsid()  # a session and process group of its own, which an interrupt goes to
            try:
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write(str(KERNEL_OOM_SCORE_ADJUSTMENT))
            except OSError:
                pass  # a hardened /proc; the kernel runs all the same
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGIO):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.umask(request["umask"])
            os.chdir(request["cwd"])
            os.execvpe(request["argv"][0], request["argv"], request["env"])
        except BaseException as problem:
            os.write(2, f"The kernel could not be started: {problem}\n".encode())
        os._exit(127)

    # Watching

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.kernel_pid:
                self.kernel_status = status

    def _read_paid_until(self) -> float | None:
        number = _read_number(os.path.join(self.control, "paid_until"))
        if number is not None:
            self.read_at = time.monotonic()
        return number

    def _is_unpaid(self) -> bool:
        moment = self._read_paid_until()
        if moment is not None:
            self.paid_until = moment
        # Closed when in doubt: without a readable promise of payment the last one counts, and not for long.
        return time.time() >= self.paid_until or time.monotonic() - self.read_at > UNREADABLE_SECONDS_MAX

    def _count_oom_kills(self) -> None:
        count = oom_kills()
        if count != self.oom_kills:
            self.oom_kills, self.oom_kill_at = count, time.monotonic()

    def _bound_log(self) -> None:
        try:
            if os.stat("log").st_size > LOG_BYTES_MAX:
                os.truncate("log", 0)  # opened for appending, so that the next line lands at the new start
        except OSError:
            pass

    # Ending

    def _why_it_died(self) -> str:
        assert self.kernel_status is not None
        code = os.waitstatus_to_exitcode(self.kernel_status)
        if code == -signal.SIGKILL:
            return "out_of_memory" if time.monotonic() - self.oom_kill_at < OOM_SECONDS_MAX else "killed"
        return {0: "exited", 127: "start_failed"}.get(code, "crashed")

    def _end(self, reason: str, *, grace_seconds: float) -> None:
        """Terminate, wait, kill, until nothing is left below this process; then write down why."""
        if grace_seconds > 0:
            _send(signal.SIGTERM, descendants(os.getpid()))
            self._wait_for_all(grace_seconds)
        deadline = time.monotonic() + KILL_SECONDS_MAX
        while (left := descendants(os.getpid())) and time.monotonic() < deadline:
            # Again and again, since a process may have forked between the look and the signal; and to its group, which
            # the system does in one go, since one that forks and exits all the time is never met under its pid.
            _send(signal.SIGKILL, left)
            _send_to_groups(signal.SIGKILL, left)
            self._wait_for_all(0.05)
        self._reap()
        exit_code = None if self.kernel_status is None else os.waitstatus_to_exitcode(self.kernel_status)
        for name in _SECRETS:
            _unlink(name)
        write_atomically("end.json", json.dumps({"reason": reason, "exit_code": exit_code, "at": time.time()}))

    def _wait_for_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._reap()
            if not descendants(os.getpid()):
                return
            signal.sigtimedwait({signal.SIGCHLD}, min(left, 0.05))


def _identity(pid: int) -> str:
    stat = stat_of(pid)
    return json.dumps({"pid": pid, "start_time": 0 if stat is None else stat.start_time})


def _send(number: int, processes: dict[int, Stat]) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _send_to_groups(number: int, processes: dict[int, Stat]) -> None:
    """Signal the process groups of our descendants: each began below us, so that only descendants are in it."""
    for group in {stat.group for stat in processes.values()} - {os.getpgrp(), 0, 1}:
        _send_to_group(number, group)


def _send_to_group(number: int, group: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def _read_number(name: str) -> float | None:
    """Return the finite number in a file, or None where there is none."""
    try:
        with open(name, encoding="ascii") as file:
            number = float(file.read(64))
    except (OSError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _open_bell(name: str) -> int:
    """Open the bell, if there is one, so that it wakes us with SIGIO, which is blocked by now."""
    try:
        bell = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    fcntl.fcntl(bell, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(bell, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    return bell


def _heard(bell: int) -> bool:
    """Tell whether an interrupt was asked for by the bell."""
    try:
        return bell >= 0 and b"I" in os.read(bell, 1024)
    except OSError:
        return False


def _unlink(name: str) -> None:
    try:
        os.unlink(name)
    except OSError:
        pass


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # the one that listed the directory


def watch(kernel_pid: int, control: str) -> None:
    """Go on as the first process of a container, above a kernel that was started a moment ago."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    Supervisor(control, kernel_pid).run()


def main() -> None:
    if os.getsid(0) != os.getpid():  # who starts it may have seen to that
        os.setsid()
    os.chdir(sys.argv[1])
    lock = -1 if sys.argv[2] == "-" else int(sys.argv[2])
    if lock >= 0:
        os.set_inheritable(lock, False)  # the lock is ours; a kernel that held it would look like us
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor != lock:
            _close(descriptor)  # such as a port of the server, which could not open it again
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    Supervisor(sys.argv[3] if len(sys.argv) > 3 else ".").run()


if __name__ == "__main__":
    main()
