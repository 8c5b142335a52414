"""Find processes by the label in their environment, and signal them without hitting a later one of the same pid."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection

from ..environment import LABEL, OWNER


def start_time(pid: int) -> int | None:
    """Return a living process's start time, in ticks since boot; it tells it from a later one with the same pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # a name may hold parentheses and spaces
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def send(pid: int, started: int, number: int, *, to_group: bool = False) -> bool:
    """Signal a process, or the group that it leads, if it is still the one that ``started`` tells."""
    descriptor = _hold(pid)
    try:
        # Looked at only after it is held: from then on the pid can't come to mean another process.
        if start_time(pid) != started:
            return False
        if to_group:
            os.killpg(pid, number)
        elif descriptor is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return False
    else:
        return True
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _hold(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # gone, which its start time will tell, or a sandbox without such descriptors


def label_of(pid: int, owner: str) -> str | None:
    """Return the placement id in a process's environment, if this backend put it there."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return None  # gone, a zombie's, or another user's
    if f"{OWNER}={owner}".encode() not in entries:
        return None
    prefix = f"{LABEL}=".encode()
    return next((entry[len(prefix) :].decode(errors="replace") for entry in entries if entry.startswith(prefix)), None)


def labelled(owner: str) -> dict[int, str]:
    """Return ``{pid: placement id}`` of all living processes that this backend's kernels are or started."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (label := label_of(int(name), owner)) is not None and start_time(int(name)) is not None:
            found[int(name)] = label
    return found


def kill_labelled(owner: str, labels: Collection[str], seconds_max: float = 5.0) -> bool:
    """Kill whatever carries one of the labels; tell whether all of it is gone."""
    deadline = time.monotonic() + seconds_max
    dying: dict[int, int] = {}
    while True:
        left = [pid for pid, label in labelled(owner).items() if label in labels]
        # A process loses its environment, and so its label, a moment before it is gone.
        dying = {pid: started for pid, started in dying.items() if start_time(pid) == started}
        if not left and not dying:
            return True
        if time.monotonic() > deadline:
            return False
        for pid in left:
            started = start_time(pid)
            if started is not None and label_of(pid, owner) in labels and send(pid, started, signal.SIGKILL):
                dying[pid] = started
        time.sleep(0.005)


def resident_mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
