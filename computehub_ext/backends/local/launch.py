"""Start a supervisor and, by it, a kernel: what the backend does for a placement and the warm pool for a standby."""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from computehub_ext.core.errors import Refused

from ..environment import LABEL, OWNER, PASSED_ON, passed_on
from .directory import PlacementDirectory

_KERNEL_WING = Path(__file__).resolve().parents[2] / "kernel"  # programs that we start, not modules that we import
_SUPERVISOR, _STANDBY = str(_KERNEL_WING / "supervisor.py"), str(_KERNEL_WING / "standby.py")
_LOCK_FD = 3


@dataclass(frozen=True)
class Command:
    """How a kernelspec is started. ``python`` kernels are started by our own launcher and can wait as standbys."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    is_python: bool

    def with_connection_file(self, path: Path, *, standby: bool = False) -> list[str]:
        if self.is_python:
            return [*self.argv, _STANDBY, *(["--standby"] if standby else []), str(path)]
        return [part.replace("{connection_file}", str(path)) for part in self.argv]


class Launcher:
    """Makes directories and supervisors below ``state_dir``.

    Parameters
    ----------
    state_dir:
        Made private if it is not; on a local disk, since locks and sockets live there.
    python:
        The interpreter of the ``python3`` kernelspec and of all supervisors.
    environment_names:
        What of the server's environment is passed on; a name may end in ``*``.
    """

    def __init__(self, state_dir: Path, python: str, environment_names: Sequence[str] = PASSED_ON) -> None:
        self.state_dir, self.python, self.environment_names = state_dir, python, tuple(environment_names)
        for name in ("", "placements", "standbys", "new"):
            (state_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(state_dir, 0o700)
        for path in (state_dir / "new").iterdir():
            if not PlacementDirectory(path).is_watched():
                PlacementDirectory(path).remove()  # of a server that was killed before it could give it its name
        self.owner = _own_id(state_dir / "backend_id")
        self._children: set[int] = set()
        self._lock = threading.Lock()

    def base_environment(self) -> dict[str, str]:
        return passed_on(os.environ, self.environment_names)

    def command(self, kernel_name: str) -> Command:
        """Resolve a kernelspec. Raises ``Refused`` with the known ones for an unknown name."""
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

        manager = KernelSpecManager()
        try:
            spec = manager.get_kernel_spec(kernel_name)
        except NoSuchKernel as problem:
            known = sorted(manager.find_kernel_specs())
            raise Refused(
                f"There is no kernel {kernel_name!r} here; there is {', '.join(known)}.", known=known
            ) from problem
        argv = [part.replace("{resource_dir}", spec.resource_dir) for part in spec.argv]
        if argv[0] in ("python", "python3", sys.executable):
            argv[0] = self.python
        for launcher in ("ipykernel_launcher", "ipykernel"):
            tail = ["-m", launcher, "-f", "{connection_file}"]
            if argv[-4:] == tail:
                return Command(tuple(argv[:-4]), dict(spec.env), is_python=True)
        return Command(tuple(argv), dict(spec.env), is_python=False)

    def make(self, place: Path, *, label: str, paid_until: datetime) -> tuple[PlacementDirectory, int] | None:
        """Make a directory that appears with its lock held, all at once; None if the place is taken."""
        new = PlacementDirectory(self.state_dir / "new" / secrets.token_hex(8))
        new.path.mkdir(mode=0o700)
        lock = new.try_lock()
        assert lock is not None, "nobody else knows this directory yet"
        try:
            new.write("placement.json", {"label": label})
            new.pay(paid_until)
            os.rename(new.path, place)
        except OSError as problem:
            os.close(lock)
            new.remove()
            if problem.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return None
            raise
        return PlacementDirectory(place), lock

    def spawn(
        self,
        directory: PlacementDirectory,
        lock: int,
        command: Command,
        *,
        cwd: str,
        environment: Mapping[str, str],
        session_key: bytes,
        standby: bool = False,
    ) -> None:
        """Start the supervisor, which takes the lock over and starts the kernel. Closes ``lock`` in any case."""
        label = {LABEL: directory.label(), OWNER: self.owner}
        try:
            directory.write("connection.json", _connection(session_key, needs_ports=not command.is_python))
            directory.write(
                "request.json",
                {
                    "argv": command.with_connection_file(directory / "connection.json", standby=standby),
                    "cwd": cwd,
                    "env": {**environment, **label},
                    "umask": _umask(),
                },
            )
            pid = os.posix_spawn(
                self.python,
                [self.python, "-I", "-S", _SUPERVISOR, str(directory.path), str(_LOCK_FD)],
                {**self.base_environment(), **label},
                file_actions=[(os.POSIX_SPAWN_DUP2, lock, _LOCK_FD)],
                setsigmask=[],
                setsigdef=[signal.SIGPIPE],
            )
        except OSError as problem:
            directory.end("start_failed", None)
            raise Refused(f"The kernel's supervisor could not be started: {problem}.") from problem
        finally:
            os.close(lock)
        with self._lock:
            self._children.add(pid)

    def reap(self) -> None:
        """Collect supervisors that have ended, which would stay as zombies while the server lives."""
        with self._lock:
            for pid in list(self._children):
                try:
                    done = os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    done = True
                if done:
                    self._children.discard(pid)


def _own_id(path: Path) -> str:
    """Return the id that tells this state directory's processes from those of another on the same machine."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with open(descriptor, "w", encoding="ascii") as file:
        owner = secrets.token_hex(8)
        file.write(owner)
    return owner


def _connection(session_key: bytes, *, needs_ports: bool) -> str:
    ports = dict.fromkeys(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), 0)
    if needs_ports:
        # Another language's kernel binds what it is told; between the look and that there is a small race.
        from jupyter_client.provisioning.local_provisioner import LocalPortCache

        cache = LocalPortCache.instance()
        ports = {name: cache.find_available_port("127.0.0.1") for name in ports}
    return json.dumps(
        {
            "transport": "tcp",
            "ip": "127.0.0.1",
            **ports,
            "key": session_key.decode("ascii"),
            "signature_scheme": "hmac-sha256",
        }
    )


def _umask() -> int:
    """Read the umask where reading does not set it, since other threads make files meanwhile."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
