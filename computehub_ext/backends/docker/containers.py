"""This place's containers on the engine: how they are named, made, found and removed."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from computehub_ext.core.errors import BackendError, SkipPlace, Unreachable

from . import recipe
from .access import access_of
from .engine import Container, Engine, Gone, Image
from .folders import Folder, Folders
from .network import PlaceNetwork
from .pulling import Puller
from .settings import DockerSettings
from .shared import SharedFolders
from .volumes import Volumes
from .ways import way_of

_IMAGE_KEPT_SECONDS = 5.0


class Containers:
    """A container's *name* says whose it is, its labels what it was started as and which folders it has.

    Parameters
    ----------
    state_dir:
        Where the folders are kept, and the id that tells this place's containers from those of another on the engine.
    settings:
        What they are made by.
    """

    def __init__(self, state_dir: Path, settings: DockerSettings) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = settings
        self.owner = _own_id(state_dir / "backend_id")
        self.engine = Engine(access_of(settings, state_dir / "ssh"), settings.engine_seconds_max)
        self.folders: Folders
        if settings.is_remote:
            self.folders = Volumes(state_dir, self.engine, {recipe.OWNER_LABEL: self.owner})
        else:
            self.folders = SharedFolders(state_dir, settings.sockets_folder, self.owner[:8])
        self.way = way_of(settings, state_dir)
        self.network = PlaceNetwork(self.engine, settings, self.owner, state_dir)
        self.puller = Puller(self.engine, settings.image, is_wanted=settings.pull == "missing")
        self._prefix = f"computehub-{self.owner[:8]}"
        self._images: dict[str, tuple[float, Image]] = {}

    def make(
        self,
        name: str,
        label: str,
        image: Image,
        wanted: recipe.Wanted,
        fill: Callable[[Folder], None],
        paid_until: datetime,
    ) -> tuple[Container, Folder]:
        """Make a container with its folders and start it. Raises ``NameTaken`` with nothing left."""
        self.network.ensure()
        shared = self.settings.shared_with_group
        with self.folders.made(wanted.user, shared=shared, paid_until=paid_until) as folder:
            try:
                fill(folder)
                config = recipe.container_of(self.settings, image, wanted, folder, self.owner, label)
                self.way.publish(config)
                container_id = self.engine.create(name, config)
            except Unreachable:
                raise  # the engine may have made it all the same; if not, the folder is swept
            except Exception:
                folder.remove()
                raise
            self._start(container_id, folder, wanted)
        return Container(container_id, name, "running", config["Labels"], image.id), folder

    def resume(
        self, container: Container, wanted: recipe.Wanted, fill: Callable[[Folder], None], paid_until: datetime
    ) -> Folder:
        """Start a container that somebody made who was killed before it could be started."""
        folder = self.folder_of(container)
        if not self.folders.is_kept:
            self.folders.furnish(folder, wanted.user, self.settings.shared_with_group)
            fill(folder)
        folder.pay(paid_until)
        self._start(container.id, folder, wanted)
        return folder

    def _start(self, container_id: str, folder: Folder, wanted: recipe.Wanted) -> None:
        try:
            folder.arrive(container_id)
            if self.settings.is_remote and wanted.cwd != "/" and not self.engine.has_folder(container_id, wanted.cwd):
                raise recipe.no_folder(wanted.cwd)
            self.engine.start(container_id)
        except Unreachable:
            raise
        except (BackendError, Gone) as problem:
            self.engine.remove(container_id)
            folder.remove()
            if isinstance(problem, Gone):
                raise SkipPlace("The container went away while it was started.") from problem
            raise

    def remove(self, container: Container, folder: Folder) -> None:
        self.engine.remove(container.id)
        folder.remove()

    # Finding

    def all(self) -> list[Container]:
        return self.engine.list(f"{recipe.OWNER_LABEL}={self.owner}")

    def name_of(self, placement_id: str) -> str:
        return f"{self._prefix}-{placement_id}"

    def standby_name(self, label: str) -> str:
        # No placement's id can make this: a name's part that is one follows a dash.
        return f"{self._prefix}.{label}"

    def placement_of(self, name: str) -> str | None:
        return name.removeprefix(f"{self._prefix}-") if name.startswith(f"{self._prefix}-") else None

    def folder_of(self, container: Container) -> Folder:
        return self.folders.of(container.labels[recipe.FOLDER_LABEL], container.id)

    def image(self, name: str = "") -> Image:
        """Return an image, by default the settings', as the engine had it a moment ago."""
        name = name or self.settings.image
        kept = self._images.get(name)
        if kept is None or time.monotonic() - kept[0] > _IMAGE_KEPT_SECONDS:
            kept = self._images[name] = (time.monotonic(), self.puller.image(name))
        return kept[1]

    def close(self) -> None:
        self.puller.close()
        self.network.close()
        self.folders.discard()
        self.engine.close()


def _own_id(path: Path) -> str:
    """Return the id that tells this folder's containers from those of another on the same engine."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with open(descriptor, "w", encoding="ascii") as file:
        owner = secrets.token_hex(8)
        file.write(owner)
    return owner
