"""What others can read of a kernel on a cluster, and who is let in at the link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from computehub_ext.backends.model import Ending, LookState
from computehub_ext.backends.slurm import SlurmBackend
from computehub_ext.backends.slurm.commands import Slurm
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.handshakes import handshake
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm")


@pytest.fixture
def backend(tmp_path: Path, slurm: SlurmCluster) -> Iterator[SlurmBackend]:  # noqa: F811
    backend = SlurmBackend(tmp_path / "state", settings_for(slurm))
    yield backend
    nothing_left_of([backend], slurm)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The token of each job that is submitted, as it goes by."""
    seen: list[str] = []
    submit = Slurm.submit

    def watched(self: Slurm, user: str, **given: Any) -> str:
        seen.append(given["token"])
        return submit(self, user, **given)

    monkeypatch.setattr(Slurm, "submit", watched)
    return seen


def test_neither_token_nor_keys_can_be_read_by_others(backend, tokens, slurm, tmp_path, caplog):  # noqa: F811
    caplog.set_level("DEBUG")
    request = ask(tmp_path, env={"COMPUTEHUB_KERNEL_TOKEN": "kernel-token-of-the-user"})
    placed = backend.start(request)
    info = placed.connection_info
    secrets = [*tokens, info["key"], info["curve_secretkey"], "kernel-token-of-the-user"]
    secrets.append(json.loads((tmp_path / "state/slurm/link.json").read_text())["secret"])
    job = placed.details["job_id"]
    environments, commands = b"", b""
    wanted = f"SLURM_JOB_ID={job}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            commands += (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        # The batch script's environment is the job's; the kernel's own is its user's alone and holds what it was given.
        if wanted in environment.split(b"\0") and b"COMPUTEHUB_PLACEMENT_ID" not in environment:
            environments += environment
    assert environments
    with KernelTalk(info) as kernel:
        kernel.run("print('on')")
    shown = {
        "job script": slurm.run("scontrol", "write", "batch_script", job, "-"),
        "job": slurm.run("scontrol", "-d", "show", "job", job) + slurm.run("squeue", "-o", "%all"),
        "process list": commands.decode(errors="replace"),
        "job's environment": environments.decode(errors="replace"),
        "log": caplog.text,
        "Slurm's logs": "".join(file.read_text(errors="replace") for file in slurm.folder.glob("*.log")),
        "output": "".join(file.read_text() for file in (tmp_path / "state/slurm/spool").iterdir()),
    }
    assert "--server-key" in shown["job script"]
    backend.stop(request.placement_id, 0)
    shown["record"] = (tmp_path / f"state/slurm/placements/{request.placement_id}.json").read_text()
    for where, text in shown.items():
        for secret in secrets:
            assert secret not in text, f"a secret is in the {where}"


def test_files_with_secrets_are_private_and_the_tokens_is_gone(backend, tmp_path):
    backend.start(ask(tmp_path))
    folder = tmp_path / "state/slurm"
    assert not list((folder / "spool").glob("*.token"))
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() or path.suffix in (".json", ".token"):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_kernels_ports_take_nobody_without_its_key(backend, tmp_path):
    info = backend.start(ask(tmp_path)).connection_info
    kinds = {
        "shell_port": zmq.DEALER,
        "control_port": zmq.DEALER,
        "stdin_port": zmq.DEALER,
        "hb_port": zmq.REQ,
        "iopub_port": zmq.SUB,
    }
    right = (info["curve_publickey"].encode(), info["curve_secretkey"].encode())
    for keys, is_let_in in ((None, False), (zmq.curve_keypair(), False), (right, True)):
        for port, kind in kinds.items():
            event = handshake(f"tcp://{info['ip']}:{info[port]}", kind, keys)
            assert (event == zmq.EVENT_HANDSHAKE_SUCCEEDED) is is_let_in, port


class Stranger:
    """Somebody who knows the link's public key, as all who can read a job script do."""

    def __init__(self, backend: SlurmBackend, keys: tuple[bytes, bytes] | None = None) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.curve_publickey, self.socket.curve_secretkey = keys or zmq.curve_keypair()
        self.socket.curve_serverkey = backend._link.public_key.encode()
        self.socket.connect(f"tcp://127.0.0.1:{backend._link.port}")

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def say(self, **message: Any) -> dict[str, Any]:
        self.socket.send(json.dumps(message).encode())
        assert self.socket.poll(5000), "no answer came"
        return json.loads(self.socket.recv())


def test_the_link_lets_in_who_shows_the_right_token_once(backend, tokens, tmp_path):
    request = ask(tmp_path)
    placed = backend.start(request)
    report = {"t": "report", "state": "listening", "job": "1", "node": "x", "ip": "6.6.6.6", "connection": None}
    for placement, token in (
        (request.placement_id, "guessed"),
        (request.placement_id, tokens[0]),  # the right one, and used
        (request.placement_id, ""),
        ("placement_nobody", tokens[0]),
        ("../../etc", None),
    ):
        with Stranger(backend) as stranger:
            answer = stranger.say(**report, placement=placement, token=token, end={"reason": "stopped", "at": 0})
            assert answer["t"] == "refused"
    # What is no message, and an answer to a question that another was asked, do nothing.
    with Stranger(backend) as stranger:
        for nonsense in (b"", b"[]", b"{}", b'{"t": 1}', b'{"t": "answer", "id": 1, "ok": true}', b"\xff" * 1000):
            stranger.socket.send(nonsense)
        assert stranger.say(t="beat", state="listening")["t"] == "who"
    assert backend.look(request.placement_id).state is LookState.RUNNING
    assert backend.start(request) == placed


def test_without_the_links_public_key_or_encryption_nobody_is_heard(backend):
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(f"tcp://127.0.0.1:{backend._link.port}")
    plain.send(b'{"t": "beat", "state": "waiting"}')
    assert not plain.poll(500)
    context.destroy(linger=0)


def test_a_job_whose_token_was_taken_by_another_is_refused_and_ends(backend, tokens, slurm, tmp_path, monkeypatch):  # noqa: F811
    """Two jobs of one placement, as after a sbatch that outlived its caller: one kernel comes of it."""
    submit = Slurm.submit

    def twice(self: Slurm, user: str, **given: Any) -> str:
        submit(self, user, **{**given, "token": "of-an-earlier-start"})
        wait_for(
            lambda: not list((tmp_path / "state/slurm/spool").glob("*.token")), 10, "the first job did not read it"
        )
        return submit(self, user, **given)

    monkeypatch.setattr(Slurm, "submit", twice)
    request = ask(tmp_path)
    placed = backend.start(request)
    wait_for(lambda: len(jobs_of(slurm)) == 1, 10, "the second job stayed")
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("print('one')") == "one\n"


def test_the_exit_codes_mean_the_same_at_both_ends():
    from computehub_ext.backends.slurm import script
    from computehub_ext.kernel import launcher

    assert (script.NO_CODE, script.REASONS) == (launcher.NO_CODE, launcher.REASONS)
    assert {Ending(reason) for reason in script.REASONS} <= set(Ending)
