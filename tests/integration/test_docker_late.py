"""People's own folders in containers that were started before anybody came: real mounts, on a real engine."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.docker import DockerBackend, Mount, adoption, mounting, recipe
from computehub_ext.backends.docker.shared import SharedFolder, SharedFolders
from computehub_ext.backends.model import Placed, StartRequest
from computehub_ext.core.errors import BackendError, Refused
from computehub_ext.testing.docker_engine import Engine, docker_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from tests.architecture.source import ROOT
from tests.support.containers import KERNEL_UID, Place, containers_of, nothing_left_of, state_folder

pytestmark = pytest.mark.needs("docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with docker_engine() as engine:
        yield engine


class Homes:
    """A place with people's own folders, as where all of a JupyterHub's servers run as one account."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        for name in ("alice", "bob"):
            self.make(name)

    def make(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(mode=0o700)
        (home / "whose").write_text(name)
        os.chown(home, KERNEL_UID, KERNEL_UID)
        (home / "whose").chmod(0o644)
        return home

    def backend(self, **changes: Any) -> DockerBackend:
        values: dict[str, Any] = {
            "mounts": (Mount(f"{self.folder}/{{username}}", "/home/{username}"),),
            "home": "/home/{username}",
            "warm_count": 1,
            "warm_replace_delay_seconds": 0,
        }
        backend = self.place.backend(**{**values, **changes})
        if backend.settings.warm_count:
            wait_for(lambda: backend.warm_count == backend.settings.warm_count, message="no standby was ready")
        return backend

    def ask(self, name: str, cwd: str = "", **changes: Any) -> StartRequest:
        return self.place.ask(cwd or f"/home/{name}", username=name, **changes)

    def windows(self) -> set[Path]:
        folders = [backend.folders for backend in self.place.backends]
        return {each.of("all").window.path.parent for each in folders if isinstance(each, SharedFolders)}

    def mounted(self) -> list[str]:
        """Whatever of the homes is mounted anywhere on this machine."""
        with open("/proc/self/mountinfo") as file:
            return [line for line in file if str(self.folder) in line.split(" ")[3]]


@pytest.fixture
def homes(engine: Engine, tmp_path: Path) -> Iterator[Homes]:
    folder = tmp_path / "homes"
    folder.mkdir()
    with state_folder() as state_dir:
        homes = Homes(Place(engine, state_dir, tmp_path), folder)
        try:
            yield homes
            nothing_left_of(homes.place.backends)
        finally:
            left = [each for each in homes.windows() if each.exists()]
            for each in left:  # a test that fails leaves no mount on the machine
                for point in reversed(mounting.mounted_below(each)):
                    subprocess.run(["umount", "--lazy", point], check=True)
                subprocess.run(["find", each, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=False)
        assert left == []
        assert homes.mounted() == []
        for name in ("alice", "bob"):
            assert (folder / name / "whose").read_text() == name


def _said(placed: Placed, code: str) -> str:
    with KernelTalk(placed.connection_info) as kernel:
        return kernel.run(code).strip()


_LOOK = "import os; print(os.getcwd(), os.path.expanduser('~'), sorted(os.listdir('/home')), open('whose').read())"


def test_two_people_take_standbys_and_each_finds_their_own_home(homes: Homes) -> None:
    backend = homes.backend(warm_count=2)
    alice, bob = backend.start(homes.ask("alice")), backend.start(homes.ask("bob"))
    assert alice.warm
    assert bob.warm
    assert _said(alice, _LOOK) == "/home/alice /home/alice ['alice'] alice"
    assert _said(bob, _LOOK) == "/home/bob /home/bob ['bob'] bob"
    _said(alice, "open('made inside', 'w').write('x' * 10)")
    made = (homes.folder / "alice" / "made inside").stat()
    assert (made.st_uid, made.st_gid, made.st_size) == (KERNEL_UID, KERNEL_UID, 10)
    assert not (homes.folder / "bob" / "made inside").exists()
    # What the person has now is what the kernel would have had from its start.
    (homes.folder / "alice" / "later").write_text("seen at once")
    assert _said(alice, "print(open('later').read())") == "seen at once"


def test_a_stop_leaves_no_mount_and_all_of_the_files(homes: Homes) -> None:
    backend = homes.backend()
    request = homes.ask("alice")
    backend.start(request)
    assert len(homes.mounted()) == 1
    backend.stop(request.placement_id)
    assert homes.mounted() == []
    assert (homes.folder / "alice" / "whose").read_text() == "alice"


def test_it_is_as_if_it_had_started_at_home(homes: Homes) -> None:
    """Start-up files, history and packages of its person's, which a Python looks for when it starts."""
    home = homes.folder / "alice"
    startup = home / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("began = __import__('os').getcwd()")
    for path in (home / ".ipython", startup.parent, startup):
        os.chown(path, KERNEL_UID, KERNEL_UID)
    backend = homes.backend()
    request = homes.ask("alice")
    placed = backend.start(request)
    assert placed.warm
    assert _said(placed, "print(began, In is get_ipython().history_manager.input_hist_parsed, len(_dh))") == (
        "/home/alice True 1"
    )
    told = _said(placed, "print(get_ipython().history_manager.hist_file, get_ipython().profile_dir.location)")
    profile = "/home/alice/.ipython/profile_default"
    assert told == f"{profile}/history.sqlite {profile}"
    assert _said(placed, "print(In[1][:5], Out, _ih is In)") == "print {} True"
    backend.stop(request.placement_id)
    assert (startup.parent / "history.sqlite").stat().st_size > 0


def test_one_who_configured_ipython_gets_a_kernel_that_reads_it(homes: Homes) -> None:
    profile = homes.folder / "alice" / ".ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c.InteractiveShell.ast_node_interactivity = 'all'\n")
    for path in (profile.parent, profile):
        os.chown(path, KERNEL_UID, KERNEL_UID)
    backend = homes.backend()
    placed = backend.start(homes.ask("alice"))
    assert not placed.warm
    assert _said(placed, "print(get_ipython().ast_node_interactivity)") == "all"
    assert backend.warm_count == 1


def test_a_folder_that_is_the_same_inside_for_all_and_one_to_read(homes: Homes) -> None:
    """As an image of JupyterHub's has it: everybody's home is /home/jovyan there."""
    read_only = homes.folder / "given"
    (read_only / "alice").mkdir(parents=True)
    (read_only / "alice" / "data").write_text("42")
    mounts = (
        Mount(f"{homes.folder}/{{username}}", "/home/jovyan"),
        Mount(f"{read_only}/{{username}}", "/data/of-{username}", read_only=True),
        Mount(str(homes.place.folder), "/data/shared"),
    )
    backend = homes.backend(mounts=mounts, home="/home/jovyan")
    placed = backend.start(homes.ask("alice", "/home/jovyan"))
    assert placed.warm
    told = _said(
        placed,
        "import os; print(os.getcwd(), open('whose').read(), sorted(os.listdir('/data')),"
        " open('/data/of-alice/data').read(), 'homes' in os.listdir('/data/shared'))",
    )
    assert told == "/home/jovyan alice ['of-alice', 'shared'] 42 True"
    assert "Read-only file system" in _said(
        placed,
        "try:\n    open('/data/of-alice/new', 'w')\nexcept OSError as error:\n    print(error)",
    )


def test_somebody_whose_name_is_a_folder_of_all_gets_a_new_container(homes: Homes) -> None:
    homes.make("shared")
    mounts = (
        Mount(f"{homes.folder}/{{username}}", "/home/{username}"),
        Mount(str(homes.place.folder), "/home/shared"),
    )
    backend = homes.backend(mounts=mounts)
    request = homes.ask("shared", cwd="/tmp")
    with pytest.raises(BackendError):  # the engine has one place for two folders, as without standbys
        backend.start(request)
    assert backend.start(homes.ask("alice")).warm


def test_a_person_s_link_leads_nowhere(homes: Homes) -> None:
    """Somebody's own link in the way to their folder could lead to another's."""
    work = homes.folder / "alice" / "work"
    work.symlink_to(homes.folder / "bob")
    os.chown(work, KERNEL_UID, KERNEL_UID, follow_symlinks=False)
    with pytest.raises(OSError, match="a link of somebody's"):
        mounting.open_folder(str(work))
    os.chown(work, 0, 0, follow_symlinks=False)  # an administrator's does
    descriptor = mounting.open_folder(str(work))
    try:
        assert os.path.samestat(os.fstat(descriptor), (homes.folder / "bob").stat())
    finally:
        os.close(descriptor)
    with pytest.raises(NotADirectoryError):
        mounting.open_folder(str(homes.folder / "alice" / "whose"))
    (homes.folder / "round").symlink_to(homes.folder / "round")
    with pytest.raises(OSError, match="too many links"):
        mounting.open_folder(str(homes.folder / "round"))


@pytest.mark.parametrize("warm_count", [0, 1])
def test_who_makes_a_link_to_another_s_folder_gets_no_kernel_with_it(homes: Homes, warm_count: int) -> None:
    work = homes.folder / "alice" / "work"
    work.symlink_to(homes.folder / "bob")
    os.chown(work, KERNEL_UID, KERNEL_UID, follow_symlinks=False)
    mounts = (Mount(f"{homes.folder}/{{username}}/work", "/work"),)
    backend = homes.backend(mounts=mounts, home="/tmp", warm_count=warm_count)
    with pytest.raises(Refused, match="a link that somebody other than root made"):
        backend.start(homes.ask("alice", "/tmp"))
    assert homes.mounted() == []


def test_who_puts_a_link_there_after_the_look_gets_no_kernel_with_it(
    homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine mounts by name, some time later."""
    work = homes.folder / "alice" / "work"
    work.mkdir()
    os.chown(work, KERNEL_UID, KERNEL_UID)
    real = recipe.container_of

    def exchanged(*arguments: Any, **named: Any) -> Any:
        work.rename(work.with_name("w"))
        work.symlink_to(homes.folder / "bob")
        return real(*arguments, **named)

    monkeypatch.setattr(recipe, "container_of", exchanged)
    mounts = (Mount(f"{homes.folder}/{{username}}/work", "/work"),)
    backend = homes.backend(mounts=mounts, home="/tmp", warm_count=0)
    with pytest.raises(Refused, match="is not the folder that was looked at"):
        backend.start(homes.ask("alice", "/tmp"))
    assert containers_of(backend) == []


def test_a_mount_that_is_not_seen_inside_makes_nobody_s_kernel(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the control plane has a view of the machine's mounts of its own, which the engine does not share."""
    backend = homes.backend()
    monkeypatch.setattr(mounting.Window, "mount", lambda *_, **__: None)
    placed = backend.start(homes.ask("alice"))
    assert not placed.warm
    assert _said(placed, _LOOK) == "/home/alice /home/alice ['alice', 'kernel'] alice"
    assert "is not seen there" in caplog.text
    wait_for(lambda: len(containers_of(backend)) == 1, message="standbys are kept though none can be taken")


def test_another_s_folder_makes_nobody_s_kernel(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = homes.backend()
    real = mounting.Window.mount

    def wrong(self: mounting.Window, source: int, *arguments: Any, **named: Any) -> None:
        other = mounting.open_folder(str(homes.folder / "bob"))
        try:
            real(self, other, *arguments, **named)
        finally:
            os.close(other)

    monkeypatch.setattr(mounting.Window, "mount", wrong)
    placed = backend.start(homes.ask("alice"))
    assert not placed.warm
    assert _said(placed, "print(open('whose').read())") == "alice"


def test_a_takeover_that_fails_half_way_leaves_no_standby_with_a_folder(
    homes: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = homes.backend()

    def fail(*_: Any) -> None:
        assert len(homes.mounted()) == 1
        raise OSError("it does not listen")

    monkeypatch.setattr(adoption, "adopt", fail)
    placed = backend.start(homes.ask("alice"))
    assert not placed.warm
    assert homes.mounted() == []


def test_what_can_t_be_unmounted_is_left_with_all_that_is_in_it(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No way of clearing up goes through a mount into somebody's files."""
    backend = homes.backend()
    request = homes.ask("alice")
    backend.start(request)
    with monkeypatch.context() as patch:
        patch.setattr(mounting, "_unmount", lambda *_, **__: False)
        backend.stop(request.placement_id, 0)
        assert "can't be unmounted" in caplog.text
        assert len(homes.mounted()) == 1
    with monkeypatch.context() as patch:  # and if the unmounting were not seen to have failed
        patch.setattr(mounting, "_unmount", lambda *_, **__: True)
        backend.list_placements()
    assert (homes.folder / "alice" / "whose").read_text() == "alice"
    backend.list_placements()  # its sweep finds it again
    assert homes.mounted() == []


def test_who_may_not_mount_starts_on_demand_and_says_so_once(
    homes: Homes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(mounting, "lacking", lambda: "ComputeHub has no right to mount")
    backend = homes.place.backend(
        mounts=(Mount(f"{homes.folder}/{{username}}", "/home/{username}"),), home="/home/{username}", warm_count=1
    )
    assert not backend.start(homes.ask("alice")).warm
    assert caplog.text.count("ComputeHub has no right to mount") == 1
    assert backend.health().ok


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before:mount", "after:mount", "before:adopt", "after:adopt", "before:record"])
def test_killed_in_a_takeover_it_leaves_no_mount(homes: Homes, step: str) -> None:
    request = homes.ask("alice")
    _die(homes, step, request)
    assert len(homes.mounted()) == (step != "before:mount")
    successor = homes.backend(warm_count=0)
    for look in successor.list_placements():
        successor.stop(look.placement_id, 0)
    successor.list_placements()
    assert containers_of(successor) == []
    assert homes.mounted() == []


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before:mount", "after:mount", "before:adopt", "after:adopt", "before:record"])
def test_a_takeover_that_was_cut_off_can_be_repeated(homes: Homes, step: str) -> None:
    request = homes.ask("alice")
    _die(homes, step, request)
    successor = homes.backend(warm_count=0)
    assert _said(successor.start(request), _LOOK) == "/home/alice /home/alice ['alice'] alice"
    assert len(containers_of(successor)) == 1
    assert len(homes.mounted()) == 1
    successor.stop(request.placement_id)
    assert homes.mounted() == []


def test_what_was_mounted_for_a_container_that_is_gone_is_found_and_unmounted(homes: Homes) -> None:
    """As by an engine that was started anew while no control plane was there."""
    backend = homes.backend(warm_replace_delay_seconds=3600)
    backend.start(homes.ask("alice"))
    (name,) = containers_of(backend)
    backend.engine.remove(name)
    backend.close()
    assert len(homes.mounted()) == 1
    successor = homes.backend(warm_count=0)
    successor.list_placements()
    assert homes.mounted() == []


def _die(homes: Homes, step: str, request: StartRequest) -> None:
    backend = homes.backend(warm_count=0)
    settings = dataclasses.replace(backend.settings, warm_count=1)
    file = homes.place.state_dir / "request"
    file.write_bytes(pickle.dumps((homes.place.state_dir, settings, request)))
    command = [sys.executable, "-m", "tests.support.dying", step, "start", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_no_secret_of_a_person_stands_in_a_standby_s_labels(homes: Homes) -> None:
    backend = homes.backend()
    (name,) = containers_of(backend)
    found = backend.engine.inspect(name)
    assert found is not None
    assert found.labels["computehub.late"] == "/home"
    assert str(homes.folder) not in json.dumps(dict(found.labels))
    folder = backend.containers.folder_of(found)
    assert isinstance(folder, SharedFolder)
    assert mounting.mounted_below(folder.window.path) == [str(folder.window.path)]
