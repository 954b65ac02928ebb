"""Brings the rows of usage logs into the store: sums of a batch and its mark in one transaction.

A run that is killed at any point has ingested whole batches, and the next run goes on from the
marks. A row that a log has twice counts once. One process writes at a time.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet.errors import FleetError
from fleet.usage import COUNTS, Grain
from runtime.files import PRIVATE, locked_file, make_private, open_plain
from runtime.usage.batch import KEPT_S, Batch, Cells, IngestRow
from runtime.usage.mounts import network_filesystem
from runtime.usage.row import translate_lines
from runtime.usage.segments import Segment, whole_segments
from runtime.usage.sketches import added
from runtime.usage.store import (
    FOLDER,
    SCHEMA,
    SERIES,
    STORE_FILE,
    check_version,
    told_errors,
)
from runtime.usage.users import seen

BATCH_BYTES: Final = 16 * 2**20
"""Upper bound of a transaction, in bytes of a log (35,000 rows or so): bounds memory."""
BUSY: Final = "FC6066"
"""Code of the error that another process ingests."""
RECENT_S: Final = 600.0
"""Upper bound of the seconds between a row and its twin in a gateway's logs."""
_ROW: Final = msgspec.json.Decoder(IngestRow)
_ADD: Final = (
    f"INSERT INTO {{}} VALUES ({', '.join('?' * (3 + len(COUNTS)))}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
    + ", sketches = added(sketches, excluded.sketches)"
)
_TOO_LONG: Final = b"-"
"""In the place of a line that is longer than a batch: no row."""
_SEEN: Final = "SELECT seen FROM users WHERE client = ? AND alias = ? AND version = ? AND day = ?"
_MARK: Final = ("size", "rows", "newest", "duplicates", "damaged", "cut")


@dataclass(slots=True)
class Ingested:
    """The rows that a run has brought into the store."""

    rows: int = 0
    duplicates: int = 0
    damaged: Counter[Path] = field(default_factory=Counter)
    """Lines that are no row, by log."""
    cut: list[Path] = field(default_factory=list)
    """Logs that have become shorter than their mark; rows may be lacking since."""


def ingest(
    state_dir: Path, now: datetime, *, wait_s: float = 0.0, logs: Iterable[Segment] | None = None
) -> Ingested:
    """Bring new rows into the store of a state folder; `logs` None: of all its gateways.

    `wait_s`: upper bound of the wait for another process that ingests.

    Raises:
        FleetError: FC6063 to FC6066; what had been ingested before stays.
        OSError: a log cannot be read.
    """
    found = whole_segments(state_dir) if logs is None else [*logs]
    folder = state_dir / FOLDER
    if not found and not (folder / STORE_FILE).exists():
        return Ingested()
    make_private(folder)
    if kind := network_filesystem(folder):
        raise FleetError.of(
            "FC6064",
            "Usage store cannot be on a network file system",
            f"`{folder}` is on {kind}, where two processes can damage an SQLite file.",
            hint="Keep the state folder on a local disk: `--state-dir DIR`.",
        )
    path = folder / STORE_FILE
    with alone(folder, wait_s), told_errors(path), _opened(path) as database:
        run = _IngestRun(database, now)
        for segment in found:
            run.ingest(segment)
        run.finish()
    return run.done


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
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the store to write; make it if need be."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        version = check_version(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.create_function("added", 2, added, deterministic=True)
        database.execute("PRAGMA synchronous = NORMAL")  # a power failure takes mark and sums alike
        if not version:
            with _transaction(database):
                for statement in SCHEMA.split(";"):
                    database.execute(statement)
        yield database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Commit the changes of the block; a block that fails leaves no trace."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


