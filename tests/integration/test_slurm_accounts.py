"""Kernels on a real Slurm as the people's own accounts, by a real sudo and the rule that the documentation gives."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from computehub_ext.backends.capabilities import BerthRequest
from computehub_ext.backends.model import Ending, LookState
from computehub_ext.backends.slurm import SlurmBackend, submit, watch
from computehub_ext.core.errors import NoCapacity, Refused
from computehub_ext.core.ids import new_id
from computehub_ext.testing.kernels import KernelTalk, wait_for
from computehub_ext.testing.slurm_cluster import SlurmCluster
from tests.support.accounts import Account, People, make_python, people, sudo_rule
from tests.support.processes import ask, private_ipython  # noqa: F401 - used by its name
from tests.support.slurm import jobs_of, nothing_left_of, settings_for, slurm  # noqa: F401 - used by its name

pytestmark = pytest.mark.needs("slurm", "sudo", "readable_python")
TOKENS = ".computehub/slurm"
LATER = ("--begin=now+1hour",)


@dataclass(frozen=True)
class Site:
    """A cluster whose control plane has an account of its own, which may submit as ada and bob."""

    cluster: SlurmCluster
    people: People
    plane: Account
    ada: Account
    bob: Account
    python: Path
    submit: Path

    @property
    def submit_command(self) -> tuple[str, ...]:
        """The documented command; these tests are root, and so become the control plane's account first."""
        become = ("setpriv", f"--reuid={self.plane.uid}", f"--regid={self.plane.gid}", "--init-groups")
        return (*become, "sudo", "-n", "-H", "-u", "{user}", str(self.submit))


@pytest.fixture(scope="module")
def site(slurm: SlurmCluster) -> Iterator[Site]:  # noqa: F811
    with people() as made:
        plane = made.add("plane", is_member=False)
        installed = made.folder / "slurm-submit"
        shutil.copy(submit.__file__, installed)
        installed.chmod(0o755)
        python = make_python(made.folder / "python")
        with sudo_rule(f"{plane.name} ALL=(%{made.group}) NOPASSWD: {installed}"):
            yield Site(slurm, made, plane, made.add("ada"), made.add("bob"), python, installed)


@pytest.fixture
def make(tmp_path: Path, site: Site) -> Iterator[Callable[..., SlurmBackend]]:
    made: dict[str, SlurmBackend] = {}

    def make(**changes: object) -> SlurmBackend:
        """Make the one of this test, or its successor."""
        if "it" in made:
            made["it"].close()
        own = {"submit_command": site.submit_command, "kernels": {"python3": str(site.python)}}
        made["it"] = SlurmBackend(tmp_path / "state", settings_for(site.cluster, **{**own, **changes}))
        return made["it"]

    yield make
    if not made:
        return
    backend = made["it"]
    for look in backend.list_placements():
        backend.stop(look.placement_id, 0)
    for person in (site.ada, site.bob, site.plane):
        # Each look at Slurm removes the files of those that have left it.
        wait_for(
            lambda of=person: not backend.list_placements() and not tokens(of), 20, f"{person.name}'s files stayed"
        )
        wait_for(lambda of=person: not of.leftovers(), 10, f"{person.name} left something")
    nothing_left_of([backend], site.cluster)


def tokens(person: Account) -> list[str]:
    folder = person.home / TOKENS
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def berth(person: Account, seconds: float = 60.0) -> BerthRequest:
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    return BerthRequest(new_id("pl"), "T4", 0, person.name, until, until)


def users_of(cluster: SlurmCluster) -> list[str]:
    return cluster.run("squeue", "--noheader", "--format=%u %T").splitlines()


