"""Gateway Provisioners as installed, for a yardstick: an environment, an image and a process of their own.

The environment is made once, in the cache folder of the tests' images; nothing of it comes into ComputeHub's own.
Their settings are left at what they come with, but for the addresses of this machine and who may start kernels.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from computehub_ext.testing import docker_base
from computehub_ext.testing.docker_engine import Engine

PACKAGES = ("gateway_provisioners==0.5.*", "docker>=7.1,<8", "ipykernel>=7.4,<8")
IN_THE_IMAGE = "pycryptodomex"
DOCKER, DISTRIBUTED = "gp_docker", "gp_distributed"
TAG = "computehub-test/gateway-provisioners:0.5"
INSTALL_SECONDS_MAX = 300
ANSWER_SECONDS_MAX = 60.0
# Their `jupyter-image-bootstrap install` writes into /usr/local/bin of wherever it runs, and takes no other folder.
_BOOTSTRAP = """
import sys
from gateway_provisioners.cli import image_bootstrapapp as theirs
theirs.BOOTSTRAP_DIR = sys.argv.pop()
theirs.ImageBootstrapInstaller.launch_instance(["--languages=Python"])
"""
_MADE = 2  # count it up when what is made below changes


class NotHere(RuntimeError):
    """They can't be installed or run on this machine; the message says why."""


def environment() -> Path:
    """Return the virtual environment that has them, making it first where it isn't there."""
    parts = "\n".join((*PACKAGES, sys.version, IN_THE_IMAGE, str(_MADE)))
    folder = docker_base.cache_folder() / f"gateway-provisioners-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"
    with docker_base.locked(folder.with_suffix(".lock")):
        if not (folder / "made").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            (folder / "made").touch()
    return folder


def _make(folder: Path) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    _run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES)
    machine = os.uname().machine
    tags = [part for name in ("manylinux_2_28", "manylinux2014") for part in ("--platform", f"{name}_{machine}")]
    version = ("--python-version", docker_base.PYTHON_VERSION, "--implementation", "cp", "--only-binary=:all:")
    download = ("-m", "pip", "download", "--quiet", "--dest", str(folder / "wheels"))
    _run(str(folder / "bin/python"), *download, *version, *tags, IN_THE_IMAGE)
    (folder / "image").mkdir()
    _run(str(folder / "bin/python"), "-c", _BOOTSTRAP, str(folder / "image"))
    _run(
        *(str(folder / "bin/jupyter-docker-spec"), "install", "--sys-prefix"),
        *(f"--kernel-name={DOCKER}", f"--image-name={TAG}"),
    )
    _run(
        *(str(folder / "bin/jupyter-ssh-spec"), "install", "--sys-prefix"),
        *(f"--kernel-name={DISTRIBUTED}", "--remote-hosts=localhost"),
    )


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=INSTALL_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NotHere(f"{Path(command[0]).name}: {problem}") from problem
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise NotHere(f"{Path(command[0]).name} {command[1]} {command[2]}: {' '.join(said)}")


def image(engine: Engine, folder: Path) -> None:
    """Make their kernel image: our test image, their launchers in it as their own command lays them down."""
    recipe = f"""
FROM {engine.image}
USER 0
COPY image /usr/local/bin
COPY wheels /tmp/wheels
RUN {engine.python} -m pip install --quiet --no-index --find-links /tmp/wheels {IN_THE_IMAGE}
RUN chmod -R a+rX /usr/local/bin && chmod a+x /usr/local/bin/bootstrap-kernel.sh
ENV KERNEL_LANGUAGE=python KERNEL_LAUNCHERS_DIR=/usr/local/bin/kernel-launchers
USER {docker_base.UID}
CMD ["/usr/local/bin/bootstrap-kernel.sh"]
"""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        tar.add(folder / "image", "image")
        tar.add(folder / "wheels", "wheels")
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(recipe.encode())
        tar.addfile(entry, io.BytesIO(recipe.encode()))
    context.seek(0)
    client = engine.client()
    try:
        client.images.build(fileobj=context, custom_context=True, tag=TAG, rm=True, forcerm=True)
    finally:
        client.close()


class Provisioners:
    """The process that starts and stops their kernels."""

    def __init__(self, process: subprocess.Popen[str], engine: Engine) -> None:
        self._process, self._engine = process, engine
        self.ids: dict[str, list[str]] = {DOCKER: [], DISTRIBUTED: []}

    def start(self, spec: str) -> float:
        answer = self._ask({"do": "start", "spec": spec})
        self.ids[spec].append(answer["id"])
        return float(answer["seconds"])

    def stop(self) -> float:
        return float(self._ask({"do": "stop"})["seconds"])

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        # What does not answer is ended, and then its output ends too.
        watch = threading.Timer(ANSWER_SECONDS_MAX, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise NotHere(f"no answer to {order['do']}")
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise NotHere(answer["problem"])
        return answer

    def containers(self) -> list[Any]:
        """Containers of kernels that were started here."""
        client = self._engine.client()
        try:
            found = client.containers.list(all=True, filters={"label": "app=gateway-provisioners"})
            return [each for each in found if each.labels.get("kernel_id") in self.ids[DOCKER]]
        finally:
            client.close()

    def clear(self, pids: list[int]) -> None:
        """End what they left: these processes, which carry ids of kernels that were started here, and containers."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        client = self._engine.client()
        try:
            for each in self.containers():
                client.api.remove_container(each.id, force=True)
        finally:
            client.close()


@contextlib.contextmanager
def provisioners(engine: Engine) -> Iterator[Provisioners]:
    """Start their process for the body. Raises ``NotHere``."""
    folder = environment()
    try:
        image(engine, folder)
    except Exception as problem:  # the SDK has many
        raise NotHere(f"their image could not be made: {problem}") from problem
    worker = Path(__file__).with_name("places_provisioners_worker.py")
    with tempfile.TemporaryDirectory(prefix="chb-gp-", dir="/tmp") as home:
        os.chmod(home, 0o755)
        variables = {
            # Theirs go into the container as they are; a home that is not there would only slow them down.
            "HOME": "/tmp",
            "PATH": f"{folder}/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "DOCKER_HOST": engine.url,
            "GP_RESPONSE_IP": engine.host_address,
            "GP_KERNEL_LOG_DIR": home,
            "GP_UNAUTHORIZED_USERS": "nobody",
            "KERNEL_USERNAME": "bench",
        }
        with (
            open(f"{home}/worker.log", "wb") as log,
            subprocess.Popen(
                # Isolated: `http.py` beside the worker would stand for the standard library's.
                [str(folder / "bin/python"), "-I", str(worker)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=variables,
                cwd=home,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Provisioners(process, engine)
            except NotHere as problem:
                said = Path(f"{home}/worker.log").read_text(errors="replace").strip().splitlines()[-3:]
                raise NotHere(f"{problem} {' '.join(said)}".strip()) from problem
            finally:
                process.kill()
                _remove_image(engine)


def _remove_image(engine: Engine) -> None:
    import docker.errors

    client = engine.client()
    try:
        with contextlib.suppress(docker.errors.APIError):  # another run uses it
            client.images.remove(TAG)
    finally:
        client.close()
