"""Opens the usage store to write: one process at a time, in transactions."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from runtime.files import PRIVATE, locked_file
from runtime.usage.sketches import added
from runtime.usage.tables import PARTS_SCHEMA, SCHEMA, VERSION, check_version

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
