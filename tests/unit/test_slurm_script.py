"""What a cluster is told of a job: each setting in its place, quoted as a shell reads it, and no secret."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from computehub_ext.backends.capabilities import BerthRequest
from computehub_ext.backends.slurm.commands import Slurm
from computehub_ext.backends.slurm.desk import Desk
from computehub_ext.backends.slurm.link import Link
from computehub_ext.backends.slurm.records import Records
from computehub_ext.backends.slurm.script import SET_BY_JOB, arguments, limit_minutes, program, script
from computehub_ext.backends.slurm.settings import SlurmSettings
from computehub_ext.backends.slurm.starts import Starts
from computehub_ext.backends.slurm.watch import Watch
from computehub_ext.core.errors import Refused
from tests.support.processes import ask

SPOOL = "/shared/spool"
ALWAYS = [
    "--parsable",
    "--no-requeue",
    "--time=65",
    "--job-name=computehub-1-placement_1",
    "--comment=ComputeHub kernel of ada",
    "--nodes=1",
    "--ntasks=1",
    "--chdir=/",
    "--input=/dev/null",
    "--open-mode=append",
]
# In the place of a kernel's Python: it says what it was started with.
REPORT = ("import json, os, sys; print(json.dumps([sys.argv[1:], sys.stdin.read(), os.environ.get('LOADED', '')]))",)

PLAIN = "unset BASH_ENV\n"
"""First in a start-up file: a real Lmod of this machine defines its own ``module`` there, after that file."""


def told(model: str = "A100", device_count: int = 1, **settings: Any) -> list[str]:
    found = arguments(
        SlurmSettings(**settings),
        model=model,
        device_count=device_count,
        minutes=65,
        name="computehub-1-placement_1",
        comment="ComputeHub kernel of ada",
    )
    assert found[: len(ALWAYS)] == ALWAYS
    return found[len(ALWAYS) :]


def written(wait_until: float = 0.0, python: str = "/shared/py/bin/python", **settings: Any) -> str:
    return script(
        SlurmSettings(**{"spool": SPOOL, **settings}),
        link="tcp://login1:8477",
        server_key="the*public[key]",
        placement_id="placement_1",
        python=python,
        wait_until=wait_until,
    )


def ran(tmp_path: Path, **given: Any) -> tuple[list[str], str, str]:
    """Run a script as a node does, with a program in the Python's place; return its arguments, input and ``LOADED``."""
    job = tmp_path / "job"
    job.write_text(written(python="that", container=(sys.executable, "-c", *REPORT), **given))
    job.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "a home")}
    done = subprocess.run([str(job)], env=environment, capture_output=True, text=True, timeout=20, check=True)
    argv, stdin, loaded = json.loads(done.stdout)
    assert argv[:3] == ["that", "-I", "-"]
    return argv[3:], stdin, loaded


def test_by_default_the_cluster_decides_all_but_the_cores() -> None:
    assert told() == ["--cpus-per-task=1"]
    assert told(cpus=0) == []


@pytest.mark.parametrize("option", ["partition", "account", "qos", "constraint", "reservation"])
def test_what_goes_to_sbatch_as_it_is(option: str) -> None:
    settings: dict[str, Any] = {option: "gpu,a100|h100"}
    assert told(cpus=0, **settings) == [f"--{option}=gpu,a100|h100"]


def test_all_of_them_together_and_the_site_s_own_words_last() -> None:
    assert told(
        device_count=2,
        partition="gpu",
        account="teaching",
        qos="high",
        constraint="a100|h100",
        reservation="course",
        gres={"A100": "gpu:a100:{count}"},
        cpus=4,
        memory_mib=16384,
        sbatch_arguments=("--exclusive", "--container-image=/shared/images/torch.sqsh"),
    ) == [
        "--partition=gpu",
        "--account=teaching",
        "--qos=high",
        "--constraint=a100|h100",
        "--reservation=course",
        "--gres=gpu:a100:2",
        "--cpus-per-task=4",
        "--mem=16384M",
        "--exclusive",
        "--container-image=/shared/images/torch.sqsh",
    ]


@pytest.mark.parametrize(
    ("settings", "model", "count", "gres"),
    [
        ({"gres": {"A100": "gpu:a100:{count}"}}, "A100", 4, ["--gres=gpu:a100:4"]),
        ({"gres": {"A100": "gpu:a100:{count}"}}, "A100", 0, []),
        ({"gres": {"A100": "gpu:a100:{count}"}}, "T4", 1, []),
        ({"gres": {"A100": "gpu:a100:{count}"}, "default_gres": "gpu:{count}"}, "T4", 2, ["--gres=gpu:2"]),
        ({"gres": {"CPU": ""}, "default_gres": "gpu:{count}"}, "CPU", 2, []),
        ({"gres": {"A100": "gpu:a100:{count},nvme:1"}}, "A100", 2, ["--gres=gpu:a100:2,nvme:1"]),
        ({"gres": {"T4": "gpu:t4:4"}}, "T4", 1, ["--gres=gpu:t4:4"]),
    ],
)
def test_a_model_by_its_name_in_slurm(settings: dict[str, Any], model: str, count: int, gres: list[str]) -> None:
    assert told(model, count, cpus=0, **settings) == gres


