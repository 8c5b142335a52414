"""Terminals beside leased kernels: who may open one, how many, and how each ends.

A terminal is kept for the one who opened it, under a name that they chose. Whoever shows it to them asks again and
again what it shows; a terminal after which nobody asks any more is closed, so that none outlives a browser, or a
server, that went away.
"""

from __future__ import annotations

import codecs
import logging
import secrets
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from computehub_ext.backends.capabilities import Terminal
from computehub_ext.core.errors import Conflict, Forbidden, NotFound
from computehub_ext.leases.model import Lease, LeaseState

log = logging.getLogger(__name__)

PER_LEASE_MAX = 4
SHOWN_BYTES_MAX = 256 * 1024
"""What is shown and nobody took yet; then the programs wait."""
UNHEARD_SECONDS_MAX = 45.0
_READ_SECONDS = 0.5

LEASE_OVER = "The GPU was given back, and this terminal ended with it."
KERNEL_OVER = "The kernel here has ended or was restarted, and this terminal with it."
SHELL_OVER = "The shell has ended."
UNHEARD = "Nobody was looking any more."


def check_may_open(lease: Lease, *, is_owner: bool, from_kernel: bool, is_offered: bool) -> None:
    """Decide whether a terminal may be opened beside a lease's kernel: the one place that does.

    What is not allowed by name is forbidden. An administrator ends others' leases, and does not look into them.

    Raises
    ------
    Forbidden, Conflict
    """
    if not is_owner or from_kernel:
        raise Forbidden("A terminal is for the person who pays for the GPU, in their own browser.", lease_id=lease.id)
    if not is_offered:
        raise Forbidden("The administrator does not allow terminals at this place.", lease_id=lease.id)
    if lease.state is not LeaseState.RUNNING:
        raise Conflict("A terminal is opened beside a running kernel, and here runs none.", lease_id=lease.id)


@dataclass(frozen=True)
class Key:
    """Whose terminal it is, where, and what they call it."""

    username: str
    lease_id: str
    name: str


class OpenTerminal:
    """One terminal, read by a thread of its own into a buffer of a bounded size."""

    def __init__(self, terminal_id: str, key: Key) -> None:
        self._id, self.key = terminal_id, key
        self._taken_over = 0
        self.on_news: Callable[[], None] = lambda: None
        self._terminal: Terminal | None = None
        self._shown = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ended: str | None = None
        self._heard_at = time.monotonic()
        self._changed = threading.Condition()

    @property
    def id(self) -> str:
        """Another one for whoever takes it over, so that who had it before has it no more."""
        return f"{self._id}.{self._taken_over}"

    def taken_over(self) -> None:
        self._taken_over += 1
        self.hear()
        self.on_news()

    def begin(self, terminal: Terminal) -> None:
        with self._changed:
            is_over = self._ended is not None  # while it was opened
            self._terminal = terminal
        if is_over:
            terminal.close()
        else:
            threading.Thread(target=self._read, args=(terminal,), name="computehub-terminal", daemon=True).start()

    def _read(self, terminal: Terminal) -> None:
        try:
            while (part := terminal.read(_READ_SECONDS)) is not None and self._ended is None:
                if part:
                    with self._changed:
                        self._shown += part
                    self.on_news()
                self._wait_for_room()
        except Exception:
            log.exception("a terminal of lease %s failed", self.key.lease_id)
        self.end(SHELL_OVER)
        terminal.close()

    def _wait_for_room(self) -> None:
        with self._changed:
            while len(self._shown) > SHOWN_BYTES_MAX and self._ended is None and not self.is_unheard():
                self._changed.wait(_READ_SECONDS)
        if self.is_unheard():
            self.end(UNHEARD)

    def is_unheard(self) -> bool:
        return time.monotonic() - self._heard_at > UNHEARD_SECONDS_MAX

    def hear(self) -> None:
        """Somebody still looks."""
        self._heard_at = time.monotonic()

    def take(self, bytes_max: int) -> tuple[str, str | None]:
        """Return what it shows and nobody took yet, and once all of it is taken, why it ended."""
        self.hear()
        with self._changed:
            part = bytes(self._shown[:bytes_max])
            del self._shown[: len(part)]
            self._changed.notify_all()
            is_last = not self._shown and self._ended is not None
            return self._decoder.decode(part, is_last), self._ended if is_last else None

    @property
    def has_news(self) -> bool:
        return bool(self._shown) or self._ended is not None

    @property
    def is_over(self) -> bool:
        return self._ended is not None

    @property
    def terminal(self) -> Terminal | None:
        """None while it is being opened, and once it has ended."""
        return None if self._ended is not None else self._terminal

    def end(self, why: str) -> None:
        """End it; the thread that reads it closes it within half a second."""
        with self._changed:
            if self._ended is None:
                self._ended = why
            self._changed.notify_all()
        self.on_news()


class TerminalDesk:
    """The terminals that this control plane has open. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._open: list[OpenTerminal] = []
        self._lock = threading.Lock()

    def reserve(self, key: Key) -> tuple[OpenTerminal, bool]:
        """Return the terminal of this name, and whether it is new: then the caller lets it ``begin``, or ``drop``s it.

        Raises ``Conflict`` where the lease has as many as it may have.
        """
        with self._lock:
            self._forget_ended()
            found = [each for each in self._open if each.key.lease_id == key.lease_id and not each.is_over]
            same = [each for each in found if each.key == key]
            if same:
                same[0].taken_over()
                return same[0], False
            if len(found) >= PER_LEASE_MAX:
                raise Conflict(
                    f"{PER_LEASE_MAX} terminals are open here, which is all there may be; close one first.",
                    lease_id=key.lease_id,
                )
            made = OpenTerminal(secrets.token_hex(16), key)
            self._open.append(made)
            return made, True

    def find(self, terminal_id: str, username: str) -> OpenTerminal:
        found = next((each for each in self._all() if each.id == terminal_id), None)
        if found is None or found.key.username != username:
            raise NotFound("This terminal is over, or was opened once more elsewhere.")
        return found

    def drop(self, terminal: OpenTerminal) -> None:
        terminal.end(SHELL_OVER)
        with self._lock:
            self._open = [each for each in self._open if each is not terminal]

    def lease_ended(self, lease_id: str) -> None:
        for each in self._all():
            if each.key.lease_id == lease_id:
                each.end(LEASE_OVER)

    def close(self) -> None:
        for each in self._all():
            each.end("The server is shutting down.")

    def _all(self) -> Collection[OpenTerminal]:
        with self._lock:
            return list(self._open)

    def _forget_ended(self) -> None:
        # One that ended is kept until its end was told, or for as long as somebody might still ask.
        self._open = [each for each in self._open if not (each.is_over and each.is_unheard())]
