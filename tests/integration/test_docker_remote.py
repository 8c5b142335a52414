"""An engine on another machine: who is let in, what a cell finds, what a network that goes away does, what is left."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zmq

from computehub_ext.backends.docker import DockerBackend, DockerSettings, Mount
from computehub_ext.backends.docker.recipe import OWNER_LABEL
from computehub_ext.backends.model import Ending, LookState
from computehub_ext.core.errors import Invalid, Refused, Unreachable
from computehub_ext.testing.docker_engine import Engine, shared_engine
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.ssh_server import SshServer, ssh_server
from tests.architecture.source import ROOT
from tests.support.containers import (
    KERNEL_UID,
    REMOTE_HOSTS,
    Place,
    containers_of,
    nothing_left_of,
    remote_settings_for,
    state_folder,
)
from tests.support.handshakes import handshake
from tests.support.processes import ask

pytestmark = [pytest.mark.needs("docker"), pytest.mark.allow_hosts(REMOTE_HOSTS)]

STEPS = ["before:create", "after:create", "after:put", "after:start", "before:record"]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with shared_engine("remote") as engine:
        yield engine


class RemotePlace(Place):
    def backend(self, **changes: Any) -> DockerBackend:
        self.backends.append(DockerBackend(self.state_dir, remote_settings_for(self.engine, self.folder, **changes)))
        return self.backends[-1]

    def lost(self, url: str = "", **changes: Any) -> DockerBackend:
        changes = {"engine_url": url, **changes} if url else changes
        return DockerBackend(self.state_dir, remote_settings_for(self.engine, self.folder, **changes), "lost")


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Iterator[RemotePlace]:
    with state_folder() as state_dir:
        place = RemotePlace(engine, state_dir, tmp_path)
        yield place
        nothing_left_of(place.backends)


@pytest.fixture
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as server:
        yield server


def over_ssh(engine: Engine, ssh: SshServer) -> dict[str, Any]:
    """Return the settings that differ from those over TLS."""
    return {
        "engine_url": ssh.url(f"{engine.folder}/docker.sock"),
        "ssh_config": str(ssh.config),
        "publish_host": engine.address,
        **dict.fromkeys(("tls_ca", "tls_cert", "tls_key"), ""),
    }


# Who is let in


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tls_ca": ""}, "tls_ca"),
        ({"tls_cert": "", "tls_key": ""}, "tls_cert"),
        ({"tls_key": ""}, "tls_key"),
        ({"tls_ca": "ca.pem"}, "tls_ca"),
        ({"engine_url": "tcp://gpu7"}, "engine_url"),
        ({"engine_url": "https://gpu7:2376"}, "engine_url"),
        ({"engine_url": "ssh://gpu7"}, "tls_ca"),
        ({"network": "none"}, "network"),
        ({"network": "rules"}, "network"),
        ({"user": "account"}, "user"),
        ({"user": "server"}, "user"),
        ({"user": "0:0", "allow_root": True}, "user"),
        ({"mounts": (Mount("/srv/{username}/work"),)}, "mounts"),
        ({"mounts": (Mount("/srv/{username}/{username}"),)}, "mounts"),
        ({"warm_count": 1}, "warm_count"),
        ({"publish_ports": "40000"}, "publish_ports"),
        ({"publish_ports": "80-90"}, "publish_ports"),
        ({"publish_ports": "40000-40004"}, "publish_ports"),
        ({"ssh_config": "/etc/ssh/ssh_config"}, "ssh_config"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    engine: Engine, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as problem:
        remote_settings_for(engine, tmp_path, **changes)
    assert problem.value.details["field"] == field, problem.value.message


@pytest.mark.parametrize("url", ["ssh://-oProxyCommand=x", "ssh://-l@gpu7", "ssh://", "ssh://u:p@gpu7", "ssh://g/a:b"])
def test_an_address_that_ssh_would_take_for_something_else_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as problem:
        DockerSettings("image", engine_url=url, user="1000:100", network="bridge")
    assert problem.value.details["field"] == "engine_url"


def test_what_only_an_engine_elsewhere_needs_is_refused_for_one_here() -> None:
    for field in ("tls_ca", "ssh_config", "publish_host", "publish_address", "publish_ports"):
        with pytest.raises(Invalid) as problem:
            DockerSettings("image", **{field: "40000-40999" if field == "publish_ports" else "/x"})
        assert problem.value.details["field"] == field


def test_whoever_shows_a_wrong_certificate_is_told_which_setting_it_is(place: RemotePlace, engine: Engine) -> None:
    tls = engine.tls
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tls_ca": str(tls / "other-ca.pem")}, "tls_ca"),
        ({"tls_cert": str(tls / "other-cert.pem"), "tls_key": str(tls / "other-key.pem")}, "tls_cert"),
        ({"tls_key": str(tls / "other-key.pem")}, "tls_key"),
        ({"tls_key": str(tls / "nowhere.pem")}, "tls_key"),
        ({"engine_url": f"tcp://localhost:{engine.tls_url.rpartition(':')[2]}"}, "does not answer"),
    ]
    for changes, words in cases:
        backend = place.lost(**changes)
        with pytest.raises(Unreachable, match=words):
            backend.start(place.ask())
        assert not backend.health().ok
        assert words in backend.health().message
        backend.close()


def test_what_the_environment_says_of_trust_and_proxies_is_not_asked(
    place: RemotePlace, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(engine.tls / "other-ca.pem"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert place.backend().health().ok
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(engine.tls / "ca.pem"))
    backend = place.lost(tls_ca=str(engine.tls / "other-ca.pem"))
    assert not backend.health().ok
    backend.close()


# SSH


@pytest.mark.needs("sshd")
def test_over_ssh_a_kernel_starts_works_and_ends(ssh: SshServer, place: RemotePlace, engine: Engine) -> None:
    backend = place.backend(**over_ssh(engine, ssh))
    request = place.ask()
    placed = backend.start(request)
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(os.getuid(), os.getcwd())") == f"{KERNEL_UID} {place.folder}\n"
        backend.renew(request.placement_id, request.paid_until + timedelta(hours=1))
        assert backend.start(request) == placed
        ssh.drop_all()  # the kernel does not notice, and the control plane calls again
        assert kernel.run("print('still here')") == "still here\n"
    wait_for(lambda: _answers(backend), 15, "it did not call again")
    assert backend.look(request.placement_id).state is LookState.RUNNING
    backend.stop(request.placement_id, 1)
    assert backend.look(request.placement_id).reason is Ending.STOPPED
    assert containers_of(backend) == []
    folder = place.state_dir / "docker" / "ssh"
    assert folder.stat().st_mode & 0o077 == 0
    backend.close()
    assert list(folder.iterdir()) == [], "nothing of the tunnel is left"


def _answers(backend: DockerBackend) -> bool:
    try:
        backend.engine.ping()
    except Unreachable:
        return False
    return True


@pytest.mark.needs("sshd")
def test_an_unknown_host_a_changed_one_and_a_wrong_key_are_told(
    ssh: SshServer, place: RemotePlace, engine: Engine
) -> None:
    known, other = ssh.folder / "known_hosts", (ssh.folder / "other_key.pub").read_text()
    right = known.read_text()
    cases = [
        ({"known_hosts": ""}, "host key is not known"),
        ({"known_hosts": f"{right.split()[0]} {other}"}, "host key"),
        ({"known_hosts": right, "authorized_keys": other}, "lets nobody in"),
    ]
    # Whatever the file says of strangers, they stay strangers.
    ssh.config.write_text(ssh.config.read_text() + "StrictHostKeyChecking no\n")
    for files, words in cases:
        for name, contents in files.items():
            (ssh.folder / name).write_text(contents)
        backend = place.lost(**over_ssh(engine, ssh))
        with pytest.raises(Unreachable, match=words):
            backend.start(place.ask())
        backend.close()
    nowhere = place.lost(**{**over_ssh(engine, ssh), "engine_url": "ssh://root@127.0.0.1:1"})
    with pytest.raises(Unreachable, match="nobody listens"):
        nowhere.start(place.ask())
    nowhere.close()
    (ssh.folder / "authorized_keys").write_text((ssh.folder / "key.pub").read_text())
    no_engine = place.lost(**{**over_ssh(engine, ssh), "engine_url": ssh.url("/nowhere/docker.sock")})
    with pytest.raises(Unreachable, match="socket does not open"):
        no_engine.start(place.ask())
    no_engine.close()


@pytest.mark.needs("sshd")
def test_a_killed_control_plane_leaves_no_ssh_behind(ssh: SshServer, place: RemotePlace, engine: Engine) -> None:
    settings = remote_settings_for(engine, place.folder, **over_ssh(engine, ssh))
    request = place.ask()
    _die(place, "after:record", settings, request)
    backend = place.backend(**over_ssh(engine, ssh))
    wait_for(lambda: not _sshs(place.state_dir), 15, "an ssh outlived its control plane")
    assert backend.start(request).placement_id == request.placement_id
    assert len(list((place.state_dir / "docker" / "ssh").glob("*.sock"))) == 1, "the old socket was removed"


def _sshs(folder: Path) -> list[int]:
    """Find the ssh processes whose parent is gone and that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.readlink(process / "cwd").startswith(str(folder))
                and "\nPPid:\t1\n" in (process / "status").read_text()
            ):
                found.append(int(process.name))
        except OSError:
            continue
    return found


