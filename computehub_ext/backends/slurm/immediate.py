"""Jobs that start at once: Slurm looks at a batch job when its next second begins, at an interactive one right away.

Such a job is an ``srun``, which stays on this machine as long as the job: some megabytes each. It has a session of its
own and outlives a control plane that is killed.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

_BATCH_ONLY = ("--parsable", "--no-requeue", "--input=/dev/null", "--open-mode=append")

OnEnd = Callable[[int], None]


class Sruns:
    """The ``srun`` processes that this control plane started. One thread collects them as they end, and tells."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[int, OnEnd]] = {}
        """The process and who wants to know, by its descriptor."""
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(
        self,
        arguments: Sequence[str],
        script: str,
        *,
        is_login: bool,
        path: str,
        environment: Mapping[str, str],
        on_end: OnEnd,
    ) -> None:
        """Run a job without waiting; ``on_end`` gets the exit code. What it says goes to ``path``.out."""
        descriptor = os.open(path + ".job", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(script)
        options = [argument for argument in arguments if argument not in _BATCH_ONLY]
        # From a file: of a script on stdin, whatever reads stdin before the kernel takes the rest.
        shell = ["/bin/bash", *(["-l"] if is_login else []), path + ".job"]
        out = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            "srun",
            ["srun", *options, *shell],
            dict(environment),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, path + ".out", out, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
        process = os.pidfd_open(pid)
        with self._lock:
            self._ends[process] = (pid, on_end)
            self._selector.register(process, selectors.EVENT_READ)  # also wakes who waits already
            if self._thread is None:
                self._thread = threading.Thread(target=self._collect, name="computehub-slurm-sruns", daemon=True)
                self._thread.start()

    def _collect(self) -> None:
        while True:
            for key, _ in self._selector.select():
                with self._lock:
                    self._selector.unregister(key.fd)
                    pid, on_end = self._ends.pop(key.fd)
                os.close(key.fd)
                try:
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                except ChildProcessError:
                    continue  # somebody else in this process collected it
                try:
                    on_end(code)
                except Exception:
                    log.exception("The end of an srun could not be told.")
