"""A private PostgreSQL for tests and benchmarks: the real server, in a folder of its own, on a Unix socket alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

START_SECONDS_MAX = 60


class PostgresMissing(RuntimeError):
    """No PostgreSQL server is installed here."""


class PostgresCluster:
    """A running server. ``url(name)`` addresses one of its databases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self, template: str | None = None) -> str:
        """Create a database, empty or a copy of the one at the URL ``template``, and return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        source = make_url(template).database if template else None
        with self._connected() as connection:
            if source:
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
            else:
                create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            connection.execute(create)
        return self.url(name)

    def drop_database(self, url: str) -> None:
        name = make_url(url).database
        assert name
        with self._connected() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _connected(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True)


def find_program(name: str) -> str:
    """Find a program of PostgreSQL, on the path or where Debian keeps them; the newest version wins."""
    if found := shutil.which(name):
        return found
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    if not versions:
        raise PostgresMissing(f"{name} was not found; on Debian: apt-get install postgresql-15")
    return str(versions[-1])


@contextlib.contextmanager
def postgres_cluster(*, durable: bool = True) -> Iterator[PostgresCluster]:
    """Make, start and in the end remove a PostgreSQL cluster. Run by root, it runs as the user ``postgres``.

    Parameters
    ----------
    durable:
        Whether commits wait for the disk, as they do in production.
    """
    initdb, postgres = find_program("initdb"), find_program("postgres")
    folder = Path(tempfile.mkdtemp(prefix="computehub-pg-", dir="/tmp"))  # short: a socket's path has 107 bytes
    owner = {}
    if os.getuid() == 0:
        owner = {"user": "postgres", "group": "postgres"}
        shutil.chown(folder, **owner)
    data, log = folder / "data", folder / "log"
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [initdb, "--pgdata", data, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=folder,
            **owner,  # type: ignore[call-overload]
        )
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "max_connections": "60"}
        if not durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        with log.open("wb") as output:
            server = subprocess.Popen(
                [postgres, "-D", data, *(part for item in settings.items() for part in ("-c", "=".join(item)))],
                stdout=output,
                stderr=output,
                cwd=folder,
                **owner,  # type: ignore[call-overload]
            )
        cluster = PostgresCluster(folder)
        _wait_until_up(cluster, server, log)
        yield cluster
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # "fast": ends the sessions and stops
            server.wait(timeout=START_SECONDS_MAX)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(cluster: PostgresCluster, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            cluster._connected().close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}") from error
            time.sleep(0.05)
