"""A program of this machine as a ``shells.Stream``: one that runs here, or ``srun``, which passes all on to a node."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Mapping, Sequence

from .shells import READ_BYTES

_RETRY_SECONDS = 0.05
_END_SECONDS_MAX = 3.0


class PipeStream:
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
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._in_use = threading.Lock()
        self._waking = threading.Lock()
        self._is_over = False

    def exchange(self, out: bytes, seconds: float) -> tuple[int, bytes | None]:
        with self._in_use:
            if self._is_over:
                return 0, None
            sent = self._sent(out)
            found = self._received()
            if found == b"":
                wait = min(seconds, _RETRY_SECONDS) if sent < len(out) else seconds
                select.select([self._stdout.fileno(), self._woken], [], [], wait)
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                found = self._received()
            return sent, found

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

    def wake(self) -> None:
        with self._waking, contextlib.suppress(OSError):
            if not self._is_over:
                os.write(self._waker, b"w")

    def close(self) -> None:
        """End its input, by which it ends; and it, where that is not enough."""
        self.wake()
        with self._in_use:
            if self._is_over:
                return
            with self._waking:
                self._is_over = True
            self._stdin.close()
            try:
                self._drain_until_it_ends()
            finally:
                self._stdout.close()
                os.close(self._woken)
                os.close(self._waker)

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