def test_the_launcher_is_fed_to_the_kernels_python(tmp_path: Path) -> None:
    assert written().startswith("#!/bin/bash\nexec /shared/py/bin/python -I - --link tcp://login1:8477 ")
    found, fed, _ = ran(tmp_path)
    assert found == [
        *("--link", "tcp://login1:8477"),
        *("--server-key", "the*public[key]"),
        *("--placement", "placement_1"),
        *("--token-file", f"{SPOOL}/placement_1.token"),
    ]
    assert fed == program("launcher")


def test_one_that_was_asked_for_ahead_is_told_until_when_it_may_wait(tmp_path: Path) -> None:
    assert "--wait-until" not in written().partition("<<")[0]
    found, _, _ = ran(tmp_path, wait_until=1_700_000_000.4)
    assert found[4:6] == ["--wait-until", "1700000000"]


def test_the_token_lies_in_the_spool_or_in_the_persons_own_home(tmp_path: Path) -> None:
    odd = "/shared/it's $(touch here)/spool/"
    assert ran(tmp_path, spool=odd)[0][-1] == f"{odd}placement_1.token"
    found, _, _ = ran(tmp_path, submit_command=("sudo", "-u", "{user}", "submit"))
    assert found[-1] == f"{tmp_path}/a home/.computehub/slurm/placement_1.token"


