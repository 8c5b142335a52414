"""Jobs whose Python is in a container, with a stand-in for Apptainer's command on a real Slurm."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.core.errors import Refused
from computehub_ext.testing.kernels import KernelTalk
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support import apptainer
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")
PROLOGUE = ("export COURSE=physics",)
IMAGES_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOW_TO = Path(__file__).resolve().parents[2] / "docs/how-to/slurm.md"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What stands for the cluster's shared file system: the spool, the notebooks and the image."""
    folder = tmp_path / "shared"
    for name in ("computehub/spool", "home/ada", "images"):
        (folder / name).mkdir(parents=True)
    (folder / "images/torch.sif").touch()
    return folder


def documented() -> list[str]:
    """Return the place's ``container`` of the documentation."""
    (line,) = re.findall(r'^"container": (\[.*\]),$', HOW_TO.read_text(), re.MULTILINE)
    found: list[str] = json.loads(line)
    return found


@pytest.fixture
def start(tmp_path: Path, slurm: SlurmCluster, shared: Path) -> Iterator[Any]:  # noqa: F811
    made: list[SlurmBackend] = []
    program = apptainer.install(tmp_path, shared)

    def start(container: list[str], **changes: Any) -> Any:
        command = [part.replace("/shared", str(shared)) for part in container]
        assert command[0] == "apptainer"
        settings = settings_for(
            slurm,
            container=(str(program), *command[1:]),
            spool=str(shared / "computehub/spool"),
            kernels={"python3": sys.executable},
            **changes,
        )
        made.append(SlurmBackend(tmp_path / "state", settings))
        return made[-1].start(ask(shared / "home/ada"))

    yield start
    nothing_left_of(made, slurm)


@pytest.mark.parametrize("immediate", [False, True])
def test_a_kernel_starts_in_a_container_as_the_documentation_has_it(start, shared, immediate):
    with KernelTalk(start(documented(), immediate=immediate, prologue=PROLOGUE).connection_info) as kernel:
        kernel.run("import os; open('made', 'w').close()")
        assert kernel.run("print(os.readlink('/proc/self/ns/mnt'))") != f"{os.readlink('/proc/self/ns/mnt')}\n"
        assert kernel.run("print(os.environ['PATH'], os.environ['COURSE'])") == f"{IMAGES_PATH} physics\n"
    assert (shared / "home/ada/made").exists()


def test_a_spool_that_the_container_lacks_is_told_as_such(start):
    container = [part for part in documented() if part not in ("--bind", "/shared")]
    assert len(container) == len(documented()) - 2
    with pytest.raises(Refused, match=r"The token of this job can't be read: .*/spool/"):
        start(container)


def test_a_flag_that_apptainer_lacks_is_told_in_its_words(start):
    with pytest.raises(Refused, match="unknown flag: --gpus"):
        start(["apptainer", "exec", "--gpus", "/shared/images/torch.sif"])
