"""The books of a private Slurm: a real slurmdbd on a MariaDB of its own, so that accounts and QoS are enforced.

From Debian's packages ``slurmdbd mariadb-server-core``; MariaDB's data and its socket lie in the cluster's folder, no
network port is opened, and no service of the machine is touched. It adds two seconds to the cluster's start.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROGRAMS = ("slurmdbd", "mariadbd", "sacctmgr", "sacct")
PACKAGES = "slurmdbd mariadb-server-core"
_TABLES = Path("/usr/share/mysql")
_MAKING_SECONDS_MAX = 60.0

WITHOUT = "AccountingStorageType=accounting_storage/none\nPreemptType=preempt/partition_prio"
_WITH = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
PriorityType=priority/multifactor
PriorityWeightQOS=10000
PreemptType=preempt/qos
"""
_DAEMON = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
DebugLevel=info
"""


class Accounting:
    """The two daemons in a cluster's folder. They are started and stopped by the cluster, as its others are."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._data, self.socket = folder / "mariadb", folder / "mariadb/socket"
        self.environment = {"MYSQL_UNIX_PORT": str(self.socket)}
        """Where slurmdbd finds its database."""

    @property
    def configuration(self) -> str:
        """What ``slurm.conf`` says about it."""
        return _WITH.format(port=self._port, folder=self._folder).strip()

    def prepare(self) -> None:
        """Write the configuration, and make a database whose root is the system's root and nobody else."""
        path = self._folder / "slurmdbd.conf"  # slurmdbd looks for it beside slurm.conf
        path.touch(mode=0o600)
        path.write_text(_DAEMON.format(folder=self._folder, port=self._port).lstrip())
        self._data.mkdir(mode=0o700)
        begin = ["create database mysql;", "use mysql;", "set @auth_root_socket='root';", "set @skip_auth_anonymous=1;"]
        tables = [(_TABLES / f"mysql_system_{name}.sql").read_text() for name in ("tables", "tables_data")]
        done = subprocess.run(
            [*self._command(), "--bootstrap"],
            input="\n".join([*begin, *tables]),
            capture_output=True,
            text=True,
            timeout=_MAKING_SECONDS_MAX,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
        if done.returncode:
            raise RuntimeError(f"MariaDB can't make its tables: {done.stderr[-1500:]}")

    def database(self) -> list[str]:
        """Return the command that runs MariaDB."""
        return [*self._command(), f"--socket={self.socket}", f"--pid-file={self._data}/pid", "--skip-networking"]

    def _command(self) -> list[str]:
        # Small and not made to survive a power cut; io_uring is not allowed everywhere.
        return [
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={self._data}", "--performance-schema=off"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M"),
            *("--innodb-temp-data-file-path=ibtmp1:1M:autoextend", "--innodb-use-native-aio=OFF"),
        ]
