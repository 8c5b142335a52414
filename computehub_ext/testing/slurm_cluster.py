"""A private Slurm for tests and benchmarks: the real controller and several real nodes on this machine.

It comes from Debian's packages (``slurmctld slurmd slurm-client munge``), needs root and no systemd, and has a folder,
ports and a munge of its own, so that several can run beside each other and beside one that the machine itself has. Its
GPUs are device files without a GPU behind them: Slurm counts and hands them out as it does real ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from . import slurm_cluster_accounting as books

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
PACKAGES = "slurmctld slurmd slurm-client munge"
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 15.0
_COMMAND_SECONDS_MAX = 20.0

NODES = {"n1": "gpu:a100:4", "n2": "gpu:a100:4", "n3": "gpu:t4:4", "n4": ""}
"""Each has 8 processors and 20 GB, on paper; n4 has no GPU."""

# What is tuned: a job is looked at when it is submitted and not at the next round, and a dead node, a cancelled job and
# a used-up limit are noticed within seconds. The rest is what one machine without cgroups and accounting can do.
_CONFIGURATION = """
ClusterName=computehub
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
MpiDefault=none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdSpoolDir={folder}/spool.%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0,sched_interval=1,bf_resolution=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobCompType=jobcomp/none
{accounting}
PreemptMode=CANCEL
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
KillWait=2
MinJobAge=60
MessageTimeout=10
{nodes}
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=short Nodes=ALL MaxTime=30 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=spot Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
"""


class SlurmMissing(RuntimeError):
    """This machine can't run a Slurm of its own: programs are missing, or the user is not root."""


class SlurmCluster:
    """A running cluster. ``conf`` is its configuration: with ``SLURM_CONF`` set to it every command speaks to it."""

    def __init__(self, folder: Path, accounting: books.Accounting | None = None) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.accounting = accounting
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands against this cluster and return what it printed."""
        done = subprocess.run(
            command,
            env={**os.environ, "SLURM_CONF": str(self.conf)},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS_MAX,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return each node's state in Slurm's words, such as ``idle`` or ``down*``."""
        lines = self.run("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%N %t", check=False)
        return dict(line.split() for line in lines.splitlines())

    def submit(self, script: str, *options: str) -> str:
        """Submit a plain job, such as one that is in the way, and return its number."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}").strip()

    # Daemons, each stopped by the process that was started

    def start_controller(self) -> None:
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])

    def stop_controller(self) -> None:
        """End it as SIGTERM does: its state is kept, jobs go on."""
        self._stop("slurmctld")

    def start_node(self, name: str) -> None:
        self._start(name, ["slurmd", "-D", "-f", str(self.conf), "-N", name])

    def kill_node(self, name: str) -> None:
        """Kill a node's daemon. What runs on it goes on, as on a node that only lost its network."""
        self._stop(name, signal.SIGKILL)

    def revive_node(self, name: str) -> None:
        """Start a killed node again, and wait until it takes jobs."""
        self.start_node(name)
        self.run("scontrol", "update", f"NodeName={name}", "State=RESUME", check=False)
        self._wait(lambda: self.states().get(name) == "idle", START_SECONDS_MAX, name)

    def start_all(self) -> None:
        self._start(
            "munged",
            [
                *("munged", "--foreground", "--force", f"--socket={self.folder}/munge/socket"),
                *(f"--key-file={self.folder}/munge/key", f"--pid-file={self.folder}/munge/pid"),
                *(f"--log-file={self.folder}/munge/log", f"--seed-file={self.folder}/munge/seed"),
            ],
        )
        self._wait((self.folder / "munge/socket").exists, START_SECONDS_MAX, "munged")
        if self.accounting is not None:
            self._start("mariadbd", self.accounting.database())
            self._wait(self.accounting.socket.exists, START_SECONDS_MAX, "mariadbd")
            self._start("slurmdbd", ["slurmdbd", "-D"], self.accounting.environment)
            self._wait(self._keeps_books, START_SECONDS_MAX, "slurmdbd")
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        self._wait(self._is_up, START_SECONDS_MAX, "Slurm")

    def stop_all(self) -> None:
        """End every job, every daemon and whatever a killed node's job left behind."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.run("scancel", "--user=root")
            self._wait(lambda: not self.run("squeue", "--noheader"), STOP_SECONDS_MAX, "scancel")
        for name in reversed(list(self._daemons)):
            self._stop(name)
        for pid in self._left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _is_up(self) -> bool:
        states = self.states()
        return len(states) == len(NODES) and set(states.values()) == {"idle"}

    def _keeps_books(self) -> bool:
        return "root" in self.run("sacctmgr", "--noheader", "list", "user", "format=user%-20", check=False)

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        with open(self.folder / f"{name}.out", "ab") as output:
            # A session of its own: Ctrl-C ends the tests first, which then end the cluster in order.
            self._daemons[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "SLURM_CONF": str(self.conf), **(environment or {})},
                start_new_session=True,
            )

    def _stop(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(STOP_SECONDS_MAX)

    def _wait(self, what: Callable[[], bool], seconds_max: float, who: str) -> None:
        deadline = time.monotonic() + seconds_max
        while not what():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise RuntimeError(f"{who} did not come up or go down; ended: {dead}.\n{self._logs()}")
            time.sleep(0.02)

    def _logs(self) -> str:
        """The daemons' last words, for whoever has to find out why."""
        files = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log"), *self.folder.glob("munge/log")])
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def _left(self) -> set[int]:
        """Find what still has to do with this cluster: its step daemons, and what was started below them."""
        found: set[int] = set()
        parents: dict[int, int] = {}
        marker = f"SLURM_CONF={self.conf}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(path.name)
                parents[pid] = int((path / "stat").read_bytes().rpartition(b")")[2].split()[1])
                if marker in (path / "environ").read_bytes().split(b"\0"):
                    found.add(pid)
        for pid in parents:
            above = pid
            while above := parents.get(above, 0):
                if above in found:
                    found.add(pid)
                    break
        return found - {os.getpid()}


