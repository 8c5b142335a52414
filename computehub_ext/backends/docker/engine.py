"""The Docker engine, as far as this backend needs it: each call bounded in time, each failure of a type of ours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import BackendError, NoCapacity, NotYetEnded, Refused, SkipPlace, Unreachable

if TYPE_CHECKING:
    from docker import APIClient

_DEFAULT_URL = "unix:///var/run/docker.sock"
_CONNECTIONS_MAX = 32
_REMOVAL_SECONDS_MAX = 10.0
_NO_ROOM = ("no space left", "cannot allocate memory", "resource temporarily unavailable", "not enough memory")
_NO_PYTHON = "The image does not have the Python that this place's settings name."
_REFUSED = (
    ("could not select device driver", "The engine can't give GPUs to containers: it lacks the NVIDIA toolkit."),
    ("unknown runtime", "The engine does not have the runtime that this place's settings name."),
    ("executable file not found", _NO_PYTHON),
    ("unable to start container process: exec:", _NO_PYTHON),
    ("bind source path does not exist", "A folder that this place mounts is not on the engine's machine."),
    ("invalid mount config", "A folder that this place mounts can't be mounted."),
    ("range of cpus", "This place's settings give a kernel more cores than the engine's machine has."),
)


class NameTaken(Exception):
    """Another container has this name: somebody was first."""


class Gone(Exception):
    """There is no such container."""


@dataclass(frozen=True)
class Image:
    id: str
    digest: str
    """The registry's digest with the name, or the id of an image that came from no registry."""
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Container:
    """What the engine knows of one container. ``status`` is its word: created, running, paused, exited, dead ..."""

    id: str
    name: str
    status: str
    labels: Mapping[str, str]
    image_id: str = ""
    exit_code: int = 0
    is_oom_killed: bool = False
    finished_at: datetime | None = None
    memory_bytes: int = 0

    @property
    def is_alive(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def is_over(self) -> bool:
        return self.status in ("exited", "dead", "removing")


class Engine:
    """One engine. Methods may be called from several threads.

    Every method may raise ``Unreachable``: then what it asked for may or may not have happened.
    """

    def __init__(self, url: str, seconds_max: int) -> None:
        self.url = url or _DEFAULT_URL
        self._seconds_max = seconds_max
        self._lock = threading.Lock()
        self._client: APIClient | None = None

    @property
    def _api(self) -> APIClient:
        if self.url.startswith("unix://") and not os.path.exists(self.url.removeprefix("unix://")):
            raise FileNotFoundError(self.url)  # which every caller translates; the SDK would leave a socket open
        with self._lock:
            if self._client is None:
                from docker import APIClient

                # It asks for the engine's version.
                self._client = APIClient(
                    self.url, version="auto", timeout=self._seconds_max, max_pool_size=_CONNECTIONS_MAX
                )
            return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def ping(self) -> None:
        with self._translated():
            self._api.ping()

    def image(self, name: str) -> Image:
        """Raises ``Refused`` where the engine does not have it: nothing is pulled while a user waits for a kernel."""
        from docker.errors import NotFound

        with self._translated():
            try:
                found = self._api.inspect_image(name)
            except NotFound as problem:
                raise Refused(
                    f"The engine does not have the image {name}. `docker pull {name}` there gets it from its registry, "
                    "`computehub image build` makes one.",
                    kind="image",
                    image=name,
                ) from problem
        environment = dict(pair.split("=", 1) for pair in found["Config"].get("Env") or () if "=" in pair)
        return Image(found["Id"], next(iter(found.get("RepoDigests") or ()), found["Id"]), environment)

    # Containers

    def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Return the new container's id. Raises ``NameTaken``."""
        with self._translated():
            return self._api.create_container_from_config(dict(config), name)["Id"]

    def start(self, container_id: str) -> None:
        """Start it; fine if it runs. Raises ``Gone``."""
        with self._translated():
            self._api.start(container_id)

    def inspect(self, name: str) -> Container | None:
        try:
            with self._translated():
                found = self._api.inspect_container(name)
        except Gone:
            return None
        state = found["State"]
        return Container(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            status=state["Status"],
            labels=found["Config"].get("Labels") or {},
            image_id=found["Image"],
            exit_code=state["ExitCode"],
            is_oom_killed=bool(state.get("OOMKilled")),
            finished_at=_moment(state.get("FinishedAt", "")),
            memory_bytes=found["HostConfig"].get("Memory") or 0,
        )

    def list(self, label: str) -> list[Container]:
        """Return all containers with a label (``name=value``), also those that don't run."""
        with self._translated():
            found = self._api.containers(all=True, filters={"label": [label]})
        return [
            Container(each["Id"], each["Names"][0].lstrip("/"), each["State"], each.get("Labels") or {})
            for each in found
            if each["Names"]  # none while it is being removed
        ]

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name, all at once. Raises ``NameTaken`` or ``Gone``."""
        with self._translated():
            self._api.rename(container_id, name)

    def signal(self, container_id: str, name: str) -> None:
        """Signal its first process; fine if it has ended."""
        try:
            with self._translated():
                self._api.kill(container_id, name)
        except (Gone, NameTaken):
            pass  # the engine has one status for a name that is taken and a container that does not run

    def remove(self, container_id: str) -> None:
        """Kill and remove it; fine if it is gone. Raises ``NotYetEnded``."""
        deadline = time.monotonic() + _REMOVAL_SECONDS_MAX
        while True:
            try:
                with self._translated():
                    self._api.remove_container(container_id, force=True, v=True)
            except Gone:
                return
            except (NameTaken, SkipPlace) as problem:  # somebody else is removing it, or a mount is still busy
                if time.monotonic() > deadline:
                    raise NotYetEnded(
                        "The engine does not get rid of a container.", container=container_id
                    ) from problem
                time.sleep(0.02)
            else:
                return

    def output(self, container_id: str) -> str:
        """Return the end of what it wrote before its log was opened: why it did not get as far as that."""
        try:
            with self._translated():
                return self._api.logs(container_id, tail=20).decode(errors="replace").strip()
        except (Gone, BackendError):
            return ""

    def memory_bytes(self, container_id: str) -> int:
        """Return what it holds now, 0 where that can't be told."""
        try:
            with self._translated():
                usage = self._api.stats(container_id, stream=False, one_shot=True).get("memory_stats", {})
        except (Gone, BackendError):
            return 0
        # The page cache goes when somebody needs the memory.
        cache = usage.get("stats", {}).get("inactive_file", usage.get("stats", {}).get("total_inactive_file", 0))
        return max(0, usage.get("usage", 0) - cache)

    # Networks

    def network(self, name: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        with self._translated():
            try:
                return dict(self._api.inspect_network(name))
            except NotFound:
                return None

    def make_network(self, name: str, options: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
        """Make a bridge and return it as the engine shows it."""
        with self._translated():
            self._api.create_network(name, "bridge", dict(options), check_duplicate=True, labels=dict(labels))
            return dict(self._api.inspect_network(name))

    def remove_network(self, name: str) -> bool:
        """Remove it; fine if it is not there. Tells whether it is gone: one that is in use is not."""
        from docker.errors import NotFound

        try:
            with self._translated():
                try:
                    self._api.remove_network(name)
                except NotFound:
                    pass
        except SkipPlace:
            return False
        return True

    def disconnect(self, network: str, container_id: str) -> None:
        """Take a container off a network, at once; fine if it is not on it."""
        try:
            with self._translated():
                self._api.disconnect_container_from_network(container_id, network, force=True)
        except (Gone, Refused):
            pass

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import docker.errors
        import requests
        import urllib3

        try:
            yield
        except docker.errors.APIError as problem:
            raise _as_ours(problem) from problem
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            OSError,
        ) as problem:
            raise Unreachable(f"The Docker engine at {self.url} does not answer.", engine=self.url) from problem


def _as_ours(problem: Any) -> Exception:
    said = str(problem.explanation or problem)
    lower = said.lower()
    if problem.status_code == 404 and "no such container" in lower:
        return Gone(said)
    if problem.status_code == 409:
        return NameTaken(said)
    if any(part in lower for part in _NO_ROOM):
        return NoCapacity(f"The engine has no room for another kernel: {said}")
    for part, sentence in _REFUSED:
        if part in lower:
            return Refused(f"{sentence} It said: {said}")
    if problem.status_code in (400, 404):
        return Refused(f"The engine refused: {said}")
    return SkipPlace(f"The engine failed: {said}")


def _moment(text: str) -> datetime | None:
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
