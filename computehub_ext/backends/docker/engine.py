"""The Docker engine, as far as this backend needs it: each call bounded in time, each failure of a type of ours."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import BackendError, NotYetEnded, Refused, SkipPlace, Unreachable

from .access import Access
from .archives import PART_BYTES, first_file
from .complaints import Gone, NameTaken, NotThere, as_ours

if TYPE_CHECKING:
    from docker import APIClient

_REMOVAL_SECONDS_MAX = 10.0
_CLOCK_SECONDS = 300.0
_CLOCKS_DIFFER_SECONDS = 1.0
_GO_FOLDER, _GO_LINK = 1 << 31, 1 << 27
"""How the engine's language marks folders and links in a file's mode."""


@dataclass(frozen=True)
class Image:
    id: str
    digest: str
    """The registry's digest with the name, or the id of an image that came from no registry."""
    environment: Mapping[str, str]
    size_bytes: int = 0


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
    ports: Mapping[int, int] = field(default_factory=dict)
    """The ports that are published, as they are inside, and as they are outside."""

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

    def __init__(self, access: Access, seconds_max: int) -> None:
        self.url, self._access = access.url, access
        self._seconds_max = seconds_max
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._ahead = (0.0, 0.0)

    @property
    def _api(self) -> APIClient:
        self._access.check()
        with self._lock:
            if self._client is None:
                self._client = self._access.make_client(self._seconds_max)
            return self._client

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
        self._access.close()

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
                    f"The engine does not have the image {name}. `computehub image pull {name}` gets it from its "
                    "registry, `computehub image build` makes one.",
                    kind="image",
                    image=name,
                ) from problem
        environment = dict(pair.split("=", 1) for pair in found["Config"].get("Env") or () if "=" in pair)
        digest = next(iter(found.get("RepoDigests") or ()), found["Id"])
        return Image(found["Id"], digest, environment, found.get("Size", 0))

    def pull(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Get an image from its registry, giving what the engine says as it comes; ``error`` is the last if it fails.

        A registry's login is the account's own, where `docker login` leaves it.
        """
        import docker.errors

        with self._translated():
            self._api.reload_config()
            try:
                yield from self._api.pull(name, stream=True, decode=True)
            except docker.errors.APIError as problem:
                yield {"error": str(problem.explanation or problem)}

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
            finished_at=self._moment(state.get("FinishedAt", "")),
            memory_bytes=found["HostConfig"].get("Memory") or 0,
            ports=_published(found["NetworkSettings"].get("Ports") or {}),
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

    def run_in(self, container_id: str, command: Sequence[str]) -> Any:
        """Run a program in a container as the container's own user; return the socket to its input and outputs.

        It has no more rights there than the first process: none to gain new ones, and no capabilities. Raises ``Gone``
        or, where the container does not run, ``NameTaken``.
        """
        with self._translated():
            made = self._api.exec_create(container_id, list(command), stdin=True, stdout=True, stderr=True)
            return self._api.exec_start(made["Id"], socket=True)

    # Files in a container, whether or not it runs

    def put(self, container_id: str, folder: str, archive: bytes) -> None:
        """Unpack a tar archive in a folder of a container's. Raises ``Gone``."""
        with self._translated():
            self._api.put_archive(container_id, folder, archive)

    def fetch(self, container_id: str, path: str, bytes_max: int, *, from_end: bool = False) -> bytes | None:
        """Return what a plain file in a container holds, its beginning or its end; None for anything else.

        Somebody whom this process must not trust may have put it there.
        """
        try:
            with self._translated(), closing(self._archive("get", container_id, path)) as response:
                return first_file(response.iter_content(PART_BYTES), bytes_max, from_end=from_end)
        except (Gone, NotThere):
            return None

    def has_folder(self, container_id: str, path: str) -> bool:
        """Tell whether there is a folder in a container, whose mounts are seen before it was started too."""
        found = self._mode(container_id, path)
        if found is not None and found & _GO_LINK:  # followed as it would be inside
            found = self._mode(container_id, path.rstrip("/") + "/.")
        return found is not None and bool(found & _GO_FOLDER)

    def _mode(self, container_id: str, path: str) -> int | None:
        try:
            with self._translated(), closing(self._archive("head", container_id, path)) as response:
                told = response.headers["X-Docker-Container-Path-Stat"]
                return int(json.loads(base64.b64decode(told))["mode"])
        except NotThere:
            return None

    def _archive(self, method: str, container_id: str, path: str) -> Any:
        import docker.errors
        import requests

        api = self._api
        url = f"{api.base_url}/v{api.api_version}/containers/{container_id}/archive"
        response = api.request(method, url, params={"path": path}, stream=True, timeout=self._seconds_max)
        if response.status_code == requests.codes.not_found:
            response.close()
            raise NotThere(path)
        try:
            response.raise_for_status()
        except requests.HTTPError as problem:
            docker.errors.create_api_error_from_http_exception(problem)
        return response

    # The rest

    def lost_volumes(self, label: str) -> tuple[str, ...]:
        """Return the volumes with a label (``name=value``) that no container has."""
        with self._translated():
            found = self._api.volumes(filters={"label": [label], "dangling": True})
        return tuple(each["Name"] for each in found.get("Volumes") or ())

    def remove_volume(self, name: str) -> None:
        """Remove it; fine if it is gone, or a container has it after all."""
        from docker.errors import NotFound

        try:
            with self._translated():
                try:
                    self._api.remove_volume(name)
                except NotFound:
                    pass
        except NameTaken:
            pass

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

    def connect(self, network: str, container_id: str) -> None:
        """Put a container on a network; fine if it is gone, or on it."""
        try:
            with self._translated():
                self._api.connect_container_to_network(container_id, network)
        except (Gone, Refused):
            pass

    def disconnect(self, network: str, container_id: str) -> None:
        """Take a container off a network, at once; fine if it is not on it."""
        try:
            with self._translated():
                self._api.disconnect_container_from_network(container_id, network, force=True)
        except (Gone, Refused):
            pass

    def _moment(self, text: str) -> datetime | None:
        if not text or text.startswith("0001-"):
            return None
        return datetime.fromisoformat(text).astimezone(UTC) - timedelta(seconds=self.ahead_seconds())

    def ahead_seconds(self) -> float:
        """Return how much the clock of the engine's machine is ahead of this one's, where it is another.

        A second or less is not told from the time that it takes to ask.
        """
        if not self._access.is_elsewhere:
            return 0.0
        measured_at, ahead = self._ahead
        if time.monotonic() - measured_at > _CLOCK_SECONDS or not measured_at:
            began = time.time()
            with self._translated():
                there = datetime.fromisoformat(self._api.info()["SystemTime"]).timestamp()
            ahead = there - (began + time.time()) / 2
            ahead = ahead if abs(ahead) > _CLOCKS_DIFFER_SECONDS else 0.0
            self._ahead = (time.monotonic(), ahead)
        return ahead

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import docker.errors
        import requests
        import urllib3

        try:
            yield
        except docker.errors.APIError as problem:
            raise as_ours(problem) from problem
        except (
            requests.exceptions.RequestException,
            urllib3.exceptions.HTTPError,
            docker.errors.DockerException,
            OSError,
        ) as problem:
            why = self._access.why(problem)
            sentence = f"is not reached: {why}." if why else "does not answer."
            raise Unreachable(f"The Docker engine at {self.url} {sentence}", engine=self.url) from problem


def _published(ports: Mapping[str, Any]) -> dict[int, int]:
    found = ((name.partition("/")[0], bindings) for name, bindings in ports.items())
    return {int(inside): int(bindings[0]["HostPort"]) for inside, bindings in found if bindings}
