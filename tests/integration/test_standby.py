"""Standby kernels: kept ready within bounds, taken over by the right one, and then like any other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from computehub_ext.backends.capabilities import WarmPool
from computehub_ext.backends.local import LocalBackend, WarmSettings
from computehub_ext.backends.local.directory import PlacementDirectory
from computehub_ext.backends.local.processes import labelled
from computehub_ext.backends.local.warm import adopt
from computehub_ext.backends.model import LookState
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.support.processes import ask, nothing_left_of, owner_of, private_ipython  # noqa: F401 - used by its name
from tests.support.standing import pool

Make = Callable[..., LocalBackend]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def make(state_dir: Path) -> Iterator[Make]:
    made = []

    def make(count: int = 1, *, ready: int | None = None, **settings: float) -> LocalBackend:
        made.append(LocalBackend(state_dir, warm=WarmSettings(count=count, **settings)))
        made[-1].prepare([pool()])
        wanted = count if ready is None else ready
        wait_for(lambda: made[-1].warm_count == wanted, message=f"{wanted} standby kernels were not ready")
        return made[-1]

    yield make
    nothing_left_of(state_dir, made)


def standbys(state_dir: Path) -> list[PlacementDirectory]:
    return [PlacementDirectory(path) for path in (state_dir / "standbys").iterdir()]


def test_the_backend_is_a_warm_pool(make: Make) -> None:
    assert isinstance(make(0), WarmPool)


def test_one_that_was_taken_is_replaced_after_a_while(make: Make, state_dir: Path, tmp_path: Path) -> None:
    backend = make(1, replace_delay_seconds=1.0)
    taken_at = time.monotonic()
    assert backend.start(ask(tmp_path)).warm
    assert standbys(state_dir) == []
    wait_for(lambda: standbys(state_dir), message="no standby was started")
    assert time.monotonic() - taken_at >= 1.0
    wait_for(lambda: backend.warm_count == 1, message="no standby was ready")
    assert backend.start(ask(tmp_path)).warm


def test_who_comes_when_none_is_ready_gets_a_new_one(make: Make, tmp_path: Path) -> None:
    backend = make(1, replace_delay_seconds=3600)
    assert [backend.start(ask(tmp_path)).warm for _ in range(2)] == [True, False]


def test_garbage_is_collected_in_both(make: Make, tmp_path: Path) -> None:
    """It is not while they import; and what they imported is never looked at again."""
    backend = make(1, replace_delay_seconds=3600)
    for _ in range(2):
        with KernelTalk(backend.start(ask(tmp_path)).connection_info) as kernel:
            assert kernel.run("import gc; print(gc.isenabled(), gc.get_freeze_count() > 10_000)") == "True True\n"


def test_standbys_are_no_placements(make: Make) -> None:
    assert make(1).list_placements() == []


def test_without_a_pool_none_is_kept(make: Make, state_dir: Path) -> None:
    backend = make(2)
    backend.prepare([])
    wait_for(lambda: not labelled(owner_of(state_dir)), message="standby kernels were kept")
    assert backend.warm_count == 0


def test_when_nobody_comes_they_go_and_a_look_at_a_move_brings_them_back(
    make: Make, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = make(1)
    monkeypatch.setattr(backend._warm, "_clock", lambda: time.monotonic() + backend._warm.settings.idle_seconds)
    backend._warm._wake.set()
    wait_for(lambda: not labelled(owner_of(state_dir)), message="it was kept though nobody came")
    wait_for(lambda: standbys(state_dir) == [], message="its files were kept")
    backend.expect("T4")
    wait_for(lambda: backend.warm_count == 1, message="none came back")


def test_closing_the_backend_lets_them_go(make: Make, state_dir: Path) -> None:
    make(1).close()
    wait_for(lambda: not labelled(owner_of(state_dir)), 5, message="a standby kernel was kept")


def test_one_that_holds_too_much_memory_is_dropped_and_not_replaced_at_once(make: Make, state_dir: Path) -> None:
    backend = make(1, ready=0, memory_mib_max=1.0)
    wait_for(lambda: standbys(state_dir), message="no standby was started")
    wait_for(lambda: not standbys(state_dir), message="the standby was kept")
    assert backend.warm_count == 0
    assert backend._warm._not_before > time.monotonic() + 30


def test_an_old_one_is_replaced(make: Make, state_dir: Path) -> None:
    make(1, age_seconds_max=2.0)
    [first] = standbys(state_dir)
    wait_for(lambda: {d.path for d in standbys(state_dir)} - {first.path}, message="it was not replaced")
    assert not first.exists()


def test_a_wrong_secret_is_refused_and_too_many_end_it(make: Make, state_dir: Path, tmp_path: Path) -> None:
    make(1, replace_delay_seconds=3600)
    [directory] = standbys(state_dir)
    right = (directory / "adopt.secret").read_text()
    kernel = directory.process("kernel")
    assert kernel is not None
    (directory / "adopt.secret").write_text("0" * 64)
    for _ in range(4):
        with pytest.raises(OSError, match=r"secret is wrong"):
            adopt(directory, environment={}, cwd=str(tmp_path), session_key=b"thief's")
    wait_for(lambda: kernel[0] not in labelled(owner_of(state_dir)), 5, "it went on listening")
    assert right not in ("", "0" * 64)


def test_a_start_gets_a_new_kernel_when_the_standby_refuses(make: Make, state_dir: Path, tmp_path: Path) -> None:
    backend = make(1, replace_delay_seconds=3600)
    [directory] = standbys(state_dir)
    (directory / "adopt.secret").write_text("0" * 64)
    request = ask(tmp_path)
    placed = backend.start(request)
    assert not placed.warm
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print('well')") == "well\n"
    assert backend.look(request.placement_id).state is LookState.RUNNING
    assert set(labelled(owner_of(state_dir)).values()) == {request.placement_id}


@pytest.mark.parametrize("env", [{"PYTHONPATH": "/elsewhere"}, {"LD_PRELOAD": ""}, {"IPYTHONDIR": "/tmp/elsewhere"}])
def test_what_a_python_reads_only_at_its_start_gets_a_new_kernel(
    make: Make, tmp_path: Path, env: dict[str, str]
) -> None:
    assert not make(1).start(ask(tmp_path, env=env)).warm


def test_the_users_start_up_files_run_when_it_is_taken(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-where.py").write_text("import os\nwhere, course = os.getcwd(), os.environ.get('COURSE')\n")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    placed = make(1).start(ask(tmp_path, env={"COURSE": "physics"}))
    assert placed.warm
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print(where, course)").split() == [str(tmp_path), "physics"]


def test_a_taken_one_can_be_seen_by_no_trace_in_the_kernel(make: Make, tmp_path: Path) -> None:
    """The same questions, asked of a standby that was taken and of a kernel that was started, get the same answers."""
    backend = make(1, replace_delay_seconds=3600)
    look = """
