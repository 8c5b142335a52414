"""The process behind ``docker_engine()``: runs dockerd for as long as anybody uses it, and clears up after it.

``python -m computehub_ext.testing.docker_keeper plain`` (or ``gpu``) says ``ready``, or why not, and closes its output.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from . import certificates, docker_base
from .docker_engine import (
    REPOSITORY,
    STOP_SECONDS_MAX,
    SYSTEM_PATH,
    THIRDS,
    TLS_PORT,
    DockerEngineFailed,
    Engine,
    folder_of,
)

if TYPE_CHECKING:
    import docker

START_SECONDS_MAX = 60
REAP_SECONDS = 1
_ENGINE = ("dockerd", "containerd", "docker-proxy", "runc")


class Keeper:
    """One engine's life, from its first user to its last."""

    def __init__(self, kind: str) -> None:
        self.engine = Engine(folder_of(kind), kind)
        self.folder = self.engine.folder
        self.data = docker_base.cache_folder() / f"docker-data-{kind}"
        self.interface = f"chd-{kind}"
        self.dockerd: subprocess.Popen[bytes] | None = None
        self._last_user: socket.socket | None = None

    def run(self) -> None:
        # Shims outlive the containerd that started them: theirs to end here, and not with a process 1 that never waits.
        _prctl(_SET_CHILD_SUBREAPER, 1)
        with docker_base.locked(self.folder.with_suffix(".running")):  # its predecessor may still be clearing up
            self._clear_up()
            self.folder.mkdir(mode=0o700)
            self.data.mkdir(parents=True, exist_ok=True)
            doors = socket.socket(socket.AF_UNIX)
            try:
                self._start()
                doors.bind(str(self.folder / "keeper.sock"))
                doors.listen(64)
                sys.stdout.write("ready")
                sys.stdout.flush()
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                self._last_user = self._serve(doors)
            except Exception as failure:
                sys.stdout.write(f"{failure}\n")
                sys.stdout.flush()
            finally:
                doors.close()
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / "keeper.sock").unlink()
                self._stop()
                self._clear_up()
        # Closed by the kernel with this process: who left last hears that it is gone.
        os._exit(0)

    def _serve(self, doors: socket.socket) -> socket.socket:
        """Until the last user leaves, whose connection is returned."""
        users: list[socket.socket] = []
        while True:
            self._reap()
            for ready in select.select([doors, *users], [], [], REAP_SECONDS)[0]:
                if ready is doors:
                    users.append(_welcomed(doors))
                    continue
                users.remove(ready)
                if not users:
                    doors.setblocking(False)
                    try:  # somebody connected before the doors close
                        users.append(_welcomed(doors))
                        doors.setblocking(True)
                    except BlockingIOError:
                        return ready
                ready.close()

    def _start(self) -> None:
        try:
            self._start_dockerd("overlay2")
            self._load()
        except Exception:
            # What the cache holds may be of a run that was cut off, or of another version: once more, from nothing.
            self._stop()
            self._clear_up()
            shutil.rmtree(self.data)
            self.data.mkdir()
            self.folder.mkdir(mode=0o700)
            self._start_dockerd("overlay2")
            self._load()

    def _start_dockerd(self, storage: str) -> None:
        third = THIRDS[self.engine.kind]
        path = SYSTEM_PATH
        if self.engine.kind == "gpu":
            path = f"{self._write_gpu_hook()}:{path}"
        (self.folder / "daemon.json").write_text("{}")  # not the machine's own engine's
        dockerd = [
            *("dockerd", "--data-root", str(self.data), "--exec-root", str(self.folder / "exec")),
            *("-H", self.engine.url, "--pidfile", str(self.folder / "dockerd.pid")),
            *("--config-file", str(self.folder / "daemon.json"), "--storage-driver", storage),
            *("--bip", f"198.18.{third + 1}.1/24"),
            *("--default-address-pool", f"base=198.18.{third + 16}.0/20,size=26"),
            # By their control group, processes of containers are found whatever became of dockerd.
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self.folder.name}"),
            *("--shutdown-timeout", "2", "--log-level", "warn"),
        ]
        if self.engine.kind == "remote":
            dockerd += self._listen_far()
        # Its interface comes from outside, when the namespace is there; then it says "go".
        # With no way further: what asks for the Internet is told so at once and need not wait.
        inside = (
            'read go; ip link set lo up; ip link set "$1" name uplink up; ip address add "$2" dev uplink; '
            'shift 2; exec "$@"'
        )
        peer, net = f"{self.interface}-in", f"198.18.{third}"
        shell = ["sh", "-ec", inside, "sh", peer, f"{net}.2/30", *dockerd]
        with (self.folder / "log").open("ab") as log:
            self.dockerd = subprocess.Popen(
                ["unshare", "--net", "--", *shell],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (the keeper has one thread)
                start_new_session=True,
                env={"PATH": path, "HOME": str(self.folder), "DOCKER_RAMDISK": ""},
            )
        ip = ["ip", "link", "add", self.interface, "type", "veth", "peer", "name", peer]
        _call(*ip)
        _wait(lambda: _namespace(self._dockerd_pid) != _namespace(os.getpid()), "unshare's namespace")
        _call("ip", "link", "set", peer, "netns", str(self._dockerd_pid))
        _call("ip", "address", "add", f"{net}.1/30", "dev", self.interface)
        _call("ip", "link", "set", self.interface, "up")
        _call("ip", "route", "add", f"198.18.{third}.0/19", "via", f"{net}.2", "dev", self.interface)
        assert self.dockerd.stdin is not None
        self.dockerd.stdin.write(b"go\n")
        self.dockerd.stdin.close()
        with self._client() as client:
            _wait(lambda: self._answers(client), "dockerd")
        # What a container doesn't publish is reached from this machine too, as on the machine of an engine.
        rule = ["iptables", "--wait", "-I", "DOCKER-USER", "-i", "uplink", "-j", "ACCEPT"]
        _call("nsenter", "--net", "--target", str(self._dockerd_pid), *rule)

    @property
    def _dockerd_pid(self) -> int:
        assert self.dockerd is not None
        return self.dockerd.pid

    @contextlib.contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        client = self.engine.client(version="1.40", timeout=300)
        with contextlib.closing(client):
            yield client

    def _answers(self, client: docker.DockerClient) -> bool:
        if self.dockerd is not None and self.dockerd.poll() is not None:
            raise DockerEngineFailed(f"dockerd did not start:\n{self._log()}")
        try:
            return bool(client.ping())
        except Exception:  # requests' and urllib3's errors, of many kinds, as long as its socket isn't there
            return False

    def _log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def _load(self) -> None:
        """See to it that the engine holds the test image and nothing else."""
        with self._client() as client:
            self._empty(client)
            if not client.images.list(name=self.engine.image):
                changes = list(docker_base.CHANGES)
                tar, tag = docker_base.base_tar(), self.engine.image.rpartition(":")[2]
                said = client.api.import_image_from_file(str(tar), repository=REPOSITORY, tag=tag, changes=changes)
                if not client.images.list(name=self.engine.image):
                    raise DockerEngineFailed(f"docker import said: {said}")

    def _empty(self, client: docker.DockerClient) -> None:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in client.networks.list():
            if network.name not in ("bridge", "host", "none"):
                network.remove()
        for volume in client.volumes.list():
            volume.remove(force=True)
        for image in client.images.list():
            if self.engine.image not in image.tags:
                client.api.remove_image(str(image.id), force=True)

    def _listen_far(self) -> list[str]:
        certificates.make(self.engine.tls, self.engine.address)
        names = {"cacert": "ca.pem", "cert": "server.pem", "key": "server-key.pem"}
        files = (f"--tls{option}={self.engine.tls / name}" for option, name in names.items())
        return ["-H", f"tcp://0.0.0.0:{TLS_PORT}", "--tlsverify", *files]

    def _write_gpu_hook(self) -> Path:
        """dockerd looks for NVIDIA's hook when it starts, and takes requests for GPUs only if it is there."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        hook = folder / "nvidia-container-runtime-hook"
        hook.write_text(_GPU_HOOK.format(python=sys.executable, log=str(self.folder / "gpu-hook.log")))
        hook.chmod(0o755)
        return folder

    def _stop(self) -> None:
        if self.dockerd is None:
            return
        if self.dockerd.poll() is None:
            # Containers first: dockerd would wait for each of them to end by itself.
            with contextlib.suppress(Exception), self._client() as client:
                self._empty(client)
            self.dockerd.terminate()
            try:
                self.dockerd.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.dockerd.kill()
                self.dockerd.wait()
        self.dockerd = None

    def _reap(self) -> None:
        """Wait for the shims that ended. dockerd itself is left to those who ask for its exit status."""
        with contextlib.suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if self.dockerd is not None and ended.si_pid == self.dockerd.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def _clear_up(self) -> None:
        """Remove what an engine leaves behind, this keeper's or one's that was killed."""
        # dockerd clears up best, at once where no container keeps it waiting; then whatever it could not end.
        _kill((pid for pid, name in _processes_of(self.folder).items() if not name.startswith(_ENGINE)), signal.SIGKILL)
        if old := [pid for pid, program in _processes_of(self.folder).items() if program == "dockerd"]:
            _kill(old, signal.SIGTERM)
            with contextlib.suppress(DockerEngineFailed):
                _wait(lambda: "dockerd" not in _processes_of(self.folder).values(), "dockerd's end", STOP_SECONDS_MAX)
        _kill(_processes_of(self.folder), signal.SIGKILL)
        _wait(lambda: not _processes_of(self.folder), "the end of the old engine's processes")
        self._reap()
        for place in (self.folder, self.data):
            for point in reversed(docker_base.mounts_below(place)):
                subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)
        for group in Path("/sys/fs/cgroup").glob(f"*/{self.folder.name}"):
            with contextlib.suppress(OSError):
                group.rmdir()
        with contextlib.suppress(OSError):
            (Path("/sys/fs/cgroup") / self.folder.name).rmdir()
        # Goes by itself with the namespace, but not at once.
        subprocess.run(["ip", "link", "delete", self.interface], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


_GPU_HOOK = '''#!{python}
"""In the place of NVIDIA's hook: writes down which GPUs a container was to see, and gives it none."""
import json, sys

