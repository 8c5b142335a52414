"""Turn a standby kernel into a placement's, by one message over its socket; ``kernel/standby.py`` is the other side."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

from .folders import Folder

_SECONDS_MAX = 5.0


def adopt(folder: Folder, environment: Mapping[str, str], cwd: str, session_key: bytes) -> None:
    """Give the standby its environment, folder and signing key; it has them when this returns.

    Raises
    ------
    OSError
        It does not listen, does not answer in time, or refuses; it must not be used then.
    """
    message = {
        "secret": (folder.path / "adopt.secret").read_text(encoding="ascii"),
        "directory": str(folder.path),
        "environment": dict(environment),
        "cwd": cwd,
        "session_key": session_key.decode("ascii"),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS_MAX)
        connection.connect(str(folder.path / "adopt.sock"))
        connection.sendall(json.dumps(message).encode() + b"\n")
        with connection.makefile("rb") as reader:
            line = reader.readline(65536)
    answer = json.loads(line) if line.endswith(b"\n") else {"ok": False, "message": "no answer"}
    if not answer["ok"]:
        raise OSError(f"the standby kernel refused: {answer['message']}")
    for name in ("adopt.sock", "adopt.secret"):
        (folder.path / name).unlink(missing_ok=True)
