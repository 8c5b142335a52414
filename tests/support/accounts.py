"""Real accounts of this machine for a test, and a Python with ipykernel that all of them may run."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from computehub_ext.testing.kernels import wait_for
from tests.support.pythons import readable_python

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMAND_SECONDS_MAX = 60


@dataclass(frozen=True)
class Account:
    """A person of this machine, who nobody can log in as."""

    name: str
    uid: int
    gid: int
    home: Path

    def run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command as this account, with an environment of its own."""
        return subprocess.run(
            command,
            input=text,
            env={"PATH": _PATH, "HOME": str(self.home), "USER": self.name, "LOGNAME": self.name},
            user=self.uid,
            group=self.gid,
            extra_groups=[self.gid],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS_MAX,
            check=False,
        )

    def processes(self) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"\nUid:\t{self.uid}\t" in (process / "status").read_text():
                    found.append(int(process.name))
        return found

    def leftovers(self) -> list[str]:
        """Return what is left of this account's kernels: processes, and what they laid down for a moment."""
        found = [f"process {pid}" for pid in self.processes()]
        for folder in ("/tmp", "/dev/shm"):
            for path in Path(folder).glob("*"):
                with contextlib.suppress(OSError):
                    if path.lstat().st_uid == self.uid:
                        found.append(str(path))
        return found


class People:
    """Accounts in a folder of their own that everybody may enter, and the group that they are in."""

    def __init__(self, folder: Path, group: str) -> None:
        self.folder, self.group = folder, group
        self._made: list[Account] = []

    def add(self, name: str, *, is_member: bool = True) -> Account:
        """Make an account; others may look into its home."""
        full = f"{self.group}-{name}"
        home = self.folder / full
        groups = ["--groups", self.group] if is_member else []
        uid = ["--uid", str(_unused_uid())]
        _call("useradd", "--no-log-init", *uid, "--user-group", *groups, "--home-dir", str(home), "--create-home", full)
        known = pwd.getpwnam(full)
        self._made.append(Account(full, known.pw_uid, known.pw_gid, home))
        home.chmod(0o755)
        return self._made[-1]

    def remove_from_group(self, account: Account) -> None:
        _call("gpasswd", "--delete", account.name, self.group)

    def add_to_group(self, account: Account) -> None:
        _call("gpasswd", "--add", account.name, self.group)

    def remove_all(self) -> None:
        for account in self._made:
            for pid in account.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(AssertionError):
                wait_for(lambda of=account: not of.processes(), 10)
            for path in account.leftovers():
                shutil.rmtree(path, ignore_errors=True)  # safe: before the account was made there was none
            _call("userdel", "--force", account.name)


@contextlib.contextmanager
def people() -> Iterator[People]:
    """Make a group for accounts of a test, and remove it with them in the end."""
    folder = Path(tempfile.mkdtemp(prefix="ch-people-", dir="/tmp"))
    folder.chmod(0o755)
    made = People(folder, f"chtest{secrets.token_hex(3)}")
    _call("groupadd", made.group)
    try:
        yield made
    finally:
        try:
            made.remove_all()
        finally:
            _call("groupdel", made.group)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def sudo_rule(line: str) -> Iterator[None]:
    """Have sudo follow one more line while the body runs."""
    path = Path("/etc/sudoers.d") / f"chtest-{secrets.token_hex(3)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(line + "\n")
        _call("visudo", "--check", "--quiet", f"--file={path}")
        yield
    finally:
        path.unlink()


def _unused_uid() -> int:
    """Return a number that no account has nor had: what is found by it later is the new account's."""
    while True:
        uid = 30_000 + secrets.randbelow(30_000)
        with contextlib.suppress(KeyError):
            pwd.getpwuid(uid)
            continue
        if not Account("", uid, uid, Path()).leftovers():
            return uid


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS_MAX, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


# -- a Python for everybody --------------------------------------------------------------------------------------------


def make_python(folder: Path) -> Path:
    """Make an environment with ipykernel below a folder that everybody may enter, from the packages that we have."""
    python = readable_python()
    assert python is not None
    _call(python, "-m", "venv", "--without-pip", str(folder))
    (site,) = folder.glob("lib/python*/site-packages")
    for name in _with_requirements("ipykernel"):
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            if ".." not in file.parts:
                _copy(Path(str(distribution.locate_file(file))), site / file)
    return folder / "bin" / "python"


def _with_requirements(name: str) -> set[str]:
    found: set[str] = set()
    left = [name]
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                left.append(wanted.name)
    return found


def _copy(source: Path, to: Path) -> None:
    if not source.is_file():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, to)
    to.chmod(to.stat().st_mode | 0o444)
    if source.suffix == ".py":
        # The accounts can't keep what they compile there, and would do it again with each kernel.
        kept = Path(importlib.util.cache_from_source(str(source)))
        if kept.is_file():
            _copy(kept, Path(importlib.util.cache_from_source(str(to))))
