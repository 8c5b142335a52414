"""A program of this machine as a ``shells.Stream``: one that runs here, or ``srun``, which passes all on to a node."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence

from .shells import READ_BYTES
from .waiting import WokenStream

_END_SECONDS_MAX = 3.0


class PipeStream(WokenStream):
    """Raises ``OSError`` where the program can't be run."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._program = subprocess.Popen(
            command,
            env=dict(environment),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the server's own terminal is not for it
            bufsize=0,
        )
        assert self._program.stdin is not None and self._program.stdout is not None, "they are pipes"
        self._stdin, self._stdout = self._program.stdin, self._program.stdout
        for end in (self._stdin, self._stdout):
            os.set_blocking(end.fileno(), False)
        super().__init__()

    def _descriptor(self) -> int:
        return self._stdout.fileno()

    def _sent(self, out: bytes) -> int:
        try:
            return os.write(self._stdin.fileno(), out) if out else 0
        except OSError:  # full, or ended, which is seen by who reads
            return 0

    def _received(self) -> bytes | None:
        try:
            return os.read(self._stdout.fileno(), READ_BYTES) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None

    def close(self) -> None:
        """End its input, by which it ends; and it, where that is not enough."""
        self.wake()
        with self._in_use:
            if self._is_over:
                return
            self._is_over_now()
            self._stdin.close()
            try:
                self._drain_until_it_ends()
            finally:
                self._stdout.close()

    def _drain_until_it_ends(self) -> None:
        os.set_blocking(self._stdout.fileno(), True)
        draining = threading.Thread(target=self._drain, daemon=True, name="computehub-terminal-end")
        draining.start()
        try:
            self._program.wait(_END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._program.terminate()
            try:
                self._program.wait(_END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self._program.kill()
                self._program.wait()
        draining.join(_END_SECONDS_MAX)

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(self._stdout.fileno(), READ_BYTES):
                pass
