"""Kernels that need environment modules, by a real Lmod or Environment Modules of the nodes, on a real Slurm."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.core.errors import Refused
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from computehub_ext.testing.terminal_contract import Screen, terminal_of
from tests.support.plane import browser
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name
from tests.support.slurm_plane import SlurmPlane

pytestmark = pytest.mark.needs("slurm", "modules")
BATCH_AND_AT_ONCE = pytest.mark.parametrize("immediate", [False, True], ids=["batch", "at_once"])
# In Tcl, which both read.
COURSE = """#%Module1.0
setenv COURSE_DATA /shared/course
setenv COURSE_API_KEY of-the-site
append-path INFOPATH {folder}/info
prepend-path PATH {folder}/bin
"""


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder with the module ``course/2.0``, whose ``course-python`` no PATH has but the module's."""
    folder = tmp_path / "modules"
    (folder / "course").mkdir(parents=True)
    (folder / "course/2.0").write_text(COURSE.format(folder=folder))
    (folder / "bin").mkdir()
    python = folder / "bin/course-python"
    python.write_text(f'#!/bin/sh\nCUDA_FROM=module exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def settings(slurm: SlurmCluster, modules: Path) -> Callable[..., Any]:  # noqa: F811
    own = {"modules": ("course/2.0",), "module_paths": (str(modules),), "kernels": {"python3": "course-python"}}
    return lambda **changes: settings_for(slurm, **{**own, **changes})


@pytest.fixture
def make(tmp_path: Path, slurm: SlurmCluster, settings: Callable[..., Any]) -> Iterator[Callable[..., SlurmBackend]]:  # noqa: F811
    made: list[SlurmBackend] = []

    def make(**changes: object) -> SlurmBackend:
        made.append(SlurmBackend(tmp_path / f"state{len(made)}", settings(**changes)))
        return made[-1]

    yield make
    for backend in made:
        nothing_left_of([backend], slurm)


@BATCH_AND_AT_ONCE
def test_a_kernel_runs_the_modules_python_and_sees_what_it_set(make, modules, tmp_path, immediate):
    backend = make(
        immediate=immediate,
        # The first reads all of its input, as programs like ssh do: the rest of the script is not in there.
        prologue=("cat > /dev/null", 'export COURSE_CACHE="$COURSE_DATA/cache"', "local_to_the_shell=1"),
    )
    request = ask(tmp_path)
    names = ("COURSE_DATA", "COURSE_CACHE", "CUDA_FROM", "COURSE_API_KEY", "local_to_the_shell", "INFOPATH")
    with KernelTalk(backend.start(request).connection_info) as kernel:
        code = f"import json, os; print(json.dumps([{{n: os.environ.get(n) for n in {names}}}, os.environ['PATH']]))"
        seen, path = json.loads(kernel.run(code))
        assert path.split(":")[0] == f"{modules}/bin"
        assert seen == {
            "COURSE_DATA": "/shared/course",
            "COURSE_CACHE": "/shared/course/cache",
            "CUDA_FROM": "module",
            "COURSE_API_KEY": None,
            "local_to_the_shell": None,
            "INFOPATH": f"{modules}/info",
        }
        # A cell's own shell knows what is loaded.
        kernel.run("import subprocess; listed = ['bash', '-lc', 'module -t list 2>&1']")
        assert "course/2.0" in kernel.run("print(subprocess.run(listed, capture_output=True, text=True).stdout)")
    terminal = backend.open_terminal(terminal_of(request))
    try:
        screen = Screen(terminal)
        screen.type("echo [$COURSE_DATA:$(command -v course-python)]")
        assert screen.until(r"\[(/[^\]]*)\]")[1] == f"/shared/course:{modules}/bin/course-python"
    finally:
        terminal.close()


@BATCH_AND_AT_ONCE
def test_a_module_that_is_not_there_is_named_soon_and_not_billed(slurm, settings, tmp_path, immediate):  # noqa: F811
    wanted = settings(immediate=immediate, modules=("course/2.0", "course/9.9"))
    hub = SlurmPlane(tmp_path, wanted)
    try:
        before = hub.money()
        lease = hub.take()
        began = time.monotonic()
        with pytest.raises(Refused, match=r"On n\d these modules can't be loaded: course/2\.0, course/9\.9\."):
            hub.start_in(lease)
        assert time.monotonic() - began < 15
        hub.release_lease(lease["id"], "start_failed")
        hub.tick()
        closed = hub.lease(browser(), lease["id"])
        assert (closed["state"], closed["cost_microcredits"], closed["held_microcredits"]) == ("closed", 0, 0)
        assert hub.money() == before
        wait_for(lambda: not jobs_of(slurm), 10, "the job stayed")
    finally:
        hub.close()