import json, os, sys
skip = ("COMPUTEHUB_PLACEMENT_ID",)
print(json.dumps({
    "env": {name: value for name, value in os.environ.items() if name not in skip},
    "path": sys.path, "argv": sys.argv[:2], "cwd": os.getcwd(), "dir": sorted(dir()),
    "main": sys.modules["__main__"].__name__, "count": get_ipython().execution_count,
    "umask": (os.umask(0o22), os.umask(0o22))[0], "starting": get_ipython().starting_dir,
    "group": os.getpgrp() == os.getpid(), "session": os.getsid(0) == os.getpid(),
    "signals": [str(__import__("signal").getsignal(n)) for n in (1, 2, 13, 15, 17)],
}, sort_keys=True))
"""
    answers = []
    for warm in (True, False):
        placed = backend.start(ask(tmp_path, env={"MPLBACKEND": "agg", "COURSE": "physics"}))
        assert placed.warm is warm
        with KernelTalk(placed.connection_info) as kernel:
            answers.append(kernel.run(look))
    assert answers[0] == answers[1]


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    """A unix socket's name holds 107 bytes; a course's folder may be deeper."""
    state_dir = tmp_path / ("deep " * 20) / ("ünïcode" * 10) / "state"
    backend = LocalBackend(state_dir, warm=WarmSettings(count=1))
    backend.prepare([pool()])
    wait_for(lambda: backend.warm_count == 1, message="no standby was ready")
    placed = backend.start(ask(tmp_path))
    assert placed.warm
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print('well')") == "well\n"
    nothing_left_of(state_dir, [backend])
