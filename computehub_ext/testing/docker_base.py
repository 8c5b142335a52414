"""The image that tests run kernels in, made from Debian's and the Python index's packages: no registry is asked.

It is what ``kernels/images/slim`` makes, on a base of its own: Debian with Python in ``/opt/kernel``, ipykernel and
numpy, and nothing of ComputeHub. Made once (a minute or two), kept as a tar file in the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
MIRROR_VARIABLE = "COMPUTEHUB_DEBIAN_MIRROR"
CACHE_VARIABLE = "COMPUTEHUB_TEST_CACHE"
PYTHON_VERSION = "3.11"
"""Debian bookworm's; the kernel's Python may be another than the notebook's."""
PYTHON = "/opt/kernel/bin/python"
UID = 1000

_DEBIAN = ("python3", "python3-venv", "ca-certificates", "tini")
# The last one: pip judges markers (`python_version < "3.12"`) by the Python that it runs in, not by the one it is for.
_WHEELS = ("ipykernel>=7.4,<8", "numpy>=2,<3", "typing-extensions")
_UNUSED = (
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "var/cache/debconf",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
)
_MADE = 1  # count it up when the steps below change, so that kept images are made anew
CHANGES = (
    "ENV PATH=/opt/kernel/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME=/home/kernel",
    f"USER {UID}:{UID}",
    "WORKDIR /home/kernel",
    'CMD ["python3"]',
)


def cache_folder() -> Path:
    """Where what is dear to make is kept between runs: ``$COMPUTEHUB_TEST_CACHE``, else in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "computehub" / "tests"


def fingerprint() -> str:
    parts = (SUITE, PYTHON_VERSION, *_DEBIAN, *_WHEELS, *_UNUSED, *CHANGES, platform.machine(), str(_MADE))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def base_tar() -> Path:
    """Where the image lies once it was made."""
    return cache_folder() / f"docker-base-{fingerprint()}.tar"


def wheels() -> Path:
    """The folder of the wheels that the image was made from: an index for builds without a network."""
    return cache_folder() / f"docker-base-{fingerprint()}-wheels"


def is_made() -> bool:
    return base_tar().is_file() and wheels().is_dir()


def make_base() -> Path:
    """Return the image's tar file, making it first where it isn't there. Processes that ask at once wait for one.

    Raises
    ------
    RuntimeError
        A step failed; the message ends with what its program said.
    """
    with locked(cache_folder() / "docker-base.lock"):
        if not is_made():
            folder = Path(tempfile.mkdtemp(prefix="docker-base-", dir=cache_folder()))
            try:
                _make(folder)
            finally:
                # Without the guard, an interrupted debootstrap's /proc would be emptied with the rest.
                _unmount_below(folder)
                shutil.rmtree(folder, ignore_errors=True)
    return base_tar()


def _make(folder: Path) -> None:
    root, fetched = folder / "root", folder / "wheels"
    _fetch_wheels(fetched)
    mirror = os.environ.get(MIRROR_VARIABLE, MIRROR)
    _run("debootstrap", "--variant=minbase", f"--include={','.join(_DEBIAN)}", SUITE, str(root), mirror)
    inside = root / "tmp" / "wheels"
    shutil.copytree(fetched, inside)
    chroot = ("chroot", str(root), "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")
    _run(*chroot, "useradd", "--uid", str(UID), "--create-home", "kernel")
    _run(*chroot, "python3", "-m", "venv", "/opt/kernel")
    install = (
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--find-links",
        "/tmp/wheels",
        "--root-user-action=ignore",
    )
    _run(*chroot, PYTHON, *install, *_WHEELS)
    for unused in (*_UNUSED, "tmp/wheels"):
        shutil.rmtree(root / unused)
    for needed in ("var/log", "var/cache/debconf", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / needed).mkdir(parents=True, exist_ok=True)
    _unmount_below(folder)
    unfinished = folder / "base.tar"
    _run(
        "tar",
        "--directory",
        str(root),
        "--create",
        "--numeric-owner",
        "--exclude=./dev/*",
        "--file",
        str(unfinished),
        ".",
    )
    shutil.rmtree(wheels(), ignore_errors=True)
    fetched.rename(wheels())
    unfinished.rename(base_tar())


def _fetch_wheels(to: Path) -> None:
    """With this machine's pip, and so from the index, through the proxy and by the certificates that are set for it."""
    machine = platform.machine()
    tags = [f"manylinux_2_{minor}_{machine}" for minor in (36, 28, 27, 24, 17)] + [f"manylinux2014_{machine}"]
    platforms = [part for tag in tags for part in ("--platform", tag)]
    for_python = ["--python-version", PYTHON_VERSION, "--implementation", "cp", "--only-binary=:all:"]
    _run(sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(to), *for_python, *platforms, *_WHEELS)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise RuntimeError(f"The image for the Docker tests could not be made; {' '.join(command)} said:\n{said}")


def _unmount_below(folder: Path) -> None:
    for point in reversed(mounts_below(folder)):
        subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)


def mounts_below(folder: Path) -> list[Path]:
    """Return what is mounted on a folder and below it, outermost first."""
    points = [
        Path(line.split()[1].replace("\\040", " ")) for line in Path("/proc/self/mounts").read_text().splitlines()
    ]
    return [point for point in points if point.is_relative_to(folder)]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the body runs; the kernel lets go of it, however its holder ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":  # make what the first use would make
    make_base()
