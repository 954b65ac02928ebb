"""The tables of the usage store, their version, and writing to them."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.usage import COUNTS, Grain
from runtime.files import PRIVATE, locked_file
from runtime.usage.batch import added

FOLDER: Final = "usage"
"""Folder of the state folder that holds the store, and rows as Parquet."""
STORE_FILE: Final = "usage.sqlite"
VERSION: Final = 2
"""Version of the tables, in `user_version` of the file; a later one is refused."""
SERIES: Final = ("client", "alias", "version", "server", "purpose")
"""The fields that a cell's requests have in common."""
_NUMBERS: Final = ", ".join(f"{name} INTEGER" for name in COUNTS)
_CELL: Final = (
    f"series INTEGER, start INTEGER, {_NUMBERS}, sketches BLOB, PRIMARY KEY (series, start)"
)
PARTS_SCHEMA: Final = """
-- The last bytes of a log before the mark, null where an earlier release has ingested the log.
ALTER TABLE marks ADD COLUMN tail BLOB;
-- What transactions took from logs, with the identities of the rows.
CREATE TABLE parts (
    id INTEGER PRIMARY KEY, key TEXT, start INTEGER, end INTEGER, rows INTEGER, sha256 BLOB,
    ids BLOB);
CREATE INDEX parts_of_log ON parts (key, end);
CREATE TABLE part_hours (hour TEXT, part INTEGER, PRIMARY KEY (hour, part)) WITHOUT ROWID;
DROP TABLE IF EXISTS recent;
"""
"""The tables of version 2 beyond those of version 1."""
SCHEMA: Final = f"""
CREATE TABLE series (
    id INTEGER PRIMARY KEY, {" TEXT, ".join(SERIES)} TEXT, UNIQUE ({", ".join(SERIES)}));
{"".join(f"CREATE TABLE {grain} ({_CELL}) WITHOUT ROWID;" for grain in Grain)}
-- A log, and how many bytes of it have been ingested.
CREATE TABLE marks (
    key TEXT PRIMARY KEY, gateway TEXT, size INTEGER, rows INTEGER, newest REAL,
    duplicates INTEGER, damaged INTEGER, cut INTEGER) WITHOUT ROWID;
CREATE TABLE users (
    client TEXT, alias TEXT, version TEXT, day INTEGER, seen BLOB,
    PRIMARY KEY (client, alias, version, day)
    ) WITHOUT ROWID;
CREATE TABLE ingested (time REAL);
{PARTS_SCHEMA}
PRAGMA user_version = {VERSION};
"""


@contextmanager
def told_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into FC6065, which names the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        is_damaged = "malformed" in str(error) or "not a database" in str(error)
        hint = "Where the disk is full, free space and repeat: the gateways' logs have the rows."
        if is_damaged:
            hint = "Move the file away: `fleetctl usage ingest` makes it anew from the logs."
        raise FleetError.of(
            "FC6065", "Usage store cannot be read or written", f"`{path}`: {error}.", hint=hint
        ) from None


def check_version(database: sqlite3.Connection, path: Path) -> int:
    """Return the version of the tables, 0 for none; refuse those of a later release.

    Raises:
        FleetError: FC6063.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise FleetError.of(
            "FC6063",
            "Usage store is of a newer release",
            f"`{path}` has tables of version {version}, and this release knows version {VERSION}.",
            hint="Run the release of fleetctl that wrote it, or a later one.",
        )
    return int(version)


BUSY: Final = "FC6066"
"""Code of the error that another process ingests."""


@contextmanager
def alone(folder: Path, wait_s: float) -> Iterator[None]:
    """Keep other processes from writing the store in a folder; raises FC6066."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(folder / "ingest.lock", timeout_s=wait_s))
        except BlockingIOError:
            raise FleetError.of(
                BUSY,
                "Another run is ingesting usage",
                f"It has the lock of `{folder}`, and one process writes at a time.",
                hint="Repeat it in a minute; the first run over large logs takes longest.",
            ) from None
        yield


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the store to write; make it if need be."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        version = check_version(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.create_function("added", 2, added, deterministic=True)
        database.execute("PRAGMA synchronous = NORMAL")  # a power failure takes mark and sums alike
        if version < VERSION:
            with transaction(database):
                for statement in (PARTS_SCHEMA if version else SCHEMA).split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
        yield database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit the changes of the block; a block that fails leaves no trace."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")