# What is there, and who can read it


def test_no_secret_is_where_others_look(place: RemotePlace, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    backend = place.backend()
    request = place.ask(env={"COMPUTEHUB_KERNEL_TOKEN": "kernel-token-of-the-user"})
    placed = backend.start(request)
    info = placed.connection_info
    secrets = [info["key"], info["curve_secretkey"], "kernel-token-of-the-user"]
    with KernelTalk(info) as kernel:
        assert kernel.run("import os; print(os.environ['COMPUTEHUB_KERNEL_TOKEN'])") == "kernel-token-of-the-user\n"
        assert "COMPUTEHUB_SOCKET" not in kernel.run("print(dict(os.environ))")
        found = json.loads(kernel.run(_INSIDE))
    with closing(engine.client()) as client:
        (container,) = client.containers.list(filters={"label": f"{OWNER_LABEL}={backend.containers.owner}"})
        volumes = client.volumes.list(filters={"label": f"{OWNER_LABEL}={backend.containers.owner}"})
        shown = {
            "inspect": json.dumps(container.attrs),
            "volume": json.dumps([volume.attrs for volume in volumes]),
            "the engine's log of it": container.logs().decode(),
            "process list": json.dumps(container.top()),
            "first process": found["first"],
            "log": caplog.text,
        }
        assert len(volumes) == 1
        assert "first.py" in shown["process list"]
        assert client.api.inspect_container(container.id)["HostConfig"]["ReadonlyRootfs"]
    for where, text in shown.items():
        for secret in secrets:
            assert secret not in text, f"a secret is in the {where}"
    assert found["control"] == ["PermissionError"] * 4
    assert found["request"] is False, "what it was started with is gone"
    assert found["connection"] == 0o600
    assert (place.state_dir / "docker" / "curve").stat().st_mode & 0o077 == 0


_INSIDE = """
import json
def attempt(what):
    try:
        what()
    except Exception as problem:
        return type(problem).__name__
    return "done"
c = "/run/computehub/"
print(json.dumps({
    "first": open("/proc/1/cmdline").read(),
    "control": [
        attempt(lambda: open(c + "paid_until", "w")), attempt(lambda: os.unlink(c + "paid_until")),
        attempt(lambda: os.rename(c + "own", c + "old")), attempt(lambda: open(c + "stop", "w")),
    ],
    "request": os.path.exists(c + "own/request"),
    "connection": os.stat(c + "own/connection.json").st_mode & 0o777,
}))
"""


def test_published_ports_take_nobody_without_the_kernels_key(place: RemotePlace, engine: Engine) -> None:
    backend = place.backend(publish_ports="41000-41099")
    placed = backend.start(place.ask())
    info, details = placed.connection_info, placed.details
    assert placed.meeting_dir is None
    assert placed.host == info["ip"] == engine.address
    ports = {name: value for name, value in info.items() if name.endswith("_port")}
    assert all(41000 <= port <= 41099 for port in ports.values())
    assert 41000 <= int(details["state_port"].partition(":")[2]) <= 41099
    kinds = {"shell_port": zmq.DEALER, "control_port": zmq.DEALER, "stdin_port": zmq.DEALER}
    kinds |= {"hb_port": zmq.REQ, "iopub_port": zmq.SUB}
    right = (info["curve_publickey"].encode(), info["curve_secretkey"].encode())
    for keys, is_let_in in ((None, False), (zmq.curve_keypair(), False), (right, True)):
        for port, kind in kinds.items():
            event = handshake(f"tcp://{info['ip']}:{info[port]}", kind, keys)
            assert (event == zmq.EVENT_HANDSHAKE_SUCCEEDED) is is_let_in, port


def test_what_a_kernel_puts_in_its_folder_misleads_nobody(place: RemotePlace) -> None:
    backend = place.backend()
    request = place.ask()
    with KernelTalk(backend.start(request).connection_info) as kernel:
        kernel.run(
            "import os\nos.chdir('/run/computehub/own')\n"
            "for name in ('log', 'end.json', 'kernel.json', 'connection.json'):\n"
            "    if os.path.exists(name): os.unlink(name)\n"
            "os.symlink('/etc/passwd', 'log'); os.mkfifo('end.json'); os.mkdir('kernel.json')\n"
            "with open('connection.json', 'w') as file: file.truncate(2 ** 40)\n"
        )
        assert "root:" not in backend.log(request.placement_id)
        backend.interrupt(request.placement_id)  # of which there is nothing to be seen any more
        assert backend.look(request.placement_id).state is LookState.RUNNING
        kernel.run("os.unlink('log')\nwith open('log', 'w') as file: file.truncate(2 ** 40)")
        assert len(backend.log(request.placement_id)) <= 8000
    successor = place.backend()  # which has not seen it listen
    assert successor.look(request.placement_id).state in (LookState.STARTING, LookState.RUNNING)
    successor.stop(request.placement_id, 1)
    assert successor.look(request.placement_id).reason is Ending.STOPPED


def test_a_folder_that_is_not_on_the_engines_machine_is_told(place: RemotePlace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "inside").mkdir()
    (tmp_path / "link").symlink_to("inside")
    (tmp_path / "out").symlink_to("/somewhere/else")
    backend = place.backend()
    for name in ("nowhere", "file", "out"):
        with pytest.raises(Refused, match=name) as problem:
            backend.start(place.ask(str(tmp_path / name)))
        assert problem.value.details["kind"] == "folder"
    with pytest.raises(Refused) as problem:
        backend.start(place.ask("/srv"))
    assert problem.value.details["kind"] == "folder"
    request = place.ask(str(tmp_path / "link"))
    backend.start(request)
    backend.stop(request.placement_id, 0)
    unmounted = place.backend(mounts=(Mount(str(tmp_path)), Mount("/nowhere/at/all")))
    with pytest.raises(Refused, match="not on the engine's machine"):
        unmounted.start(place.ask())
    assert containers_of(backend) == []


def test_an_address_that_the_engines_machine_lacks_is_told(place: RemotePlace) -> None:
    for changes in ({"publish_host": "192.0.2.7"}, {"publish_host": "nowhere.invalid"}):
        backend = place.backend(**changes)
        with pytest.raises(Refused, match="publish_"):
            backend.start(place.ask())
        assert containers_of(backend) == []
    translated = place.backend(publish_host="gpu7.invalid", publish_address="0.0.0.0")
    request = place.ask()
    placed = translated.start(request)  # as seen from outside, which need not be from here
    assert placed.host == "gpu7.invalid"
    with KernelTalk({**placed.connection_info, "ip": place.engine.address}) as kernel:
        assert kernel.run("print(1)") == "1\n"


# What dies


def _die(place: RemotePlace, step: str, settings: DockerSettings, request: Any, what: str = "start") -> None:
    file = place.state_dir / "request"
    file.write_bytes(pickle.dumps((place.state_dir, settings, request)))
    command = [sys.executable, "-m", "tests.support.dying", step, what, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_was_cut_off_is_repeated_or_cleared_up(place: RemotePlace, engine: Engine, step: str) -> None:
    request, settings = place.ask(), remote_settings_for(engine, place.folder)
    _die(place, step, settings, request)
    backend = place.backend()
    placed = backend.start(request)
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print(6 * 7)") == "42\n"
    assert [look.placement_id for look in backend.list_placements()] == [request.placement_id]
    assert len(containers_of(backend)) == len(backend.folders.keys()) == 1
    backend.stop(request.placement_id, 0)
    other = place.ask()
    _die(place, step, settings, other)
    successor = place.backend()
    for look in successor.list_placements():
        successor.stop(look.placement_id, 0)
    successor.list_placements()
    assert containers_of(successor) == []
    assert successor.folders.keys() == set()


@pytest.mark.parametrize("step", ["after:record", "before:remove", "after:remove"])
def test_a_stop_that_was_cut_off_is_finished(place: RemotePlace, engine: Engine, step: str) -> None:
    request = place.ask()
    _die(place, step, remote_settings_for(engine, place.folder), request, "stop")
    backend = place.backend()
    assert backend.look(request.placement_id).reason is Ending.STOPPED
    assert containers_of(backend) == []
    assert backend.folders.keys() == set()


def test_volumes_without_a_container_are_removed(place: RemotePlace, engine: Engine) -> None:
    backend = place.backend()
    label = {OWNER_LABEL: backend.containers.owner}
    with closing(engine.client()) as client:
        client.volumes.create(labels=label)
        strangers = client.volumes.create(labels={OWNER_LABEL: "somebody else's"})
        backend.list_placements()
        assert backend.engine.lost_volumes(f"{OWNER_LABEL}={backend.containers.owner}") == ()
        strangers.reload()
        strangers.remove()


def test_an_engine_that_goes_away_and_comes_back(place: RemotePlace, engine: Engine) -> None:
    """The way to it, that is: kernels go on, what is asked meanwhile is told, and it is all found again."""
    backend = place.backend(engine_seconds_max=2)
    request = place.ask()
    placed = backend.start(request)
    rule = ["OUTPUT", "-p", "tcp", "-d", engine.address, "--dport", engine.tls_url.rpartition(":")[2], "-j", "REJECT"]
    iptables = ["iptables", "--wait"]
    subprocess.run([*iptables, "-I", *rule], check=True)
    try:
        with pytest.raises(Unreachable):
            backend.look(request.placement_id)
        with pytest.raises(Unreachable):
            backend.renew(request.placement_id, datetime.now(UTC) + timedelta(hours=1))
        with pytest.raises(Unreachable):
            backend.stop(request.placement_id, 0)
        assert "does not answer" in backend.health().message
        with KernelTalk(placed.connection_info) as kernel:  # whose ports are open all the same
            assert kernel.run("print(1)") == "1\n"
    finally:
        subprocess.run([*iptables, "-D", *rule], check=True)
    backend.stop(request.placement_id, 0)  # which had been asked for, and is not forgotten
    assert backend.look(request.placement_id).reason is Ending.STOPPED
    assert containers_of(backend) == []


def test_a_clock_that_goes_wrong_there_changes_nothing(place: RemotePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = place.backend()
    assert backend.engine.ahead_seconds() == 0, "the engine's machine is this one, which is not told from one on time"
    monkeypatch.setattr(backend.engine, "_ahead", (time.monotonic(), 3600.0))
    request = place.ask()
    told = "print(float(open('/run/computehub/paid_until').read()))"
    with KernelTalk(backend.start(request).connection_info) as kernel:
        assert float(kernel.run(told)) == request.paid_until.timestamp() + 3600
        later = request.paid_until + timedelta(minutes=5)
        backend.renew(request.placement_id, later)
        assert float(kernel.run(told)) == later.timestamp() + 3600
        kernel.run("import os, threading; threading.Timer(0.3, os._exit, (3,)).start()")
    wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED, 10, "it did not end")
    ended_at = backend.look(request.placement_id).ended_at
    assert ended_at is not None
    assert abs((datetime.now(UTC) - ended_at).total_seconds() - 3600) < 60, "as that clock has it, less its hour"


def test_what_nobody_renews_ends_by_itself(place: RemotePlace, engine: Engine) -> None:
    request = ask(place.folder, paid_seconds=6)
    _die(place, "after:record", remote_settings_for(engine, place.folder), request)
    with closing(engine.client()) as client:
        name = f"-{request.placement_id}"
        wait_for(
            lambda: [each.status for each in client.containers.list(all=True, filters={"name": name})] == ["exited"],
            20,
            "its own supervisor did not end it",
        )
    assert place.backend().look(request.placement_id).reason is Ending.UNPAID
