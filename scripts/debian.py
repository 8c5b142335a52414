"""See to what the tests drive: Chromium and PostgreSQL, without which there is no `make test`, and Docker and Slurm.

As root it installs them and makes the image for the Docker tests; else it says what to install. Docker's and Slurm's
tests need root themselves: without it they are deselected and named as not run here, and nothing is asked for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ENGINES = {
    "dockerd": "docker.io",
    "debootstrap": "debootstrap",
    "docker-registry": "docker-registry",
    "sshd": "openssh-server",
    "ip": "iproute2",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "sudo": "sudo",
}
"""A program of each package that the tests of Docker and Slurm need."""
MODULES = ("/usr/share/lmod", "/usr/share/modules/init")
"""Lmod or Environment Modules, of which Debian lets one be there: it stays. The latter changes fewer shells."""
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


def missing() -> list[str]:
    packages = []
    if not any(shutil.which(name) for name in CHROMIUM):
        packages.append("chromium")
    if not shutil.which("initdb") and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        packages.append("postgresql")
    return packages


def missing_engines() -> list[str]:
    packages = [package for program, package in ENGINES.items() if not shutil.which(program, path=SYSTEM_PATH)]
    return packages + ([] if any(Path(path).exists() for path in MODULES) else ["environment-modules"])


def main() -> int:
    can_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
    packages = missing() + (missing_engines() if can_install else [])
    if packages:
        command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
        if can_install:
            install(packages, command)
            packages = missing()  # without the engines the other tests run all the same
        if packages:
            print(f"The tests need {' and '.join(packages)}. On Debian or Ubuntu:", file=sys.stderr)
            print(f"    sudo apt-get update && sudo {' '.join(command)}", file=sys.stderr)
            return 1
    make_docker_image()
    return 0


def install(packages: list[str], command: list[str]) -> None:
    print(f"Installing {', '.join(packages)} ...", flush=True)
    # The tests start servers of their own: with this run level, the packages' scripts leave the system's alone.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    subprocess.run(["apt-get", "update", "-qq"], check=False, env=environment)
    done = subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)
    if done.returncode and (needed := missing()):
        # One that this system doesn't have (Slurm's, on some) keeps no other one out.
        subprocess.run([*command[: -len(packages)], *needed], check=True, env=environment, stdout=subprocess.DEVNULL)


def make_docker_image() -> None:
    """Here and not in the first test: it takes a minute or two, more than a test may."""
    from computehub_ext.testing import docker_base, docker_engine

    if docker_base.is_made() or docker_engine.lacking():
        return
    print("Making the image for the Docker tests, once ...", flush=True)
    try:
        docker_base.make_base()
    except RuntimeError as failure:  # the tests that need it fail, and say the same
        print(failure, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
