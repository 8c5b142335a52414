"""The server's door for a kernel that has no network: its API on a unix socket in the folder where the two meet.

The folder is the kernel user's own, so whatever lies in it is theirs to change: nothing there is followed, opened or
given away. Who comes through is trusted less than who comes over the network. Only the folder's owner and root are
heard, only ComputeHub's API is behind it, and only a kernel's own token opens that; where the rest of the server asks
for no login at all, a kernel that is locked in still gets no terminal outside.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import stat
import struct
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.routing import Router
from tornado.web import Application, RequestHandler

from computehub_ext.core.web import kernel_token

log = logging.getLogger(__name__)

SOCKET_NAME = "server.sock"
BODY_BYTES_MAX = 1 << 20
IDLE_SECONDS = 30.0
_BACKLOG = 32
_PEER = struct.Struct("3i")


class Door:
    """Listens from its making until ``close``. Made and closed on the event loop.

    Parameters
    ----------
    web_app:
        The server's web application.
    api_path:
        Where ComputeHub's API begins, with the base URL, ending in a slash.

    Raises
    ------
    OSError
        The folder is not there, or not one that its owner alone can enter.
    """

    def __init__(self, web_app: Any, api_path: str, meeting_dir: str) -> None:
        self._folder = os.open(meeting_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        listening: socket.socket | None = None
        try:
            entry = os.fstat(self._folder)
            if stat.S_IMODE(entry.st_mode) & 0o077:
                raise PermissionError(f"{meeting_dir} can be entered by others")
            listening, self._inode = _listen(self._folder, foreign=entry.st_uid != os.getuid())
        except BaseException:
            if listening is not None:
                listening.close()
            os.close(self._folder)
            raise
        server = _GuardedServer(
            _KernelsOnly(web_app, api_path), max_body_size=BODY_BYTES_MAX, idle_connection_timeout=IDLE_SECONDS
        )
        server.owner = entry.st_uid
        server.add_socket(listening)
        self._server: HTTPServer | None = server

    def close(self) -> None:
        """Take the door away; twice is fine. The folder may be gone already."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.stop()
        try:
            # Not one that another server of this folder has put in the place of ours.
            if os.stat(SOCKET_NAME, dir_fd=self._folder, follow_symlinks=False).st_ino == self._inode:
                os.unlink(SOCKET_NAME, dir_fd=self._folder)
        except OSError:
            pass
        os.close(self._folder)


def _listen(folder: int, *, foreign: bool) -> tuple[socket.socket, int]:
    """Listen in a folder, by its descriptor: its path may be too long for a socket, and is not asked twice.

    In a ``foreign`` folder, which is another user's and this process root's, that user must be able to connect.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listening.fileno(), 0o600)  # before it is bound, and so from its first moment on
        new = f".{SOCKET_NAME}.{secrets.token_hex(4)}"
        listening.bind(f"/proc/self/fd/{folder}/{new}")
        inode = _open_to_all(folder, new) if foreign else os.stat(new, dir_fd=folder, follow_symlinks=False).st_ino
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        # In one step, also over the socket of a server that was killed.
        os.rename(new, SOCKET_NAME, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        listening.close()
        raise
    return listening, inode


def _open_to_all(folder: int, name: str) -> int:
    """Let everybody connect who gets as far as into the folder. Returns the socket's inode.

    By a descriptor that was looked at: the folder's owner can put any file of the machine's under a name there.
    """
    found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        entry = os.fstat(found)
        if not stat.S_ISSOCK(entry.st_mode) or entry.st_uid != os.getuid():
            raise PermissionError("the socket was changed for something else")
        os.chmod(f"/proc/self/fd/{found}", 0o666)
        return entry.st_ino
    finally:
        os.close(found)


class _GuardedServer(HTTPServer):
    """Hears the folder's owner and root. Addresses that a client claims (X-Forwarded-For) are not believed."""

    owner: int

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        peer = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        if _PEER.unpack(peer)[1] not in (self.owner, 0):
            log.warning("a stranger at the door of a kernel was sent away")
            stream.close()
            return
        super().handle_stream(stream, address)


class _KernelsOnly(Router):
    """Leads to ComputeHub's API whoever shows a kernel's token, and nobody anywhere else."""

    def __init__(self, web_app: Any, api_path: str) -> None:
        self._web_app, self._api_path = web_app, api_path
        self._nothing = Application([(r".*", _NothingHere)], log_function=lambda handler: None)

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        allowed = request.path.startswith(self._api_path) and kernel_token(request.headers) is not None
        return (self._web_app if allowed else self._nothing).find_handler(request, **kwargs)


class _NothingHere(RequestHandler):
    def prepare(self) -> None:
        self.set_status(403)
        self.finish(
            {"message": "Only a kernel's requests to ComputeHub come in here.", "code": "forbidden", "details": {}}
        )
