"""``computehub image``: make the images that kernels run in on Docker, list them, and try one."""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from computehub_ext.core.errors import ComputeHubError, Invalid, Refused

from . import admin

if TYPE_CHECKING:
    from docker import APIClient

    from computehub_ext.backends.docker.engine import Engine
    from computehub_ext.backends.docker.images import Built

ENGINE_VARIABLE = "DOCKER_HOST"
ENGINE_DEFAULT = "unix:///var/run/docker.sock"
_TAG = re.compile(r"[a-z0-9][a-z0-9._/:-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")


def add_words(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``image`` and its words to the shell command's."""
    image = words.add_parser("image", help="make, list and try the images that kernels run in on Docker")
    inner = image.add_subparsers(dest="image_word", metavar="WORD", required=True)
    build = inner.add_parser("build", help="make an image, from a recipe of ours or a course's folder")
    build.add_argument("recipe", nargs="?", choices=("slim", "cuda"), help="one of ours; slim if nothing is named")
    build.add_argument("--from", dest="folder", metavar="PATH", help="a folder with requirements.txt and the like")
    build.add_argument("--tag", help="the image's name (computehub/RECIPE or computehub/FOLDER)")
    build.add_argument("--base", default="", metavar="IMAGE", help="the image to build on, if another than usual")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="as `docker build`'s")
    build.add_argument("--quiet", action="store_true", help="print the result alone")
    listing = inner.add_parser("list", help="the images that were made like that")
    check = inner.add_parser("check", help="start a kernel in an image, as an unknown user, read-only, with no network")
    check.add_argument("tag", metavar="TAG")
    check.add_argument("--python", default="python3", help="the image's Python that has ipykernel (%(default)s)")
    pull = inner.add_parser("pull", help="get an image from its registry, with how far it is")
    pull.add_argument("name", metavar="PLACE|IMAGE", help="a Docker place of the settings, or an image's name")
    for each in (build, listing, check, pull):
        each.add_argument("--engine", metavar="URL", help=f"${ENGINE_VARIABLE} or {ENGINE_DEFAULT} when left out")


def run(given: argparse.Namespace) -> int:
    """Do one of the words; failures are a sentence on stderr."""
    from computehub_ext.backends.docker import images

    try:
        if given.image_word == "pull":
            return pull(given)
        word = {"build": build, "list": list_images, "check": check}[given.image_word]
        api = images.connect(given.engine or os.environ.get(ENGINE_VARIABLE) or ENGINE_DEFAULT)
        try:
            return word(api, given)
        finally:
            api.close()
    except ComputeHubError as failure:
        sys.stderr.write(f"computehub image {given.image_word}: {failure.message}\n")
        return 2 if isinstance(failure, Invalid) else 1


def build(api: APIClient, given: argparse.Namespace) -> int:
    """Make an image; its output comes as it is made."""
    from computehub_ext.backends.docker import images

    if given.recipe and given.folder:
        raise Invalid("Name a recipe or --from PATH, not both.", field="recipe")
    arguments = build_arguments(given.build_arg)

    def write(text: str) -> None:
        if not given.quiet:
            sys.stdout.write(text)
            sys.stdout.flush()

    built: Built
    if given.folder:
        folder = Path(given.folder)
        tag = tag_of(given.tag, folder.resolve().name)
        built = images.build_course(api, folder, tag=tag, write=write, base=given.base, arguments=arguments)
    else:
        recipe = given.recipe or "slim"
        tag = tag_of(given.tag, recipe)
        built = images.build_recipe(api, recipe, tag=tag, write=write, base=given.base, arguments=arguments)
    sys.stdout.write(f"{built.tag} {built.id} {in_megabytes(built.size_bytes)}\n")
    return 0


