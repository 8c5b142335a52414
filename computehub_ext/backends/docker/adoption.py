"""Turn a standby kernel into a placement's: rename its container, then one message over its socket.

The renaming is what counts: the engine does it all at once, refuses it to whoever comes second, and tells it to a
successor. ``kernel/standby.py`` is the other side of the message.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from computehub_ext.core.errors import SkipPlace, Unreachable

from ..environment import a_standby_can_take
from ..model import StartRequest
from . import late, recipe
from .containers import Containers
from .engine import Container, Gone, NameTaken
from .folders import Folder
from .shared import SharedFolder
from .warm import WarmContainers

log = logging.getLogger(__name__)

_SECONDS_MAX = 5.0


class Takeover:
    """Takes over what ``warm`` keeps ready."""

    def __init__(self, containers: Containers, warm: WarmContainers) -> None:
        self._containers, self._warm = containers, warm

    def take(self, request: StartRequest, wanted: recipe.Wanted) -> tuple[Container, Folder] | None:
        """Return a standby that is the placement's from now on; None if there is none that can be. ``NameTaken``."""
        standby = self._warm.take_for(request.model, wanted)
        if standby is None:
            return None
        container, folder = standby.container, standby.folder
        environment = self._environment(container, folder, request, wanted)
        settings = self._containers.settings
        base = {**standby.environment, **(late.at_home(wanted.home) if late.moves_home(settings) else {})}
        if not a_standby_can_take(base, environment):
            self._warm.give_back(standby)
            return None
        with ExitStack() as stack:
            try:
                own = stack.enter_context(late.opened(settings, wanted))
            except (late.NotLate, OSError) as why:
                log.info("A kernel is started on demand: a standby can't have this person's folders, since %s.", why)
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
                # Whoever looks finds a placement now, paid for a little while; a repeated start goes on with it. Only
                # now anybody's folder is mounted: before, the container might have become another's after all.
                folder.pay(request.paid_until)
                late.mount_all(folder.window, own)
                adopt(folder, environment, request.cwd, request.session_key, own)
            except (OSError, ValueError) as problem:
                self._containers.remove(container, folder)
                if isinstance(problem, Unseen):
                    self._warm.give_up(str(problem))
                return None
        return container, folder

    def finish(self, container: Container, folder: Folder, request: StartRequest, wanted: recipe.Wanted) -> None:
        """See to it that a standby that has the placement's name is its kernel: who renamed it may have been killed."""
        assert isinstance(folder, SharedFolder), "there are no standbys elsewhere"
        if (folder.connection() or {}).get("key") == request.session_key.decode("ascii"):
            return
        try:
            folder.pay(request.paid_until)
            environment = self._environment(container, folder, request, wanted)
            points = tuple(filter(None, container.labels.get(recipe.LATE_LABEL, "").split(":")))
            with late.opened(self._containers.settings, wanted) as own:
                if points != late.points(self._containers.settings):
                    raise late.NotLate("the place's mounts were changed since")
                late.mount_all(folder.window, own)
                adopt(folder, environment, request.cwd, request.session_key, own)
        except (OSError, ValueError, late.NotLate) as problem:
            self._containers.remove(container, folder)
            raise SkipPlace(f"A standby kernel could not be taken over: {problem}.") from problem

    def _environment(
        self, container: Container, folder: Folder, request: StartRequest, wanted: recipe.Wanted
    ) -> dict[str, str]:
        """Return what the kernel in this container is to have: what its own image says counts, not what came later."""
        settings, owner = self._containers.settings, self._containers.owner
        image = self._containers.image(container.image_id)
        return recipe.kernel_environment(settings, image, wanted, request, folder, owner)


class Unseen(OSError):
    """What was mounted here is not seen there."""


def adopt(
    folder: SharedFolder,
    environment: Mapping[str, str],
    cwd: str,
    session_key: bytes,
    own: Sequence[late.Folder] = (),
) -> None:
    """Give the standby its environment, folder and signing key; it has them when this returns.

    Raises
    ------
    OSError
        It does not listen, does not answer in time, or refuses; it must not be used then. ``Unseen``, if that is
        because one of its person's own folders is not where it should be.
    """
    message = {
        "secret": (folder.path / "adopt.secret").read_text(encoding="ascii"),
        "directory": str(folder.path),
        "environment": dict(environment),
        "cwd": cwd,
        "session_key": session_key.decode("ascii"),
        "folders": [each.seen() for each in own],
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS_MAX)
        connection.connect(str(folder.path / "adopt.sock"))
        connection.sendall(json.dumps(message).encode() + b"\n")
        with connection.makefile("rb") as reader:
            line = reader.readline(65536)
    answer = json.loads(line) if line.endswith(b"\n") else {"ok": False, "message": "no answer"}
    if answer.get("unseen"):
        raise Unseen(f"what is mounted here for a kernel is not seen there ({answer['unseen']})")
    if not answer["ok"]:
        raise OSError(f"the standby kernel refused: {answer['message']}")
    for name in ("adopt.sock", "adopt.secret"):
        (folder.path / name).unlink(missing_ok=True)
