"""What is killed when, and what is left: real kernels, real signals."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.local import LocalBackend
from computehub_ext.backends.local.directory import PlacementDirectory
from computehub_ext.backends.local.processes import start_time
from computehub_ext.backends.model import Ending, LookState, Placed
from computehub_ext.core.errors import Refused, SkipPlace
from computehub_ext.kernel import supervisor
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.processes import ask, nothing_left_of, owner_of, private_ipython  # noqa: F401 - used by its name

# Starts a grandchild in a session of its own; it survives its parent, and prints its pid.
DETACH = """
import os, subprocess, sys
middle = subprocess.Popen(
    [sys.executable, "-c", '''
import os, signal, subprocess, sys
code = "import signal, time; %s; print(1, flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.read(1)
print(child.pid, flush=True)
os._exit(0)
'''],
    stdout=subprocess.PIPE, text=True)
print(middle.stdout.readline().strip())
"""
STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def backend(state_dir: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(state_dir)
    yield backend
    nothing_left_of(state_dir, [backend])


def detach(placed: Placed, what: str = "0") -> int:
    with KernelTalk(placed.connection_info) as kernel:
        return int(kernel.run(DETACH % what))


def supervisor_of(state_dir: Path, placement_id: str) -> int:
    return int(json.loads((state_dir / "placements" / placement_id / "supervisor.json").read_text())["pid"])


def is_gone(pid: int) -> bool:
    return start_time(pid) is None


def ended(backend: LocalBackend, placement_id: str) -> Ending | None:
    wait_for(lambda: backend.look(placement_id).state is LookState.ENDED, 10, "it did not end")
    return backend.look(placement_id).reason


# Who is killed, and who goes along


def test_killing_the_supervisor_ends_the_kernel_and_what_it_started(
    backend: LocalBackend, state_dir: Path, tmp_path: Path
) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    grandchild = detach(placed)
    os.kill(supervisor_of(state_dir, request.placement_id), signal.SIGKILL)
    assert placed.pid is not None
    wait_for(lambda: is_gone(placed.pid), 5, "the operating system did not end the kernel")
    assert ended(backend, request.placement_id) is Ending.SUPERVISOR_LOST
    assert is_gone(grandchild)


def test_killing_the_kernel_ends_what_it_started(backend: LocalBackend, tmp_path: Path) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    grandchild = detach(placed, STUBBORN)
    assert placed.pid is not None
    os.kill(placed.pid, signal.SIGKILL)
    assert ended(backend, request.placement_id) is Ending.KILLED
    assert backend.look(request.placement_id).exit_code == -signal.SIGKILL
    assert is_gone(grandchild)


@pytest.mark.parametrize("what", ["0", STUBBORN])
def test_unpaid_time_ends_the_kernel_and_a_detached_grandchild(
    backend: LocalBackend, tmp_path: Path, what: str
) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    grandchild = detach(placed, what)
    paid_until = datetime.now(UTC) + timedelta(seconds=1)
    backend.renew(request.placement_id, paid_until)
    assert ended(backend, request.placement_id) is Ending.UNPAID
    assert is_gone(grandchild)
    assert placed.pid is not None
    assert is_gone(placed.pid)
    ended_at = backend.look(request.placement_id).ended_at
    assert ended_at is not None
    assert timedelta(0) <= ended_at - paid_until < timedelta(seconds=3)


def test_stopping_ends_a_process_that_forks_and_exits_all_the_time(backend: LocalBackend, tmp_path: Path) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    # Bounded: a run that is broken off here must not leave it forking for ever.
    hopper = (
        "import os, time\nend = time.monotonic() + 30\nif os.fork() == 0:\n    os.setsid()\n"
        "    while time.monotonic() < end:\n        if os.fork(): os._exit(0)\n"
    )
    with KernelTalk(placed.connection_info) as kernel:
        kernel.run(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hopper!r}])")
    backend.stop(request.placement_id, 0)
    assert backend.list_placements() == []


# Payment


def test_without_a_readable_promise_the_last_one_counts(backend: LocalBackend, state_dir: Path, tmp_path: Path) -> None:
    first, second = ask(tmp_path, paid_seconds=8), ask(tmp_path, paid_seconds=8)
    for request in (first, second):
        backend.start(request)
    (state_dir / "placements" / first.placement_id / "paid_until").unlink()
    (state_dir / "placements" / second.placement_id / "paid_until").write_text("inf")
    assert {look.state for look in backend.list_placements()} == {LookState.RUNNING}
    for request in (first, second):
        assert ended(backend, request.placement_id) is Ending.UNPAID


def test_a_supervisor_that_cannot_read_the_promise_for_long_ends_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    watch = supervisor.Supervisor()
    (tmp_path / "paid_until").write_text("9e12")
    assert not watch._is_unpaid()
    (tmp_path / "paid_until").write_text("soon")
    assert not watch._is_unpaid()
    watch.read_at -= supervisor.UNREADABLE_SECONDS_MAX + 1
    assert watch._is_unpaid()


def test_a_kernel_that_the_system_ended_for_its_memory_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = 3
    monkeypatch.setattr(supervisor, "oom_kills", lambda: kills)
    watch = supervisor.Supervisor()
    watch.kernel_status = int(signal.SIGKILL)
    watch._count_oom_kills()
    assert watch._why_it_died() == "killed"
    kills = 4
    watch._count_oom_kills()
    assert watch._why_it_died() == "out_of_memory"
    watch.kernel_status = int(signal.SIGSEGV)
    assert watch._why_it_died() == "crashed"


# What must not be hit or held


def test_a_later_process_with_the_same_pid_is_not_signalled(
    backend: LocalBackend, state_dir: Path, tmp_path: Path
) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    directory = state_dir / "placements" / request.placement_id
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        for name in ("kernel.json", "supervisor.json"):
            record = json.loads((directory / name).read_text())
            (directory / name).write_text(json.dumps({**record, "pid": bystander.pid}))
        with pytest.raises(Refused):
            backend.interrupt(request.placement_id)
        backend.stop(request.placement_id, 0)
        assert bystander.poll() is None
        bystander.communicate(b"\n", timeout=10)
        assert bystander.returncode == 0
    assert placed.pid is not None
    assert is_gone(placed.pid)


def test_a_kernel_holds_no_port_and_no_lock_of_the_server(
    backend: LocalBackend, state_dir: Path, tmp_path: Path
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.set_inheritable(True)
        request = ask(tmp_path)
        placed = backend.start(request)
        inode = os.fstat(listener.fileno()).st_ino
        for pid in (placed.pid, supervisor_of(state_dir, request.placement_id)):
            held = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
            assert f"socket:[{inode}]" not in held
            assert (str(state_dir / "placements" / request.placement_id / "lock") in held) == (pid != placed.pid)


def test_only_the_owner_can_look_into_a_placement(backend: LocalBackend, state_dir: Path, tmp_path: Path) -> None:
    request = ask(tmp_path, env={"COMPUTEHUB_KERNEL_TOKEN": "the kernel's own"})
    backend.start(request)
    directory = state_dir / "placements" / request.placement_id
    for folder in (state_dir, state_dir / "placements", directory):
        assert folder.stat().st_mode & 0o777 == 0o700, folder  # Jupyter adds the sticky bit
    for file in directory.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600, file
    wait_for(lambda: not (directory / "request.json").exists(), 5, "the environment stayed on the disk")
    backend.stop(request.placement_id, 0)
    rest = b"".join(file.read_bytes() for file in directory.iterdir())
    assert b"the kernel's own" not in rest
    assert request.session_key not in rest


def test_two_state_directories_know_nothing_of_each_other(
    backend: LocalBackend, state_dir: Path, tmp_path: Path
) -> None:
    other = LocalBackend(tmp_path / "other")
    request = ask(tmp_path)
    backend.start(request)
    assert other.list_placements() == []
    assert other.look(request.placement_id).state is LookState.UNKNOWN
    other.stop(request.placement_id, 0)
    assert backend.look(request.placement_id).state is LookState.RUNNING


def test_a_placement_whose_record_is_gone_is_found_by_its_label_and_stopped(
    backend: LocalBackend, state_dir: Path, tmp_path: Path
) -> None:
    request = ask(tmp_path)
    placed = backend.start(request)
    shutil.rmtree(state_dir / "placements" / request.placement_id)
    assert [look.placement_id for look in backend.list_placements()] == [request.placement_id]
    backend.stop(request.placement_id, 0)
    assert placed.pid is not None
    assert is_gone(placed.pid)
    assert backend.list_placements() == []


# Kernels that don't start


def test_a_kernel_that_dies_at_once_is_refused_with_its_last_words(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "zmq.py").write_text("raise RuntimeError('no zmq today')")
    with pytest.raises(Refused, match="no zmq today"):
        backend.start(ask(tmp_path))
    assert backend.list_placements() == []


def kernelspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], **more: object) -> str:
    spec = tmp_path / "data" / "kernels" / "other"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "x", **more}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    return "other"


def test_a_program_that_is_not_there_is_said(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = kernelspec(tmp_path, monkeypatch, ["/nowhere/kernel", "{connection_file}"])
    with pytest.raises(Refused, match="/nowhere/kernel"):
        backend.start(ask(tmp_path, kernel_name=name))
    assert backend.list_placements() == []


def test_a_kernel_that_is_started_by_another_program(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = "from ipykernel.kernelapp import launch_new_instance as launch; launch()"
    argv = [sys.executable, "-c", launch, "-f", "{connection_file}"]
    name = kernelspec(tmp_path, monkeypatch, argv, env={"FROM_THE_SPEC": "yes"})
    placed = backend.start(ask(tmp_path, kernel_name=name))
    assert not placed.warm
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(os.environ['FROM_THE_SPEC'])") == "yes\n"


def test_a_kernel_that_never_listens_is_given_up_and_ended(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(state_dir, start_seconds_max=0.5)
    argv = [sys.executable, "-c", "import time; time.sleep(600)", "{connection_file}"]
    request = ask(tmp_path, kernel_name=kernelspec(tmp_path, monkeypatch, argv))
    with pytest.raises(SkipPlace):
        backend.start(request)
    assert backend.look(request.placement_id).reason is Ending.STOPPED
    nothing_left_of(state_dir, [backend])


def test_a_start_that_is_stopped_meanwhile_is_refused(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(600)", "{connection_file}"]
    request = ask(tmp_path, kernel_name=kernelspec(tmp_path, monkeypatch, argv))
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(backend.start, request)
        wait_for(backend.list_placements, message="it was not begun")
        backend.stop(request.placement_id, 0)
        with pytest.raises(Refused, match="stopped as asked"):
            start.result(timeout=10)


def test_a_full_disk_starts_nothing_and_ends_nothing(
    backend: LocalBackend, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = ask(tmp_path)
    backend.start(running)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PlacementDirectory, "write", full)
        with pytest.raises(SkipPlace, match="No space left"):
            backend.start(ask(tmp_path))
        with pytest.raises(SkipPlace, match="No space left"):
            backend.renew(running.placement_id, datetime.now(UTC) + timedelta(hours=1))
        assert [look.placement_id for look in backend.list_placements()] == [running.placement_id]
        assert list((state_dir / "new").iterdir()) == []
        backend.stop(running.placement_id, 1)
    assert backend.look(running.placement_id).reason is Ending.STOPPED


def test_records_of_what_ended_are_removed_after_a_day(backend: LocalBackend, state_dir: Path, tmp_path: Path) -> None:
    request = ask(tmp_path)
    backend.stop(request.placement_id)
    end = state_dir / "placements" / request.placement_id / "end.json"
    for hours, is_kept in ((23, True), (25, False)):
        at = (datetime.now(UTC) - timedelta(hours=hours)).timestamp()
        end.write_text(json.dumps({**json.loads(end.read_text()), "at": at}))
        backend.list_placements()
        assert end.exists() is is_kept
