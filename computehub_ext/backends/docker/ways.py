"""How messages get from a Jupyter server to a kernel in a container: sockets in a folder, or published ports.

Over ports they are always encrypted (CurveZMQ). The keys are made from a secret of the place's and from what the
container was started as, so that a successor has them too and nobody has to keep them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import posixpath
import secrets
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from computehub_ext.core.errors import Refused, SkipPlace

from .engine import Container
from .folders import PORTS, Folder
from .settings import DockerSettings

STATE_PORT = "state_port"
"""The detail that tells the notebook's side on which port a kernel takes and gives variables: ``inside:outside``."""
INSIDE = {name: 30101 + number for number, name in enumerate((*PORTS, STATE_PORT))}
"""A container has all ports to itself, and these are below those that a system picks for connections."""
_OPTIONS = {
    "shell_port": "shell",
    "iopub_port": "iopub",
    "stdin_port": "stdin",
    "control_port": "control",
    "hb_port": "hb",
}
_BRIDGED = "0.0.0.0"


class Way(ABC):
    """One of the two."""

    def arguments(self) -> list[str]:
        """Return what is added to the kernel's command."""
        return []

    @abstractmethod
    def told(self, folder: Folder, label: str) -> dict[str, Any]:
        """Return what a kernel's connection file begins with. ``label`` is what its container was started as."""

    def publish(self, config: dict[str, Any]) -> None:  # noqa: B027 - sockets need nothing
        """Add to a container's description what it takes."""

    def check(self) -> None:  # noqa: B027
        """Raise ``Refused`` where no kernel would be reached."""

    @abstractmethod
    def reached(self, container: Container, folder: Folder, label: str) -> dict[str, Any]:
        """Return the words of ``Placed`` that say how the kernel is reached, ``connection_info`` without the key."""


class Sockets(Way):
    """In the kernel's own folder, which has the same path on both sides."""

    def told(self, folder: Folder, label: str) -> dict[str, Any]:
        return {"transport": "ipc", "ip": posixpath.join(folder.inside, "k"), **dict.fromkeys(PORTS, 0)}

    def reached(self, container: Container, folder: Folder, label: str) -> dict[str, Any]:
        info = {"transport": "ipc", "ip": posixpath.join(folder.inside, "k"), **(folder.ports() or {})}
        return {"connection_info": info, "meeting_dir": folder.inside}


class Ports(Way):
    """Published on the engine's machine.

    Parameters
    ----------
    settings:
        They say where.
    state_dir:
        The place's, where its secret is kept.
    """

    def __init__(self, settings: DockerSettings, state_dir: Path) -> None:
        self._settings = settings
        self._secret = _kept_secret(state_dir / "curve")

    def arguments(self) -> list[str]:
        return [f"--{option}={INSIDE[name]}" for name, option in _OPTIONS.items()]

    def told(self, folder: Folder, label: str) -> dict[str, Any]:
        # Zeros, so that the file changes when they are bound; the command has their numbers.
        return {"transport": "tcp", "ip": _BRIDGED, **dict.fromkeys(PORTS, 0), **self._keys(label)}

    def publish(self, config: dict[str, Any]) -> None:
        address, port = self._address(), self._settings.publish_ports
        names = [f"{number}/tcp" for number in INSIDE.values()]
        config["ExposedPorts"] = {name: {} for name in names}
        config["HostConfig"]["PortBindings"] = {name: [{"HostIp": address, "HostPort": port}] for name in names}

    def reached(self, container: Container, folder: Folder, label: str) -> dict[str, Any]:
        outside = {name: container.ports.get(number) for name, number in INSIDE.items()}
        if not all(outside.values()):
            raise SkipPlace("The engine did not publish the kernel's ports.")
        state = f"{INSIDE[STATE_PORT]}:{outside.pop(STATE_PORT)}"
        host = self._settings.publish_host
        return {
            "connection_info": {"transport": "tcp", "ip": host, **outside, **self._keys(label)},
            "host": host,
            "details": {STATE_PORT: state},
        }

    def check(self) -> None:
        self._address()

    def _keys(self, label: str) -> dict[str, str]:
        import zmq
        from zmq.utils import z85

        secret = z85.encode(hmac.digest(self._secret, label.encode(), hashlib.sha256))
        return {"curve_publickey": zmq.curve_public(secret).decode("ascii"), "curve_secretkey": secret.decode("ascii")}

    def _address(self) -> str:
        """Return the address that ports are bound to, in numbers, as the engine needs it."""
        wanted = self._settings.publish_address or self._settings.publish_host
        try:
            return str(socket.getaddrinfo(wanted, None, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as problem:
            raise Refused(f"The engine's machine {wanted} is not known here, which publish_host names.") from problem


def way_of(settings: DockerSettings, state_dir: Path) -> Way:
    return Ports(settings, state_dir) if settings.uses_ports else Sockets()


def _kept_secret(path: Path) -> bytes:
    with contextlib.suppress(FileExistsError):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
            os.link(temporary, path)  # whole or not at all, and the first one counts
        finally:
            temporary.unlink()
    return path.read_bytes()