class _IngestRun:
    """A run of ingestion over the logs of all gateways."""

    def __init__(self, database: sqlite3.Connection, now: datetime) -> None:
        self._database, self._now = database, now
        self._recent: dict[str, float] = {}
        """When requests of the current gateway ended, by request id."""
        self._gateway = ""
        names = ", ".join(SERIES)
        known = database.execute(f"SELECT id, {names} FROM series")  # noqa: S608 (our names)
        self._ids: dict[tuple[str, ...], int] = {tuple(series): id_ for id_, *series in known}
        self.done = Ingested()

    def ingest(self, segment: Segment) -> None:
        """Ingest the new rows of a log."""
        names = ", ".join(_MARK)
        mark = self._database.execute(
            f"SELECT {names} FROM marks WHERE key = ?",  # noqa: S608 (our names)
            [segment.key],
        ).fetchone() or (0, 0, None, 0, 0, 0)
        size, *_ = mark
        if segment.end < size:
            self.done.cut.append(segment.path)
            self._write(Batch(self._now), segment, (segment.end, *mark[1:5], mark[5] + 1), {}, 0.0)
            return
        if segment.end > size:
            with suppress(OSError), open_plain(segment.path) as log:
                os.fdatasync(log.fileno())  # else a power failure could take what the mark covers
        if segment.gateway != self._gateway:
            self._gateway = segment.gateway
            query = "SELECT request_id, ended FROM recent WHERE gateway = ?"
            self._recent = dict(self._database.execute(query, [segment.gateway]))
        while mark := self._ingest_batch(segment, mark):
            pass

    def _ingest_batch(self, segment: Segment, mark: Any) -> Any:
        """Ingest rows after a mark, up to `BATCH_BYTES`; return the next mark, None at the end."""
        lines = segment.read_rows(mark[0], BATCH_BYTES)
        if not lines:
            return None
        end = mark[0] + len(lines)
        if not lines.endswith(b"\n"):
            lines, end = _TOO_LONG, _line_end(segment, end)
        batch, ids, recent = Batch(self._now), {}, self._recent
        _, rows, newest, duplicates, damaged, cut = mark
        twins = broken = 0
        for line in translate_lines(BytesIO(lines)):  # line by line, for memory
            try:
                row = _ROW.decode(line)
                if row.request_id in recent or row.request_id in ids:
                    twins += 1
                else:
                    ids[row.request_id] = batch.add(row)
            except (ValueError, OverflowError, RecursionError):
                broken += 1
        del lines
        newest = max([*ids.values(), newest or 0.0]) or None
        floor = (newest or 0.0) - RECENT_S
        recent |= ids
        self._recent = {name: ended for name, ended in recent.items() if ended >= floor}
        mark = (
            end, rows + batch.rows, newest, duplicates + twins, damaged + broken, cut
        )  # fmt: skip
        self._write(batch, segment, mark, ids, floor)
        self.done.rows += batch.rows
        self.done.duplicates += twins
        self.done.damaged += Counter({segment.path: broken})
        return mark

    def _write(
        self, batch: Batch, segment: Segment, mark: Any, ids: dict[str, float], floor: float
    ) -> None:
        """Write sums, users, ids and the mark, all or nothing."""
        execute, many = self._database.execute, self._database.executemany
        with _transaction(self._database):
            for grain, cells in batch.cells().items():
                self._write_cells(grain, cells)
            for key, units in batch.users.items():
                (before,) = execute(_SEEN, key).fetchone() or (None,)
                execute("REPLACE INTO users VALUES (?, ?, ?, ?, ?)", [*key, seen(units, before)])
            gateway = segment.gateway
            execute("DELETE FROM recent WHERE gateway = ? AND ended < ?", [gateway, floor])
            fresh = ((gateway, name, ended) for name, ended in ids.items() if ended >= floor)
            many("REPLACE INTO recent VALUES (?, ?, ?)", fresh)
            execute(
                "REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [segment.key, gateway, *mark]
            )

    def _write_cells(self, grain: Grain, cells: Cells) -> None:
        oldest = 0
        if grain in KEPT_S:
            oldest = int((self._now.timestamp() - KEPT_S[grain]) / grain.length.total_seconds())
        self._database.executemany(
            _ADD.format(grain),
            (
                [self._id(series), start, *sums.stored()]
                for (series, start), sums in cells.items()
                if start >= oldest
            ),
        )

    def _id(self, series: tuple[str, ...]) -> int:
        if series not in self._ids:
            places = ", ".join("?" * len(series))
            added = self._database.execute(
                f"INSERT INTO series ({', '.join(SERIES)}) VALUES ({places})",  # noqa: S608
                series,
            )
            self._ids[series] = added.lastrowid or 0
        return self._ids[series]

    def finish(self) -> None:
        """Note that all logs were looked at; once a day, drop cells past their time."""
        execute, now = self._database.execute, self._now.timestamp()
        with _transaction(self._database):
            (before,) = execute("SELECT max(time) FROM ingested").fetchone()
            if before is not None and before // 86400 != now // 86400:
                for grain, kept in KEPT_S.items():
                    oldest = (now - kept) // grain.length.total_seconds()
                    execute(f"DELETE FROM {grain} WHERE start < ?", [oldest])  # noqa: S608
            execute("DELETE FROM ingested")
            execute("INSERT INTO ingested VALUES (?)", [now])


def _line_end(segment: Segment, start: int) -> int:
    """Return the end of the line that has begun before an offset."""
    while part := segment.read_rows(start, BATCH_BYTES):
        if found := part.find(b"\n") + 1:
            return start + found
        start += len(part)
    return start