def test_a_kernel_is_the_persons_own(make, site):
    backend = make()
    request = ask(site.ada.home, username=site.ada.name)
    placed = backend.start(request)
    assert users_of(site.cluster) == [f"{site.ada.name} RUNNING"]
    assert backend.look(request.placement_id).state is LookState.RUNNING
    with KernelTalk(placed.connection_info) as kernel:
        seen = kernel.run(
            "import getpass, json, os\n"
            "own = {name: os.environ.get(name) for name in ('HOME', 'USER', 'LOGNAME')}\n"
            "umask = os.umask(0o22); os.umask(umask)\n"
            "open('made', 'w').close(); os.mkdir(os.path.expanduser('~/made.d'))\n"
            "sudo = [name for name in os.environ if name.startswith('SUDO_')]\n"
            "print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), own, getpass.getuser(), os.getcwd(),"
            " umask, sudo]))"
        )
        uids, gids, groups, own, user, folder, umask, sudo = json.loads(seen)
        assert uids == [site.ada.uid] * 3
        assert gids == [site.ada.gid] * 3
        assert set(groups) == set(os.getgrouplist(site.ada.name, site.ada.gid))
        assert own == {"HOME": str(site.ada.home), "USER": site.ada.name, "LOGNAME": site.ada.name}
        assert (user, folder, umask, sudo) == (site.ada.name, str(site.ada.home), 0o022, [])
        for name, mode in (("made", 0o100644), ("made.d", 0o040755)):
            made = (site.ada.home / name).stat()
            assert (made.st_uid, made.st_gid, made.st_mode) == (site.ada.uid, site.ada.gid, mode)
        # Everything of the job is theirs, the supervisor and the launcher too.
        assert len(site.ada.processes()) >= 3
        cell = kernel.begin("import time; time.sleep(600)")
        backend.interrupt(request.placement_id)
        assert kernel.reply_to(cell)["ename"] == "KeyboardInterrupt"
        kernel.run("os.write(2, b'said outside the channels\\n')")
    wait_for(lambda: "said outside the channels" in backend.log(request.placement_id), 5, "the log lacks it")
    backend.stop(request.placement_id, 0)
    assert backend.list_placements() == []
    wait_for(lambda: not site.ada.leftovers(), 10, "something of the kernel stayed")


def test_what_is_paid_for_is_renewed_and_ends_by_itself(make, site):
    backend = make()
    request = ask(site.ada.home, username=site.ada.name)
    backend.start(request)
    backend.renew(request.placement_id, datetime.now(UTC) + timedelta(minutes=5))
    assert backend.look(request.placement_id).state is LookState.RUNNING
    backend.renew(request.placement_id, datetime.now(UTC) + timedelta(seconds=1))
    wait_for(lambda: backend.look(request.placement_id).state is LookState.ENDED, 20, "it ran on unpaid")
    assert backend.look(request.placement_id).reason is Ending.UNPAID


def test_the_token_is_the_persons_alone_and_gone_once_it_was_read(make, site):
    backend = make(sbatch_arguments=LATER)
    wanted = berth(site.ada)
    backend.ask_berth(wanted)
    assert users_of(site.cluster) == [f"{site.ada.name} PENDING"]
    token = site.ada.home / TOKENS / f"{wanted.placement_id}.token"
    assert (token.stat().st_uid, token.stat().st_mode) == (site.ada.uid, 0o100600)
    assert (token.parent.stat().st_uid, token.parent.stat().st_mode) == (site.ada.uid, 0o040700)
    assert site.ada.run("cat", str(token)).stdout == token.read_text()
    for stranger in (site.bob, site.plane):
        for command in (("ls", str(token.parent)), ("cat", str(token))):
            done = stranger.run(*command)
            assert (done.returncode != 0, done.stdout) == (True, "")
            assert "Permission denied" in done.stderr
    # What the job's script holds can be read on many clusters.
    (job,) = site.cluster.run("squeue", "--noheader", "--format=%i").split()
    assert token.read_text() not in site.cluster.run("scontrol", "write", "batch_script", job, "-")
    site.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    backend.await_berth(wanted.placement_id)
    assert not token.exists()
    request = ask(site.ada.home, username=site.ada.name, placement_id=wanted.placement_id)
    placed = backend.start(request)
    assert placed.details["job_id"] == job
    with KernelTalk(placed.connection_info) as kernel:
        assert kernel.run("import os; print(os.getuid())") == f"{site.ada.uid}\n"


