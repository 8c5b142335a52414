"""What code in a cell finds in its container: its own folder, and nothing of the server's or of the machine's."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from computehub_ext.backends.docker import DockerBackend, Mount
from computehub_ext.backends.model import Ending, LookState, StartRequest
from computehub_ext.core.errors import Refused
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import CellError, KernelTalk, wait_for
from tests.support.containers import KERNEL_UID, Place, containers_of, nothing_left_of, state_folder

pytestmark = pytest.mark.needs("docker")

_REPORT = """
import ctypes, json, os, resource, socket, subprocess, threading
def attempt(what):
    try:
        what()
    except Exception as problem:
        return type(problem).__name__
    return "done"
def status(name, pid="self"):
    return next(line.split(":")[1].split()[0] for line in open(f"/proc/{pid}/status") if line.startswith(name + ":"))
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid()], "groups": os.getgroups(),
    "capabilities": [status(name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privileges": status("NoNewPrivs"), "seccomp": status("Seccomp"),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "network": attempt(lambda: socket.create_connection(("198.18.32.1", 80), timeout=2)),
    "root": attempt(lambda: open("/written", "w")), "usr": attempt(lambda: open("/usr/written", "w")),
    "opt": attempt(lambda: os.mkdir("/opt/written")), "tmp": attempt(lambda: open("/tmp/written", "w")),
    "home": attempt(lambda: open(os.path.expanduser("~/written"), "w")),
    "cwd": attempt(lambda: open("written", "w")),
    "control": attempt(lambda: open("/run/computehub/paid_until", "w")),
    "data": attempt(lambda: open("/data/written", "w")), "read": open("/data/set.csv").read(),
    "device": attempt(lambda: os.mknod("/tmp/disk", 0o600 | 0o060000, os.makedev(8, 0))),
    "setuid": attempt(lambda: os.setuid(0)), "mount": ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "docker_socket": os.path.exists("/var/run/docker.sock"),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "supervisors_environment": attempt(lambda: open("/proc/1/environ").read()),
    "supervisors_memory": attempt(lambda: open("/proc/1/mem", "rb")),
    "stopping_it": attempt(lambda: os.kill(1, 19)), "killing_it": attempt(lambda: os.kill(1, 9)),
    "supervisors_state": status("State", 1),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "environment": dict(os.environ),
    "started_with": open("/proc/self/environ").read(),
    "request": os.path.exists(os.environ["COMPUTEHUB_SOCKET"].replace("server.sock", "request")),
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[Place]:
    with state_folder() as state_dir:
        place = Place(engine, state_dir, tmp_path)
        yield place
        nothing_left_of(place.backends)


def _run(backend: DockerBackend, request: StartRequest, code: str) -> str:
    with KernelTalk(backend.start(request).connection_info) as kernel:
        return kernel.run(code)


def _processes_of(place: Place, container: str) -> list[int]:
    """What the engine says of a container's processes, as the numbers that these have in there."""
    with closing(place.engine.client()) as client:
        top = client.containers.get(container).top()
    column = top["Titles"].index("PID")
    found = []
    for row in top["Processes"]:
        status = Path(f"/proc/{row[column]}/status").read_text()
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
        found.append(int(numbers.split()[-1]))
    assert len(found) >= 2, "neither supervisor nor kernel"
    return sorted(found)


def test_a_cell_finds_a_closed_room(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "the-servers-token")
    monkeypatch.setenv("COMPUTEHUB_DATABASE_URL", "the-servers-database")
    data = tmp_path_factory.mktemp("data")
    (data / "set.csv").write_text("1,2\n")
    data.chmod(0o755)
    backend = place.backend(
        mounts=(Mount(str(place.folder)), Mount(str(data), "/data", read_only=True)),
        environment={"HTTPS_PROXY": "http://proxy:3128"},
        cpus=1.5,
    )
    request = place.ask(env={"COURSE": "physics", "JUPYTERHUB_API_TOKEN": "the-servers-token"})
    found = json.loads(_run(backend, request, _REPORT))
    environment = found.pop("environment")
    started_with = found.pop("started_with")
    # Supervisor and kernel, and nothing of the engine's machine, such as this test.
    assert found.pop("processes") == _processes_of(place, backend.containers.name_of(request.placement_id))
    assert found == {
        "ids": [KERNEL_UID] * 3,
        "groups": [KERNEL_UID],
        "capabilities": ["0" * 16] * 5,
        "no_new_privileges": "1",
        "seccomp": "2",
        "interfaces": ["lo"],
        "network": "OSError",
        "root": "OSError",
        "usr": "OSError",
        "opt": "OSError",
        "tmp": "done",
        "home": "done",
        "cwd": "done",
        "control": "OSError",
        "data": "OSError",
        "read": "1,2\n",
        "device": "PermissionError",
        "setuid": "PermissionError",
        "mount": -1,
        "docker_socket": False,
        "supervisors_environment": "PermissionError",
        "supervisors_memory": "PermissionError",
        "stopping_it": "done",  # the signal is sent, and the first process of a container does not get it
        "killing_it": "done",
        "supervisors_state": "S",
        "core": [0, 0],
        "request": False,
    }
    assert "the-servers" not in json.dumps(environment) + started_with
    assert environment["COURSE"] == "physics"
    assert environment["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not {name for name in environment if "TOKEN" in name or "SECRET" in name or "KEY" in name}
    written = (place.folder / "written").stat()
    assert (written.st_uid, written.st_gid) == (KERNEL_UID, KERNEL_UID)


def test_keys_stand_nowhere_but_in_the_kernels_own_folder(place: Place) -> None:
    backend = place.backend()
    request = place.ask(env={"COMPUTEHUB_KERNEL_TOKEN": "a-kernels-token"})
    placed = backend.start(request)
    with closing(place.engine.client()) as client:
        container = client.containers.get(backend.containers.name_of(request.placement_id))
        shown = json.dumps(container.attrs) + str(container.top()) + container.logs().decode()
    assert request.session_key.decode() not in shown
    assert "a-kernels-token" not in shown
    assert placed.meeting_dir is not None
    folder = Path(placed.meeting_dir)
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (KERNEL_UID, 0o700)
    assert (folder / "connection.json").stat().st_mode & 0o777 == 0o600
    assert not (folder / "request").exists()


def test_another_account_reaches_no_socket(place: Place) -> None:
    placed = place.backend().start(place.ask())
    sockets = f"{placed.connection_info['ip']}-{placed.connection_info['shell_port']}"

    def try_as(uid: int) -> int:
        child = os.fork()
        if child == 0:
            import socket

            try:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(sockets)
                os._exit(0)
            except PermissionError:
                os._exit(13)
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert try_as(KERNEL_UID) == 0
    assert try_as(KERNEL_UID + 1) == 13


def test_a_group_may_share_the_sockets(place: Place) -> None:
    backend = place.backend(user=f"{KERNEL_UID}:{KERNEL_UID + 7}", shared_with_group=True)
    os.chown(place.folder, KERNEL_UID, KERNEL_UID + 7)
    placed = backend.start(place.ask())
    assert placed.meeting_dir is not None
    folder = Path(placed.meeting_dir)
    assert (folder.stat().st_gid, folder.stat().st_mode & 0o777) == (KERNEL_UID + 7, 0o770)
    shell = Path(f"{placed.connection_info['ip']}-{placed.connection_info['shell_port']}")
    assert (shell.stat().st_gid, shell.stat().st_mode & 0o777) == (KERNEL_UID + 7, 0o770)


def test_more_memory_than_the_limit_is_told_as_such(place: Place) -> None:
    backend = place.backend(memory_mib=128)
    request = place.ask()
    with KernelTalk(backend.start(request).connection_info) as kernel:
        kernel.client.execute("hog = b'x' * (512 * 2**20)")
        wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED, 20, "it did not end")
    look = backend.look(request.placement_id)
    assert look.reason is Ending.OUT_OF_MEMORY
    assert "128 MiB" in look.message


def test_a_fork_bomb_ends_at_the_limit_of_processes(place: Place) -> None:
    backend = place.backend(pids_max=64)
    request = place.ask()
    code = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()"
    with KernelTalk(backend.start(request).connection_info) as kernel:
        with pytest.raises(CellError, match="can't start new thread"):
            kernel.run(code)
        assert kernel.run("print(1)") == "1\n"


def test_orphans_are_reaped_and_end_with_their_kernel(place: Place) -> None:
    """The supervisor does what an init would: no zombies stay, and nothing that detached lives on."""
    backend = place.backend()
    request = place.ask()
    code = """
import os, subprocess, time
for _ in range(20):
    subprocess.run(["sh", "-c", "setsid true & exit"])
subprocess.run(["sh", "-c", "setsid sleep 1000 & exit"])
deadline = time.time() + 10
def zombies():
    states = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            states.append(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0])
        except OSError:
            pass
    return states.count("Z")
while zombies() and time.time() < deadline:
    time.sleep(0.01)
print(zombies())
"""
    assert _run(backend, request, code) == "0\n"
    backend.stop(request.placement_id)
    assert containers_of(backend) == []


def test_links_in_the_kernels_folder_lead_nowhere(place: Place) -> None:
    """The control plane has more rights than the cell that fills this folder, and must not lend them."""
    secret = place.state_dir / "secret"
    secret.write_text("the-servers-secret")
    backend = place.backend()
    request = place.ask()
    code = f"""
import os
for name in ("log", "end.json", "connection.json", "python_version"):
    os.path.exists(name) and os.unlink(name)
os.symlink({str(secret)!r}, "log"); os.symlink("/", "end.json"); os.mkfifo("python_version")
os.symlink({str(secret)!r}, "connection.json")
"""
    placed = backend.start(request)
    with KernelTalk(placed.connection_info) as kernel:
        kernel.run(f"import os; os.chdir({placed.meeting_dir!r})" + code)
    assert "the-servers-secret" not in backend.log(request.placement_id)
    assert backend.look(request.placement_id).state is LookState.STARTING
    backend.stop(request.placement_id)
    assert "the-servers-secret" not in backend.log(request.placement_id)
    assert secret.read_text() == "the-servers-secret"


def test_a_folder_beside_the_mounts_is_not_there(place: Place) -> None:
    backend = place.backend()
    (place.folder / "out").symlink_to("/etc")
    for cwd in ("/etc", f"{place.folder}/out", f"{place.folder}/..", "/nowhere"):
        with pytest.raises(Refused, match="no folder"):
            backend.start(place.ask(cwd=cwd))
    assert backend.list_placements() == []


def test_a_kernel_has_the_persons_own_folder_and_account(
    place: Place, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = tmp_path_factory.mktemp("homes")
    (homes / "ada").mkdir()
    os.chown(homes / "ada", KERNEL_UID, KERNEL_UID)
    account = pwd.struct_passwd(("ada", "x", KERNEL_UID, KERNEL_UID, "", "/", "/bin/sh"))
    monkeypatch.setattr("pwd.getpwnam", {"ada": account, "daemon": pwd.getpwuid(1)}.__getitem__)
    backend = place.backend(user="account", mounts=(Mount(f"{homes}/{{username}}"),), home=f"{homes}/{{username}}")
    cwd = str(homes / "ada")
    code = "import os; open('mine', 'w'); print(os.path.expanduser('~'), os.environ['USER'], os.getuid())"
    assert _run(backend, place.ask(cwd=cwd), code).split() == [cwd, "ada", str(KERNEL_UID)]
    assert (homes / "ada" / "mine").stat().st_uid == KERNEL_UID
    for username, problem in (("bob", "no account"), ("daemon", "system"), ("../ada", "can't be"), ("", "can't be")):
        with pytest.raises(Refused, match=problem):
            backend.start(place.ask(cwd="/tmp", username=username))
    with pytest.raises(Refused, match="no folder"):  # somebody else's
        backend.start(place.ask(cwd=f"{cwd}/../bob"))
