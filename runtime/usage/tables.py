"""The tables of the usage store, their version, and errors of the file."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.usage import COUNTS, Grain

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
            "FC6065",
            "Usage store cannot be read or written",
            f"`{path}`: {error}.",
            hint=hint,
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