def test_a_job_that_waits_is_taken_back(make, site):
    backend = make(sbatch_arguments=LATER, pending_seconds_max=1.0)
    with pytest.raises(NoCapacity, match="BeginTime"):
        backend.start(ask(site.ada.home, username=site.ada.name))
    wanted = berth(site.bob)
    backend.ask_berth(wanted)
    backend.stop(wanted.placement_id, 0)
    wait_for(lambda: not jobs_of(site.cluster), 10, "a job stayed in the queue")
    wait_for(lambda: not tokens(site.ada) and not tokens(site.bob), 25, "a token stayed though nobody asked")


@pytest.mark.needs("modules")
def test_a_persons_kernel_has_the_places_modules_and_their_own_start_up_files_stay_theirs(make, site):
    folder = site.people.folder / "modules"
    folder.mkdir()
    (folder / "course").write_text("#%Module1.0\nsetenv COURSE_DATA /shared/course\n")
    (site.ada.home / ".bash_profile").write_text("export COURSE_OF_ADA=1\n")
    backend = make(modules=("course",), module_paths=(str(folder),), prologue=('export COURSE_OF="$(id -un)"',))
    with KernelTalk(backend.start(ask(site.ada.home, username=site.ada.name)).connection_info) as kernel:
        names = "('COURSE_DATA', 'COURSE_OF', 'COURSE_OF_ADA')"
        seen = kernel.run(f"import os; print(*[os.environ.get(name) for name in {names}])")
    assert seen == f"/shared/course {site.ada.name} None\n"
    with pytest.raises(Refused, match="modules can't be loaded: nowhere"):
        make(modules=("nowhere",)).start(ask(site.ada.home, username=site.ada.name))
    (site.ada.home / ".bash_profile").unlink()


def test_what_a_prologue_says_as_the_person_is_told(make, site):
    backend = make(prologue=('echo "no licence for $(id -un)" >&2; exit 3',))
    with pytest.raises(Refused, match=f"no licence for {site.ada.name}"):
        backend.start(ask(site.ada.home, username=site.ada.name))
    assert backend.list_placements() == []


def test_two_peoples_kernels_are_apart_and_outlive_the_control_plane(make, site):
    backend = make()
    requests = [ask(person.home, username=person.name) for person in (site.ada, site.bob)]
    placed = [backend.start(request) for request in requests]
    assert sorted(users_of(site.cluster)) == sorted(f"{who.name} RUNNING" for who in (site.ada, site.bob))
    backend = make()
    assert {look.placement_id for look in backend.list_placements()} == {each.placement_id for each in requests}
    with KernelTalk(placed[1].connection_info) as kernel:
        kernel.run(f"import os; others = {site.ada.processes()}")
        for attempt in (
            f"os.listdir({str(site.ada.home / TOKENS)!r})",
            f"os.mkdir({str(site.ada.home / 'of_bob')!r})",
            "os.kill(others[0], 0)",
            "open(f'/proc/{others[0]}/environ')",
        ):
            denied = f"try:\n    {attempt}\nexcept PermissionError:\n    print('denied')"
            assert kernel.run(denied) == "denied\n", attempt
    for request in requests:
        backend.stop(request.placement_id, 0)


def test_who_is_not_in_the_group_gets_no_job(make, site):
    backend = make()
    with pytest.raises(Refused, match="can't be run as") as caught:
        backend.start(ask(site.plane.home, username=site.plane.name))
    assert caught.value.details["kind"] == "user"
    with pytest.raises(Refused, match="can't be run as"):
        backend.start(ask(site.plane.home, username="root"))
    assert backend.list_placements() == []
    assert not jobs_of(site.cluster)
    # Nor may the control plane's account run anything else as them.
    assert site.plane.run("sudo", "-n", "-u", site.ada.name, "/usr/bin/id").returncode != 0