def list_images(api: APIClient, given: argparse.Namespace) -> int:
    """Print a line for each image that was made by ``build``, newest first."""
    from computehub_ext.backends.docker import images

    rows = [
        (image.tag, image.id.removeprefix("sha256:")[:12], image.kind, image.created_at, in_megabytes(image.size_bytes))
        for image in images.list_images(api)
    ]
    if not rows:
        sys.stdout.write("No image was made here yet: computehub image build\n")
        return 0
    for line in table(("IMAGE", "ID", "MADE FROM", "MADE AT (UTC)", "SIZE"), *rows):
        sys.stdout.write(f"{line}\n")
    return 0


def check(api: APIClient, given: argparse.Namespace) -> int:
    """Start a kernel in an image, and print what it said."""
    from computehub_ext.backends.docker import images

    found = images.check_image(api, given.tag, python=given.python)
    encryption = "can" if found.can_encrypt else "can't"
    sys.stdout.write(
        f"A kernel starts in {given.tag}: Python {found.python_version}, ipykernel {found.ipykernel_version}, "
        f"{encryption} encrypt its connections. It answered after {found.seconds:.1f} s.\n"
    )
    return 0


def pull(given: argparse.Namespace) -> int:
    """Get an image from its registry: on a terminal in one line that changes, else in a line now and then."""
    from computehub_ext.backends.docker import pulling

    with _engine_for(given) as (engine, name):
        shown, shown_at, progress = "", 0.0, pulling.Progress()
        for line in engine.pull(name):
            progress.note(line)
            text = str(progress)
            if text and text != shown and time.monotonic() - shown_at > (0.1 if sys.stdout.isatty() else 2.0):
                shown, shown_at = text, time.monotonic()
                sys.stdout.write(f"\r\x1b[K{name}: {text}" if sys.stdout.isatty() else f"{name}: {text}\n")
                sys.stdout.flush()
        if shown and sys.stdout.isatty():
            sys.stdout.write("\r\x1b[K")
        if progress.error:
            raise Refused(pulling.told(name, progress.error)[0])
        image = engine.image(name)
        sys.stdout.write(f"{name} {image.id} {in_megabytes(image.size_bytes)}\n")
    return 0


@contextmanager
def _engine_for(given: argparse.Namespace) -> Iterator[tuple[Engine, str]]:
    """Give the engine and the image that are meant: a place's of the settings, or those named."""
    from computehub_ext.backends.docker import DockerSettings
    from computehub_ext.backends.docker.access import access_of
    from computehub_ext.backends.docker.engine import Engine
    from computehub_ext.places import Misconfigured, read

    place = admin.configured().places.get(given.name)
    if place is not None and place.get("kind") != "docker":
        raise Invalid(f"The place {given.name} has no Docker engine, and no image.", field="name")
    values = {"image": given.name} if place is None else {name: each for name, each in place.items() if name != "kind"}
    chosen = given.engine or ("" if place else os.environ.get(ENGINE_VARIABLE, ""))
    try:
        settings = read(DockerSettings, {**values, **({"engine_url": chosen} if chosen else {})}, given.name)
    except Misconfigured as problem:
        raise Invalid(str(problem)) from problem
    with tempfile.TemporaryDirectory(prefix="computehub-") as folder:
        engine = Engine(access_of(settings, Path(folder) / "ssh"), settings.engine_seconds_max)
        try:
            yield engine, settings.image
        finally:
            engine.close()


def build_arguments(pairs: Sequence[str]) -> dict[str, str]:
    """Read ``NAME=VALUE`` pairs; a NAME alone passes this environment's value on, as Docker does."""
    arguments = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not name or not (sign or name in os.environ):
            raise Invalid(f"--build-arg is NAME=VALUE, or the NAME of a variable that is set; not {pair!r}.")
        arguments[name] = value if sign else os.environ[name]
    return arguments


def tag_of(given: str | None, name: str) -> str:
    """Return the image's name as given, or one made of a recipe's or folder's name."""
    tag = given or "computehub/" + (re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "course")
    if not _TAG.fullmatch(tag):
        raise Invalid(f"{tag!r} is no name for an image; write it like computehub/physics:2026.", field="tag")
    return tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"


def in_megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:,.0f} MB"


def table(*rows: Sequence[str]) -> list[str]:
    """Lay rows out in columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