def test_modules_are_loaded_in_a_login_shell_word_by_word(tmp_path: Path) -> None:
    """Only a login shell knows ``module``; the one here notes its words."""
    home = tmp_path / "a home"
    home.mkdir()
    (home / ".bash_profile").write_text(f"{PLAIN}module() {{ export LOADED=$(printf '<%s>' \"$@\"); }}\n")
    modules = ("cuda/12.4", "it's odd; touch here")
    text = written(modules=modules, module_paths=("/shared/my modules",), prologue=("export A=1", 'echo "$A"'))
    lines = [line.partition(" || ")[0] for line in text.splitlines()]
    assert lines[0] == "#!/bin/bash -l"
    assert lines[2:7] == [
        "type module >/dev/null 2>&1",
        "module use '/shared/my modules'",
        """module load cuda/12.4 'it'"'"'s odd; touch here'""",
        "export A=1",
        'echo "$A"',
    ]
    assert ran(tmp_path, modules=modules)[2] == "<load><cuda/12.4><it's odd; touch here>"
    assert not (tmp_path / "here").exists()
    assert ran(tmp_path)[2] == "", "a shell that needs no modules takes the time of a login"


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (
            "module() { echo no such module >&2; return 1; }",
            "no such module\nOn n7 these modules can't be loaded: it's.\n",
        ),
        ("unset -f module", "Login shells on n7 know no command module.\n"),
    ],
)
def test_a_job_whose_modules_are_not_there_runs_nothing(tmp_path: Path, profile: str, words: str) -> None:
    job = tmp_path / "job"
    job.write_text(written(modules=("it's",), python="that", container=(sys.executable, "-c", *REPORT)))
    job.chmod(0o700)
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bash_profile").write_text(f"{PLAIN}{profile}\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "SLURMD_NODENAME": "n7"}
    done = subprocess.run([str(job)], env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", words)


def test_prologue_lines_run_before_the_kernel(tmp_path: Path) -> None:
    assert ran(tmp_path, prologue=("LOADED='by a line'", "export LOADED"))[2] == "by a line"


def test_what_those_lines_set_or_change_is_named_for_the_kernel(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    begin = "export OWN=1 CHANGED=1 SAME=1; module() { export LOADED=; CHANGED=2; }"
    (home / ".bash_profile").write_text(f"{PLAIN}{begin}\n")
    job = tmp_path / "job"
    told = ("-c", f"import os; print(os.environ[{SET_BY_JOB!r}])")
    lines = (r"export ODD=$'two\nlines' SAME=1; hidden=1", "set -eu; IFS=_")
    job.write_text(written(modules=("course",), prologue=lines, container=(sys.executable, *told)))
    job.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run([str(job)], env=environment, capture_output=True, text=True, timeout=20, check=True)
    assert set(done.stdout.split()) - {"PWD", SET_BY_JOB} == {"LOADED", "CHANGED", "ODD"}
    assert SET_BY_JOB not in written(), "a job without such lines pays nothing for it"


@pytest.mark.parametrize("was", ["IFS=:", "IFS=", "unset IFS"])
def test_what_a_start_up_file_splits_words_by_changes_nothing_of_that(tmp_path: Path, was: str) -> None:
    begin = f"export OWN=1; {was}; module() {{ export LOADED=; export SPLITS=${{IFS-unset}}; }}"
    assert handed_on(tmp_path, begin) == {"LOADED", "SPLITS"}


def test_a_note_that_went_wrong_hands_nothing_on(tmp_path: Path) -> None:
    begin = "export OWN=1; compgen() { return 1; }; module() { export LOADED=; unset -f compgen; }"
    assert handed_on(tmp_path, begin) == set()


def handed_on(tmp_path: Path, begin: str) -> set[str]:
    """What is named for the kernel after a start-up file and one module."""
    home, job = tmp_path / "home", tmp_path / "job"
    home.mkdir()
    (home / ".bash_profile").write_text(f"{PLAIN}{begin}\n")
    told = ("-c", f"import os; print(os.environ[{SET_BY_JOB!r}])")
    job.write_text(written(modules=("course",), container=(sys.executable, *told)))
    job.chmod(0o700)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run([str(job)], env=environment, capture_output=True, text=True, timeout=20, check=True)
    assert done.stderr == ""
    return set(done.stdout.split()) - {"PWD", SET_BY_JOB}


def test_apptainer_stands_before_the_python_and_pyxis_among_the_jobs_arguments() -> None:
    apptainer = ("apptainer", "exec", "--nv", "/shared/my images/torch.sif")
    line = written(container=apptainer, python="/usr/bin/python3").splitlines()[1]
    assert line.startswith("exec apptainer exec --nv '/shared/my images/torch.sif' /usr/bin/python3 -I - --link ")
    pyxis = ("--container-image=/shared/images/torch.sqsh",)
    assert told(cpus=0, sbatch_arguments=pyxis) == [*pyxis]
    assert written(sbatch_arguments=pyxis) == written()


def test_the_time_limit_is_the_sites_or_the_bookings_where_that_is_longer() -> None:
    settings = SlurmSettings(time_limit_minutes=60, time_margin_minutes=5)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = {10: 60, 54.5: 60, 55: 60, 55.5: 61, 600: 605}
    assert {each: limit_minutes(settings, now + timedelta(minutes=each), now) for each in wanted} == wanted


class Submitted(Slurm):
    """A cluster that notes what comes, and what is kept of it here, and refuses it."""

    def __init__(self, settings: SlurmSettings, records: Records) -> None:
        super().__init__(settings)
        self.records = records
        self.seen: dict[str, Any] = {}

    def submit(self, user: str, **given: Any) -> str:
        held = self.records.get(given["placement_id"])
        assert held is not None
        self.seen = {**given, "secrets": dict(held.record.secrets)}
        raise Refused("no")

    def user_for(self, username: str) -> str:
        return ""


@pytest.mark.parametrize("is_berth", [False, True])
@pytest.mark.parametrize("submit_command", [(), ("sudo", "-u", "{user}", "submit")])
def test_no_secret_is_in_either(tmp_path: Path, submit_command: tuple[str, ...], is_berth: bool) -> None:
    settings = SlurmSettings(
        spool=str(tmp_path / "spool"), submit_command=submit_command, environment={"SITE_KEY": "of-the-site"}
    )
    records = Records(tmp_path / "state")
    slurm, link = Submitted(settings, records), Link(tmp_path, "127.0.0.1", 0)
    watch = Watch(records, link, slurm, settings, "computehub-1-")
    starts = Starts(records, link, slurm, watch, settings, "computehub-1-", lambda *_: None)
    request = ask(tmp_path, env={"COMPUTEHUB_KERNEL_TOKEN": "of-the-kernel", "COURSE_KEY": "of-the-course"})
    link.open(Desk(records, link))
    try:
        with pytest.raises(Refused):
            if is_berth:
                until = datetime.now(UTC) + timedelta(hours=1)
                starts.ask_berth(BerthRequest(request.placement_id, "T4", 1, "ada", until, until))
            else:
                starts.start(request)
    finally:
        link.close()
    shown = "\n".join([*slurm.seen["arguments"], slurm.seen["script"]])
    assert shlex.quote(link.public_key) in shown
    assert ("--wait-until" in shown.partition("<<")[0]) is is_berth
    secrets = [slurm.seen["token"], request.session_key.decode(), "of-the-kernel", "of-the-course", "of-the-site"]
    secrets.append(json.loads((tmp_path / "link.json").read_text())["secret"])
    secrets += [value for name, value in slurm.seen["secrets"].items() if name != "curve_publickey"]
    assert len(secrets) == (6 if is_berth else 8)
    for secret in secrets:
        assert secret
        assert secret not in shown