@contextlib.contextmanager
def slurm_cluster(*, with_accounting: bool = False) -> Iterator[SlurmCluster]:
    """Make, start and in the end remove a cluster; it is up in about a second.

    Parameters
    ----------
    with_accounting:
        It has a slurmdbd, and a job needs an account and a QoS that its user may have. It preempts by QoS then, and
        not by partition.
    """
    _require(with_accounting)
    # In /tmp and short: the path of a step's socket has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ch-slurm-", dir="/tmp"))
    folder.chmod(0o755)  # munge's clients look for its socket with their own rights
    cluster = SlurmCluster(folder, books.Accounting(folder, *_free_ports(1)) if with_accounting else None)
    try:
        _write(cluster)
        cluster.start_all()
        yield cluster
    finally:
        cluster.stop_all()
        shutil.rmtree(folder, ignore_errors=True)


def _require(with_accounting: bool) -> None:
    programs = [*PROGRAMS, *(books.PROGRAMS if with_accounting else ())]
    packages = f"{PACKAGES} {books.PACKAGES}" if with_accounting else PACKAGES
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise SlurmMissing(f"{', '.join(missing)} not found; on Debian: apt-get install {packages}")
    if os.geteuid() != 0:
        raise SlurmMissing("A Slurm node starts jobs as their users, so a private cluster needs root.")


def _write(cluster: SlurmCluster) -> None:
    folder = cluster.folder
    for name in ("munge", "state", "dev", *(f"spool.{node}" for node in NODES)):
        (folder / name).mkdir(mode=0o755)
    descriptor = os.open(folder / "munge/key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with open(descriptor, "wb") as file:
        file.write(secrets.token_bytes(128))
    ports = _free_ports(len(NODES) + 1)
    host = socket.gethostname().partition(".")[0]
    nodes, devices, number = [], [], 0
    for port, (node, gres) in zip(ports[1:], NODES.items(), strict=True):
        line = f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=20000"
        nodes.append(f"{line} Gres={gres}" if gres else line)
        if not gres:
            continue
        _, model, count = gres.split(":")
        for index in range(number, number + int(count)):
            # A character device like /dev/null: there is no GPU behind it.
            os.mknod(folder / f"dev/gpu{index}", 0o666 | 0o020000, os.makedev(1, 3))
        files = f"{folder}/dev/gpu[{number}-{number + int(count) - 1}]"
        devices.append(f"NodeName={node} Name=gpu Type={model} File={files}")
        number += int(count)
    accounting = books.WITHOUT
    if cluster.accounting is not None:
        cluster.accounting.prepare()
        accounting = cluster.accounting.configuration
    text = _CONFIGURATION.format(
        host=host, controller_port=ports[0], folder=folder, nodes="\n".join(nodes), accounting=accounting
    )
    cluster.conf.write_text(re.sub(r"\n+", "\n", text).lstrip())
    (folder / "gres.conf").write_text("\n".join(devices) + "\n")


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, below those that the system hands out for outgoing connections."""
    found: list[int] = []
    while len(found) < count:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def main() -> None:
    """``python -m computehub_ext.testing.slurm_cluster``: a cluster to try things on, until Ctrl-C."""
    # A shell starts what it puts in the background with Ctrl-C ignored; `kill` is to leave no daemons behind either.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with slurm_cluster() as cluster:
        lines = [f"A cluster of {len(NODES)} nodes runs. In another shell, and as a place's slurm_conf:"]
        sys.stdout.write("\n".join([*lines, f"export SLURM_CONF={cluster.conf}", "Ctrl-C ends it.", ""]))
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
