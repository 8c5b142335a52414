"""Turn a standby kernel into a placement's: rename its container, then one message over its socket.

The renaming is what counts: the engine does it all at once, refuses it to whoever comes second, and tells it to a
successor. ``kernel/standby.py`` is the other side of the message.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import replace

from computehub_ext.core.errors import SkipPlace, Unreachable

from ..environment import a_standby_can_take
from ..model import StartRequest
from . import recipe
from .containers import Containers
from .engine import Container, Gone, NameTaken
from .folders import Folder
from .shared import SharedFolder
from .warm import WarmContainers

_SECONDS_MAX = 5.0


class Takeover:
    """Takes over what ``warm`` keeps ready."""

    def __init__(self, containers: Containers, warm: WarmContainers) -> None:
        self._containers, self._warm = containers, warm

    def take(self, request: StartRequest, wanted: recipe.Wanted) -> tuple[Container, Folder] | None:
        """Return a standby that is the placement's from now on; None if there is none that can be. ``NameTaken``."""
        standby = self._warm.take(wanted)
        if standby is None:
            return None
        container, folder = standby.container, standby.folder
        environment = self._environment(container, folder, request, wanted)
        if not a_standby_can_take(standby.environment, environment):
            self._warm.give_back(standby)
            return None
        name = self._containers.name_of(request.placement_id)
        try:
            self._containers.engine.rename(container.id, name)
        except Gone:
            return None
        except NameTaken:
            self._warm.give_back(standby)
            raise
        except Unreachable:
            self._warm.forget(standby)  # it has the name, or ends by itself and is found as a leftover
            raise
        container = replace(container, name=name)
        try:
            # From here on whoever looks finds a placement, paid for a little while; a repeated start goes on with it.
            folder.pay(request.paid_until)
            adopt(folder, environment, request.cwd, request.session_key)
        except (OSError, ValueError):
            self._containers.remove(container, folder)
            return None
        return container, folder

    def finish(self, container: Container, folder: Folder, request: StartRequest, wanted: recipe.Wanted) -> None:
        """See to it that a standby that has the placement's name is its kernel: who renamed it may have been killed."""
        assert isinstance(folder, SharedFolder), "there are no standbys elsewhere"
        if (folder.connection() or {}).get("key") == request.session_key.decode("ascii"):
            return
        try:
            folder.pay(request.paid_until)
            adopt(folder, self._environment(container, folder, request, wanted), request.cwd, request.session_key)
        except (OSError, ValueError) as problem:
            self._containers.remove(container, folder)
            raise SkipPlace(f"A standby kernel could not be taken over: {problem}.") from problem

    def _environment(
        self, container: Container, folder: Folder, request: StartRequest, wanted: recipe.Wanted
    ) -> dict[str, str]:
        """Return what the kernel in this container is to have: what its own image says counts, not what came later."""
        settings, owner = self._containers.settings, self._containers.owner
        image = self._containers.image(container.image_id)
        return recipe.kernel_environment(settings, image, wanted, request, folder, owner)


def adopt(folder: SharedFolder, environment: Mapping[str, str], cwd: str, session_key: bytes) -> None:
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
