"""A PostgreSQL of the tests' own, on a free port, and PgBouncer before it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from tests.ports import free_port

PASSWORD = "pa55-never-printed"
_NUMBERS = count(1)
_BUILDS = Path("/usr/lib/postgresql")
_NOBODY = 65534


@cache
def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL; None: it, or PgBouncer, is not installed."""
    found = sorted(_BUILDS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found and bouncer() else None


def bouncer() -> str | None:
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def lesser_user() -> dict[str, Any]:
    """Return the user of a server, which refuses to run as root."""
    return {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}


@contextmanager
def _running(words: list[str], folder: Path, port: int, user: str) -> Iterator[None]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, **lesser_user())
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with suppress(psycopg.OperationalError):
                connect(port, "postgres", user).close()
                break
        yield
    finally:
        process.send_signal(signal.SIGINT)  # of PostgreSQL: ends sessions, too
        process.wait(60)


def connect(port: int, database: str, user: str = "owner") -> psycopg.Connection[Any]:
    return psycopg.connect(
        host="127.0.0.1", port=port, dbname=database, user=user, password=PASSWORD, autocommit=True
    )


@dataclass(frozen=True)
class FreshDatabase:
    """A database of its own."""

    port: int
    name: str
    server: "PostgresServer" = field(repr=False)
    user: str = "owner"

    @property
    def uri(self) -> str:
        return self.through(self.port)

    def through(self, port: int) -> str:
        return f"postgresql://{self.user}:{PASSWORD}@127.0.0.1:{port}/{self.name}"

    def run(self, sql: LiteralString) -> list[Any]:
        """Run a statement as the owner, who is a superuser."""
        with connect(self.port, self.name) as connection:
            done = connection.execute(sql)
            return done.fetchall() if done.description else []


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL."""

    port: int
    folder: Path

    def database(self) -> FreshDatabase:
        """Make a database."""
        name = f"db{next(_NUMBERS)}"
        with connect(self.port, "postgres") as connection:
            connection.execute(f"create database {name}".encode())
        return FreshDatabase(self.port, name, self)

    @contextmanager
    def bouncer(self, database: FreshDatabase) -> Iterator[int]:
        """Run PgBouncer in transaction mode before a database; give its port."""
        port, program = free_port(), bouncer()
        assert program
        with bed() as folder:
            file = folder / "pgbouncer.ini"
            file.write_text(
                f"[databases]\n* = host=127.0.0.1 port={self.port}\n[pgbouncer]\n"
                f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
                f"pool_mode = transaction\ndefault_pool_size = 3\nauth_type = plain\n"
                f"auth_file = {folder}/users\n"
            )
            (folder / "users").write_text(f'"{database.user}" "{PASSWORD}"\n')
            with _running([program, str(file)], folder, port, database.user):
                yield port


@contextmanager
def bed() -> Iterator[Path]:
    """Give a folder of the user that servers run as."""
    folder = Path(tempfile.mkdtemp(prefix="fleetctl-pg-"))
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def running() -> Iterator[PostgresServer]:
    """Run a new PostgreSQL."""
    found = programs()
    assert found
    with bed() as folder:
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        options = ["-U", "owner", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [found / "initdb", "-D", folder / "data", f"--pwfile={folder}/password", *options],
            check=True, capture_output=True, cwd=folder, **lesser_user(),
        )  # fmt: skip
        port = free_port()
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off".split()
        words = [str(found / "postgres"), "-D", str(folder / "data"), *settings]
        with _running(words, folder, port, "owner"):
            yield PostgresServer(port, folder)
