"""Jobs that start at once: Slurm looks at a batch job when its next second begins, at an interactive one right away.

Such a job is an ``srun``, which stays on this machine as long as the job: some megabytes each. It has a session of its
own and outlives a control plane that is killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence

REFUSAL_SECONDS = 0.25
"""How long to wait for a refusal. It comes at once, and a kernel takes longer to start, so nobody waits for this."""
_POLL_SECONDS = 0.005
_BATCH_ONLY = ("--parsable", "--no-requeue", "--input=/dev/null", "--open-mode=append")


class Sruns:
    """The ``srun`` processes that this control plane started and has to collect."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def start(
        self, arguments: Sequence[str], script: str, *, is_login: bool, path: str, environment: Mapping[str, str]
    ) -> int:
        """Run a job; return 0, or the exit code of one that was refused. What it says goes to ``path``.out."""
        self.reap()  # of those before, which would stay as zombies until somebody asks for all jobs
        descriptor = os.open(path + ".job", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(script)
        options = [argument for argument in arguments if argument not in _BATCH_ONLY]
        shell = ["/bin/bash", *(["-l"] if is_login else []), "-s"]
        out = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            "srun",
            ["srun", *options, *shell],
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, path + ".job", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, path + ".out", out, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
        deadline = time.monotonic() + REFUSAL_SECONDS
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(_POLL_SECONDS)
        with self._lock:
            self._pids.add(pid)
        return 0

    def reap(self) -> None:
        """Collect those that have ended."""
        with self._lock:
            for pid in list(self._pids):
                try:
                    ended = os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    ended = True
                if ended:
                    self._pids.discard(pid)
