"""Making images for kernels, listing them, and trying whether a kernel can start in one.

Recipes of ours lie in ``kernels/images``; a course's folder is read by ``course.py``, which says why repo2docker isn't
used. The engine builds; its output is passed on as it comes, and a failed step is told by its file and line.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from computehub_ext.core.errors import BackendError, Invalid, NotFound, Refused, Unreachable

from .course import ADD_KERNEL, PIP_ARGUMENTS, CourseRecipe, line_of_step, line_that_names, read_course

if TYPE_CHECKING:
    from docker import APIClient

RECIPES = ("slim", "cuda")
LABEL = "computehub.image"
BUILD_SECONDS_MAX = 3600
"""The longest silence of a build."""
CHECK_SECONDS_MAX = 60
_CHECK_UID = 54321
_SAID_LINES = 30
_STEP = re.compile(r"Step (\d+)/\d+ : (.*)")
_PARSE_ERROR = re.compile(r"(?:dockerfile )?parse error.*?line (\d+): (.*)", re.IGNORECASE | re.DOTALL)
_OF_REQUIREMENT = re.compile(r"\(from -r (\S+) \(line (\d+)\)\)|\(from line (\d+) of (\S+)\)|line (\d+) of (\S+)")
_NO_PACKAGE = re.compile(
    r"(?:that satisfies the requirement|No matching distribution found for|nothing provides) (\S+)"
)
_NO_DEBIAN_PACKAGE = re.compile(r"(?:Unable to locate package|Package '?|Version '.*' for ')([a-z0-9][a-z0-9+.-]+)")
_BUILDERS_OWN = ("Step ", "--->", "Removing intermediate", "[notice]")
_SECRET_IN_URL = re.compile(r"://[^/@\s]+@")

Write = Callable[[str], Any]


@dataclass(frozen=True)
class Built:
    tag: str
    id: str
    """The image's own digest, which leases record; another of the same name has another."""
    size_bytes: int


@dataclass(frozen=True)
class Listed:
    tag: str
    id: str
    kind: str
    created_at: str
    size_bytes: int


@dataclass(frozen=True)
class Checked:
    """What a kernel said that was started in an image."""

    python_version: str
    ipykernel_version: str
    can_encrypt: bool
    seconds: float


def connect(url: str) -> APIClient:
    """Connect to an engine.

    Raises
    ------
    Unreachable
        Nothing answers there.
    """
    from docker import APIClient

    path = url.removeprefix("unix://")
    if path != url and not Path(path).is_socket():
        raise Unreachable(f"No Docker engine answers at {url}: there is no such socket.")
    with _translated(url):
        return APIClient(url, version="auto", timeout=BUILD_SECONDS_MAX)


def recipes_folder() -> Path:
    """Where the recipes are: in a checkout of the project, else where the wheel put them."""
    package = Path(__file__).resolve().parent.parent.parent
    for folder in (package.parent / "kernels" / "images", Path(sys.prefix) / "share" / "computehub" / "images"):
        if (folder / "slim" / "Dockerfile").is_file():
            return folder
    raise NotFound("The image recipes (kernels/images) are not where they were installed. Install ComputeHub again.")


def build_recipe(
    api: APIClient, name: str, *, tag: str, write: Write, base: str = "", arguments: Mapping[str, str] | None = None
) -> Built:
    """Build one of our recipes.

    Parameters
    ----------
    write:
        Gets the engine's output as it comes.
    base:
        The image to build on, if not the recipe's own.
    arguments:
        Docker's build arguments. They stay readable in the image's history.
    """
    if name not in RECIPES:
        raise NotFound(f"There is no recipe {name!r}. There are: {', '.join(RECIPES)}.", field="recipe")
    source = recipes_folder() / name / "Dockerfile"
    given = {**(arguments or {}), **({"BASE": base} if base else {})}
    build = _Build(api, CourseRecipe(source, source.read_text(), source.parent), write)
    return _described(api, tag, build.run(tag, given, {LABEL: name}))


def build_course(
    api: APIClient, folder: Path, *, tag: str, write: Write, base: str = "", arguments: Mapping[str, str] | None = None
) -> Built:
    """Build what a course's folder says, and add the kernel. Parameters as for ``build_recipe``."""
    recipe = read_course(folder, base=base)
    write(f"Using {recipe.source}\n")
    labels = {LABEL: "course"}
    first = _Build(api, recipe, write).run("" if recipe.is_own_dockerfile else tag, arguments or {}, labels)
    if not recipe.is_own_dockerfile:
        return _described(api, tag, first)
    with _translated(api.base_url):
        user = (api.inspect_image(first)["Config"] or {}).get("User") or "root"
    # It needs root for a moment; whoever the course's own file runs as, is so again in the end.
    lines = [f"FROM {first}", PIP_ARGUMENTS, "USER root", ADD_KERNEL, f"USER {user}"]
    write(f"Adding the kernel to {recipe.source}\n")
    adding = CourseRecipe(recipe.source, "\n".join(lines) + "\n", folder)
    return _described(api, tag, _Build(api, adding, write).run(tag, arguments or {}, labels))


