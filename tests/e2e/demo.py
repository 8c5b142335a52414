"""``make demo`` as a process of its own, as the shell starts it, and what differs from one place to the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from computehub_ext.backends.docker.recipe import OWNER_LABEL
from computehub_ext.testing.docker_engine import docker_engine
from computehub_ext.testing.slurm_cluster import slurm_cluster
from tests.e2e.lab import MARK, OVERRIDES, ROOT, Lab, free_port

EXAMPLES = ROOT / "docs" / "examples"
ENDED_IN_SECONDS = 60.0
SECRET = "STORE_TOKEN"
"""A variable of the server's that no kernel on a GPU may see."""


@dataclass(frozen=True)
class Site:
    """Where the demo's GPUs are: what a newcomer has there, and the file that they give to ``CONFIG=``."""

    place: str
    config: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    is_there: str = "True"
    """Whether a cell runs there, in Python."""
    left: Callable[[], str] = str
    """What still runs there."""


@contextmanager
def site(kind: str, folder: Path) -> Iterator[Site]:
    """Bring up a place: this machine, a Docker engine or a Slurm cluster, each with the example as it is shipped."""
    with ExitStack() as stack:
        if kind == "docker":
            engine = stack.enter_context(docker_engine())
            client = engine.client()
            stack.callback(client.close)
            # The example, but for what this engine calls its socket and its image.
            here = {"engine_url": engine.url, "image": engine.image, "python": engine.python}
            config = folder / "docker_here.py"
            example = str(EXAMPLES / "docker.py")
            config.write_text(f"load_subconfig({example!r})\nc.ComputeHub.places['docker'].update({here!r})\n")

            # Others use the engine at the same time: the demo's are those that see its notebooks.
            mine = {"label": OWNER_LABEL, "volume": str(folder / "demo" / "work")}

            def containers() -> str:
                return str(client.api.containers(all=True, filters=mine) or "")

            yield Site("docker", config, {}, "os.path.exists('/.dockerenv')", containers)
        elif kind == "slurm":
            cluster = stack.enter_context(slurm_cluster())
            environment = {"SLURM_CONF": str(cluster.conf)}

            def jobs() -> str:
                return cluster.run("squeue", "--noheader", "--states=PENDING,RUNNING,COMPLETING")

            yield Site("slurm", EXAMPLES / "slurm.py", environment, "'SLURM_JOB_ID' in os.environ", jobs)
        else:
            yield Site("local")


@contextmanager
def running_demo(tmp_path: Path, at: Site) -> Iterator[tuple[Lab, subprocess.Popen[str]]]:
    """Start the demo as the shell starts it, in a folder of its own."""
    folder, port = tmp_path / "demo", free_port()
    lab = Lab(folder, {}, port=port)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE_"))}
    environment |= {
        MARK: lab.mark,
        SECRET: "of the server's",
        "HOME": str(tmp_path / "home"),
        "JUPYTER_DATA_DIR": str(tmp_path / "home" / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "home" / "runtime"),
        "IPYTHONDIR": str(tmp_path / "home" / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": str(ROOT),
        "NO_BROWSER": "1",
        "PORT": str(port),
        **at.environment,
    }
    (tmp_path / "home").mkdir()
    # What the tests' words for a tab need of JupyterLab; a person's own settings would stand in the same places.
    settings = folder / "user" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(OVERRIDES["@jupyterlab/notebook-extension:tracker"]))
    (folder / "config").mkdir()
    (folder / "config" / "jupyter_lab_config.py").write_text("c.LabApp.expose_app_in_browser = True\n")
    command = [sys.executable, "-m", "computehub_ext.cli", "demo", "--folder", str(folder)]
    command += ["--config", str(at.config)] if at.config else []
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = []
        while "Ctrl-C" not in (line := process.stdout.readline()):
            assert line, f"the demo ended with {process.wait(5)}:\n{''.join(said)}\n{lab.tail()}"
            said.append(line)
        lab.users = json.loads((folder / "tokens.json").read_text())
        for name, token in lab.users.items():
            assert f"http://localhost:{port}/lab/tree/tour.ipynb?token={token}" in "".join(said), name
        yield lab, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(ENDED_IN_SECONDS)
        process.stdout.close()
        left = lab.end_what_is_left()
        assert not left, f"the demo left processes behind: {left}"
