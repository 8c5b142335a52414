"""A terminal into a kernel's container: one more process there, which the engine starts as the kernel's user.

The engine's own terminals are not used. It keeps what it started there running when nobody listens any more, and tells
nobody; ``kernel/shell.py`` has a terminal of its own, and hears the end of its standard input.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from datetime import UTC, datetime
from typing import Any

from computehub_ext.core.errors import Refused

from ..capabilities import Terminal, TerminalRequest
from ..model import StartRequest
from ..shells import ARGUMENTS, READ_BYTES, StreamTerminal
from ..waiting import WokenStream
from . import recipe
from .containers import Containers
from .engine import Container, Gone, NameTaken

_HEADER = struct.Struct(">BxxxL")
_NOT_NOW = (BlockingIOError, TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def open_terminal(containers: Containers, container: Container, request: TerminalRequest) -> Terminal:
    """Open one in a container that runs. Raises ``Refused`` where it does not any more."""
    settings = containers.settings
    environment = _environment(containers, container, request)  # may fail, when nothing runs there yet to be ended
    try:
        connection = containers.engine.run_in(container.id, [settings.python, *ARGUMENTS])
    except (Gone, NameTaken) as problem:
        raise Refused("The kernel has ended.") from problem
    config = {
        "rows": request.rows,
        "columns": request.columns,
        "environment": environment,
        "below": 1,  # the container's first process is the kernel's supervisor
    }
    return StreamTerminal(_EngineStream(connection), config)


def _environment(containers: Containers, container: Container, request: TerminalRequest) -> dict[str, str]:
    """Return what the kernel's begins with. What its notebook added stays its own: the token of `%gpu` is in it."""
    settings = containers.settings
    started_as = StartRequest(
        placement_id=request.placement_id,
        kernel_name=next(iter(settings.kernel_names)),
        cwd="/",
        env={},
        devices=request.devices,
        model=request.model,
        simulated=request.simulated,
        session_key=b"-",  # nothing signs by it
        username=request.username,
        paid_until=datetime.now(UTC),
    )
    wanted = recipe.wanted_by(settings, started_as)
    folder, image = containers.folder_of(container), containers.image(container.image_id)
    return recipe.kernel_environment(settings, image, wanted, started_as, folder, containers.owner)


class _EngineStream(WokenStream):
    """The engine's connection to a process: what it wrote comes in pieces that say on which of its two outputs."""

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self._held = connection  # lets go of the socket when it is collected
        self._socket = getattr(connection, "_sock", connection)
        self._socket.setblocking(False)
        self._pieces = bytearray()

    def _descriptor(self) -> int:
        return int(self._socket.fileno())

    def _sent(self, out: bytes) -> int:
        try:
            return int(self._socket.send(out)) if out else 0
        except (*_NOT_NOW, OSError):  # an end is seen by who reads
            return 0

    def _received(self) -> bytes | None:
        found = bytearray()
        is_over = False
        while len(found) < READ_BYTES and not is_over:
            try:
                part = self._socket.recv(READ_BYTES)
            except _NOT_NOW:
                break
            except OSError:
                part = b""
            is_over = not part
            self._pieces += part
            found += self._whole_pieces()
        return None if is_over and not found else bytes(found)

    def _whole_pieces(self) -> bytes:
        found = b""
        while len(self._pieces) >= _HEADER.size:
            _, length = _HEADER.unpack_from(self._pieces)
            end = _HEADER.size + length
            if len(self._pieces) < end:
                break
            found += self._pieces[_HEADER.size : end]
            del self._pieces[:end]
        return found

    def close(self) -> None:
        """The engine passes the end of the connection on to the program, as the end of its standard input."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.wake()
        with self._in_use:
            if not self._is_over:
                self._is_over_now()
                # A socket under TLS stays open as long as the answer that it came with.
                answer = getattr(self._held, "_response", None) or self._held
                for each in (answer, self._held, self._socket):
                    with contextlib.suppress(OSError):
                        each.close()