def list_images(api: APIClient) -> list[Listed]:
    """List the images that were built here, newest first."""
    with _translated(api.base_url):
        found = api.images(filters={"label": LABEL})
    return [
        Listed(tag, image["Id"], image["Labels"][LABEL], _when(image["Created"]), image["Size"])
        for image in sorted(found, key=lambda image: -image["Created"])
        for tag in image["RepoTags"] or ()
        if tag != "<none>:<none>"  # replaced by a newer one of the same name
    ]


def check_image(api: APIClient, tag: str, *, python: str = "python3") -> Checked:
    """Start a kernel in an image as the strictest place would: as an unknown user, read-only, with no network.

    Raises
    ------
    NotFound
        The engine has no such image.
    Refused
        No kernel answered; the message says why.
    """
    from docker.errors import APIError, ImageNotFound

    with _translated(api.base_url):
        try:
            api.inspect_image(tag)
        except ImageNotFound as error:
            raise NotFound(f"The engine has no image {tag}. `computehub image list` says what there is.") from error
        host = api.create_host_config(
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            tmpfs={"/tmp": "rw,size=64m"},
            pids_limit=256,
            mem_limit="1g",
        )
        started = time.monotonic()
        container = api.create_container(
            tag,
            command=["-c", _CHECK.replace("SECONDS_MAX", str(CHECK_SECONDS_MAX))],
            entrypoint=[python],
            user=f"{_CHECK_UID}:{_CHECK_UID}",
            working_dir="/tmp",
            environment={"HOME": "/tmp", "IPYTHONDIR": "/tmp/.ipython"},
            host_config=host,
        )["Id"]
        try:
            try:
                api.start(container)
            except APIError as error:
                if "executable file not found" in str(error) or "no such file" in str(error):
                    raise Refused(f"{tag} has no {python} on its PATH.") from error
                raise
            status = _wait(api, container, CHECK_SECONDS_MAX + 20)
            said = api.logs(container, stdout=True, stderr=True).decode(errors="replace").strip()
        finally:
            api.remove_container(container, force=True, v=True)
    answer = said.splitlines()[-1] if said else ""
    if status != 0 or not answer.startswith("{"):
        raise Refused(f"No kernel starts in {tag}: {_reason(said) or f'its Python ended with status {status}'}.")
    return Checked(**json.loads(answer), seconds=time.monotonic() - started)


# Runs in the image, by any Python 3: so that it can say what is wrong rather than fail on its own words.
_CHECK = r"""
import json, os, subprocess, sys
try:
    import ipykernel, zmq
    from jupyter_client.blocking import BlockingKernelClient
    from jupyter_client.connect import write_connection_file
except ImportError as error:
    if error.name == "ipykernel":
        sys.exit("Python %s there has no ipykernel" % sys.version.split()[0])
    sys.exit("an unknown user can't load ipykernel there: %s" % error)
version = tuple(int(part) for part in ipykernel.__version__.split(".")[:2])
if not (7, 4) <= version < (8, 0):
    sys.exit("ipykernel %s is there, and it takes one from 7.4 to below 8" % ipykernel.__version__)
path, _ = write_connection_file("/tmp/connection.json", transport="ipc", ip="/tmp/kernel")
kernel = subprocess.Popen([sys.executable, "-m", "ipykernel_launcher", "-f", path])
client = BlockingKernelClient(connection_file=path)
client.load_connection_file()
client.start_channels()
try:
    client.wait_for_ready(timeout=SECONDS_MAX)
    reply = client.execute_interactive("6 * 7", timeout=SECONDS_MAX, output_hook=lambda message: None)
    assert reply["content"]["status"] == "ok", reply["content"]
except Exception as error:
    sys.exit("the kernel did not answer: %s" % error)
finally:
    client.stop_channels()
    kernel.kill()
    kernel.wait()
print()
print(json.dumps({
    "python_version": sys.version.split()[0],
    "ipykernel_version": ipykernel.__version__,
    "can_encrypt": bool(zmq.has("curve")),
}))
"""