def test_one_who_may_no_longer_be_acted_for_costs_the_others_nothing(make, site, monkeypatch):
    monkeypatch.setattr(watch, "OVERDUE_SECONDS", 0.0)
    monkeypatch.setattr(watch, "LEAVE_SECONDS", 0.0)
    backend = make(sbatch_arguments=LATER)
    wanted, begun, other = berth(site.ada), berth(site.ada), berth(site.bob)
    for each in (wanted, begun, other):
        backend.ask_berth(each)
    site.people.remove_from_group(site.ada)
    try:
        with pytest.raises(Refused, match="can't be run as"):
            backend.stop(wanted.placement_id, 0)
        for each in (wanted, begun):
            backend.renew(each.placement_id, datetime.now(UTC))
        ended = (wanted.placement_id, begun.placement_id)
        wait_for(lambda: backend.list_placements() and all(backend.look(each).reason for each in ended), 10)
        # Nobody can cancel it, and it holds nothing: it is sent away as soon as it runs.
        (job,) = [line.split()[0] for line in jobs_of(site.cluster) if line.endswith(begun.placement_id)]
        site.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        wait_for(lambda: len(jobs_of(site.cluster)) == 2, 20, "it stayed")
        assert [look.placement_id for look in backend.list_placements()] == [other.placement_id]
        backend.stop(other.placement_id, 0)
    finally:
        site.people.add_to_group(site.ada)
    # As soon as they may be acted for again, what is left of theirs goes.
    wait_for(lambda: backend.list_placements() == [] and not jobs_of(site.cluster), 15, "the job stayed")
    wait_for(lambda: tokens(site.ada) in ([], [f"{begun.placement_id}.out"]), 15, "its token stayed")
    (site.ada.home / TOKENS / f"{begun.placement_id}.out").unlink(missing_ok=True)  # as ComputeHub might not


def test_a_job_whose_record_was_lost_is_cancelled_as_its_user(make, site, tmp_path):
    backend = make(sbatch_arguments=LATER)
    kept, lost = berth(site.ada), berth(site.ada)
    for each in (kept, lost):
        backend.ask_berth(each)
    backend.close()
    (tmp_path / "state" / "slurm" / "placements" / f"{lost.placement_id}.json").unlink()
    backend = make(sbatch_arguments=LATER)
    assert {look.placement_id for look in backend.list_placements()} == {kept.placement_id, lost.placement_id}
    backend.stop(lost.placement_id, 0)
    wait_for(lambda: len(jobs_of(site.cluster)) == 1, 10, "the job stayed")
    assert [look.placement_id for look in backend.list_placements()] == [kept.placement_id]


@pytest.mark.parametrize("spoilt", ["file", "folder", "missing"])
def test_a_configuration_that_others_can_change_is_not_taken(site, tmp_path_factory, spoilt):
    folder = site.people.folder / f"conf-{spoilt}"
    folder.mkdir()
    conf = folder / "slurm.conf"
    if spoilt != "missing":
        shutil.copy(site.cluster.conf, conf)
    if spoilt == "file":
        os.chown(conf, site.plane.uid, site.plane.gid)
    elif spoilt == "folder":
        folder.chmod(0o777)
    command = ("sudo", "-n", "-H", "-u", site.ada.name, str(site.submit))
    done = site.plane.run(*command, text=json.dumps({"action": "cancel", "jobs": ["1"], "slurm_conf": str(conf)}))
    assert done.returncode == 1
    assert f"{conf} {'can' if spoilt == 'missing' else 'is not taken'}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_is_not_there_is_said_in_a_sentence(site):
    away = site.ada.home.with_name("away")
    site.ada.home.rename(away)
    try:
        command = ("sudo", "-n", "-H", "-u", site.ada.name, str(site.submit))
        done = site.plane.run(*command, text=json.dumps({"action": "cancel", "jobs": ["1"]}))
    finally:
        away.rename(site.ada.home)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{site.ada.home / TOKENS} can't be made: Permission denied\n"