state = json.load(sys.stdin)
with open(state["bundle"] + "/config.json") as file:
    environment = dict(pair.split("=", 1) for pair in json.load(file)["process"]["env"] if "=" in pair)
seen = {{name: value for name, value in environment.items() if name.startswith(("NVIDIA_", "CUDA_"))}}
with open({log!r}, "a") as file:
    file.write(json.dumps({{"container": state["id"], **seen}}) + "\\n")
'''


_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36


def _welcomed(doors: socket.socket) -> socket.socket:
    user = doors.accept()[0]
    with contextlib.suppress(ConnectionError):
        user.send(b"+")
    return user


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


def _die_with_parent() -> None:
    _prctl(_SET_PDEATHSIG, signal.SIGTERM)  # which lets dockerd end its containers


def _processes_of(folder: Path) -> dict[int, str]:
    """Find an engine's own processes, by the folder in their command lines, and those of its containers."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                program = os.path.basename(words.split(b"\0", 1)[0]).decode(errors="replace")
                ours = f"{folder}/".encode() in words
                is_engine = ours and program.startswith(_ENGINE)
                if is_engine or (words and f"/{folder.name}/" in (entry / "cgroup").read_text()):
                    found[int(entry.name)] = program
    return found


def _kill(pids: Iterable[int], how: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def _namespace(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(f"/proc/{pid}/ns/net")
    raise DockerEngineFailed("unshare ended at once.")


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": SYSTEM_PATH})
    if done.returncode:
        raise DockerEngineFailed(f"{' '.join(command)}: {done.stderr.strip()}")


def _wait(condition: Callable[[], bool], for_what: str, seconds_max: float = START_SECONDS_MAX) -> None:
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            raise DockerEngineFailed(f"Waited {seconds_max} s for {for_what}.")
        time.sleep(0.02)


if __name__ == "__main__":
    os.umask(0o077)
    Keeper(sys.argv[1]).run()