class _Build:
    """One build on the engine, with enough remembered of it to say where it failed."""

    def __init__(self, api: APIClient, recipe: CourseRecipe, write: Write) -> None:
        self.api, self.recipe, self.write = api, recipe, write
        self._said = ""
        self._step = 0

    def run(self, tag: str, arguments: Mapping[str, str], labels: Mapping[str, str]) -> str:
        """Return the image's id."""
        _refuse_secrets(arguments)
        image = error = ""
        with _translated(self.api.base_url):
            lines = self.api.build(
                **self._context(),
                tag=tag or None,
                buildargs=dict(arguments),
                labels=dict(labels),
                rm=True,
                forcerm=True,  # of a step that failed too
                decode=True,
                use_config_proxy=True,
            )
            for line in lines:  # to its end, though an error was in it: only then the connection is free
                error = line.get("error", error).strip()
                image = (line.get("aux") or {}).get("ID", image)
                self._note(line)
        if error:
            raise Refused(self._explained(error))
        if not image:
            raise BackendError("The engine ended the build without an image.")
        return image

    def _context(self) -> dict[str, Any]:
        if self.recipe.files is None:
            # The SDK's packing of a folder minds its .dockerignore.
            return {"path": str(self.recipe.folder), "dockerfile": str(self.recipe.source.resolve())}
        packed = io.BytesIO()
        files = {**self.recipe.files, ".computehub.Dockerfile": self.recipe.dockerfile.encode()}
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        packed.seek(0)
        return {"fileobj": packed, "custom_context": True, "dockerfile": ".computehub.Dockerfile"}

    def _note(self, line: Mapping[str, Any]) -> None:
        text = line.get("stream", "")
        if not text and line.get("status") and not line.get("progressDetail"):  # a pull; without each of its bytes
            text = f"{line.get('id', '')} {line['status']}".strip() + "\n"
        if not text:
            return
        self.write(text)
        if step := _STEP.match(text):
            self._step, self._said = int(step[1]), ""
        self._said = "\n".join((self._said + text).split("\n")[-_SAID_LINES:])

    def _explained(self, error: str) -> str:
        """The sentence for a build that failed: which line of which file it is, and what was said."""
        return f"{self._place(error)}: {_reason(self._said) or error}"

    def _place(self, error: str) -> str:
        source = self.recipe.source
        if parse := _PARSE_ERROR.search(error):
            return f"{source}, line {parse[1]}"
        if matched := _OF_REQUIREMENT.search(self._said):
            name = matched[1] or matched[4] or matched[6]
            number = matched[2] or matched[3] or matched[5]
            return f"{source.parent / name}, line {number}"
        for pattern, names in (
            (_NO_PACKAGE, tuple(self.recipe.files or (source.name,))),
            (_NO_DEBIAN_PACKAGE, ("apt.txt", source.name)),
        ):
            for name in names:
                package = pattern.search(self._said)
                if package and (number := line_that_names(source.parent / name, package[1].strip("'\""))):
                    return f"{source.parent / name}, line {number}"
        if source.name == "Dockerfile" and (number := self._line_in_dockerfile()):
            return f"{source}, line {number}"
        return str(source)

    def _line_in_dockerfile(self) -> int:
        # The lines that add the kernel are in no file of the course's.
        is_its_text = self.recipe.is_own_dockerfile or self.recipe.source.read_text() == self.recipe.dockerfile
        return line_of_step(self.recipe.dockerfile, max(self._step, 1)) if is_its_text else 0


def _described(api: APIClient, tag: str, image: str) -> Built:
    with _translated(api.base_url):
        found = api.inspect_image(image)
    return Built(tag, found["Id"], found["Size"])


def _reason(said: str) -> str:
    """The line of a program's output that tells most: the last that calls itself an error, else the last."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in said.splitlines()]
    lines = [
        line for line in lines if line and not line.startswith(("Step ", "--->", "Removing intermediate", "[notice]"))
    ]
    errors = [line for line in lines if re.match(r"(ERROR|E|error|Error)\b:?", line)]
    return (errors or lines or [""])[-1].rstrip(".")


def _refuse_secrets(arguments: Mapping[str, str]) -> None:
    for name, value in arguments.items():
        if _SECRET_IN_URL.search(value):
            told = "holds a user name or password, which anybody who has the image could read in its history"
            raise Invalid(f"The build argument {name} {told}.", field="build-arg")


def _wait(api: APIClient, container: str, seconds_max: float) -> int:
    deadline = time.monotonic() + seconds_max
    while (state := api.inspect_container(container)["State"])["Running"] or state["Status"] == "created":
        if time.monotonic() > deadline:
            return -1
        time.sleep(0.05)
    return int(state["ExitCode"])


def _when(timestamp: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(timestamp))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    from docker.errors import APIError, BuildError, DockerException

    try:
        yield
    except (APIError, BuildError) as error:
        told = getattr(error, "explanation", None) or str(error)
        if parse := _PARSE_ERROR.search(str(told)):
            raise Refused(f"Dockerfile, line {parse[1]}: {parse[2].strip()}") from error
        raise Refused(f"The Docker engine refused: {told}") from error
    except (DockerException, OSError) as error:  # what requests raises is an OSError
        raise Unreachable(f"No Docker engine answers at {url}: {error}") from error
