"""Images that a registry has and an engine has not."""

from __future__ import annotations

import io
import os
import tarfile
from typing import Any

from docker import APIClient

LAYER_BYTES = 8_000_000


def made(api: APIClient, name: str, *, base: str = "scratch", layers: int = 2) -> None:
    """Make an image with some megabytes of its own that can't be packed smaller: ``/0.bin`` and so on."""
    packed = io.BytesIO()
    files = {f"{number}.bin": os.urandom(LAYER_BYTES) for number in range(layers)}
    text = f"FROM {base}\nENV COURSE=physics\n" + "".join(f"ADD {each} /\n" for each in files)
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, contents in {**files, "Dockerfile": text.encode()}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(contents)
            tar.addfile(entry, io.BytesIO(contents))
    packed.seek(0)
    for line in api.build(fileobj=packed, custom_context=True, tag=name, rm=True, decode=True):
        assert "error" not in line, line


def pushed(api: APIClient, name: str, *, base: str = "scratch", **more: Any) -> None:
    """Make an image, and see to it that the registry alone has what it has beyond its base."""
    made(api, name, base=base)
    for line in api.push(name, stream=True, decode=True, **more):
        assert "error" not in line, line
    api.remove_image(name)
