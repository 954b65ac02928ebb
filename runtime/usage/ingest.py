"""Brings the rows of usage logs into the store: sums of a batch and its mark in one transaction.

A run that is killed at any point has ingested whole batches, and the next run goes on from the
marks. A row counts once, in whatever log it is found again. One process writes at a time.
"""

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from fleet.errors import FleetError
from fleet.usage import COUNTS, Grain
from runtime.files import make_private, open_plain
from runtime.usage.batch import KEPT_S, TOO_LONG, Batch, Cells, IngestedParts, LogPart
from runtime.usage.log import TAIL_BYTES, Segment, distinct, is_same_log, segments
from runtime.usage.row import UsageRow, translate_lines
from runtime.usage.store import seen
from runtime.usage.tables import FOLDER, SERIES, STORE_FILE, alone, opened, told_errors, transaction

BATCH_BYTES: Final = 16 * 2**20
"""Upper bound of a transaction, in bytes of a log (35,000 rows or so): bounds memory."""
_ROW: Final = msgspec.json.Decoder(UsageRow)
_ADD: Final = (
    f"INSERT INTO {{}} VALUES ({', '.join('?' * (3 + len(COUNTS)))}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
    + ", sketches = added(sketches, excluded.sketches)"
)
_SEEN: Final = "SELECT seen FROM users WHERE client = ? AND alias = ? AND version = ? AND day = ?"


@dataclass(slots=True)
class Ingested:
    """The rows that a run has brought into the store."""

    rows: int = 0
    duplicates: int = 0
    damaged: Counter[Path] = field(default_factory=Counter)
    """Lines that are no row, by log."""
    cut: list[Path] = field(default_factory=list)
    """Logs whose ingested rows were cut off or changed since; rows may be lacking."""


class _Mark(NamedTuple):
    """The bytes of a log that have been ingested, and their figures, as in the table."""

    size: int = 0
    rows: int = 0
    newest: float | None = None
    duplicates: int = 0
    damaged: int = 0
    cut: int = 0
    tail: bytes | None = b""
    """The last bytes of the log before `size`; None: an earlier release has ingested them."""


def ingest(
    state_dir: Path, now: datetime, *, wait_s: float = 0.0, logs: Iterable[Segment] | None = None
) -> Ingested:
    """Bring new rows into the store of a state folder; `logs` None: of all its gateways.

    `wait_s`: upper bound of the wait for another process that ingests.

    Raises:
        FleetError: FC6063 to FC6066; what had been ingested before stays.
        OSError: a log cannot be read.
    """
    found = distinct(segments(state_dir, copies=True) if logs is None else logs)
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
    with alone(folder, wait_s), told_errors(path), opened(path) as database:
        run = _IngestRun(database, now, {segment.key for segment in found})
        for segment in found:
            run.ingest(segment)
        run.finish()
    return run.done


class _IngestRun:
    """A run of ingestion over the logs of all gateways."""

    def __init__(self, database: sqlite3.Connection, now: datetime, keys: set[str]) -> None:
        """Begin a run over the logs with `keys`."""
        self._database, self._now, self._keys = database, now, keys
        self._parts = IngestedParts(database)
        names = ", ".join(SERIES)
        known = database.execute(f"SELECT id, {names} FROM series")  # noqa: S608 (our names)
        self._ids: dict[tuple[str, ...], int] = {tuple(series): id_ for id_, *series in known}
        self.done = Ingested()

    def ingest(self, segment: Segment) -> None:
        """Ingest the new rows of a log.

        There are three cases. A log that ends as it was ingested, or goes on from there, is read
        from its mark on. An unknown log is read whole. So is a log that was cut, or put in
        the place of another, or changed: its rows that were counted are known by their identity.
        """
        mark = self._mark(segment)
        if mark.tail is None:
            mark = self._identify(segment, mark)
        if segment.end < mark.size or self._is_changed(segment, mark):
            self.done.cut.append(segment.path)
            with transaction(self._database):
                self._parts.note_last(segment, mark.size, mark.tail or b"")
            mark = mark._replace(size=0, tail=b"", cut=mark.cut + 1)
        if segment.end > mark.size:
            with suppress(OSError), open_plain(segment.path) as log:
                os.fdatasync(log.fileno())  # else a power failure could take what the mark covers
        while following := self._ingest_batch(segment, mark):
            mark = following

    def _is_changed(self, segment: Segment, mark: _Mark) -> bool:
        """Return whether a log ends otherwise than ingested, or grew and has other parts before."""
        tail = mark.tail or b""
        is_longer = segment.end > mark.size
        is_altered = segment.read(mark.size - len(tail), len(tail)) not in {tail, b""}
        return is_altered or (is_longer and not self._parts.are_in(segment, mark.size))

    def _mark(self, segment: Segment) -> _Mark:
        """Return the mark of a log, also from before its first row was damaged (another key)."""
        query = f"SELECT {', '.join(_Mark._fields)} FROM marks WHERE "  # noqa: S608 (our names)
        execute = self._database.execute
        if known := execute(f"{query} key = ?", [segment.key]).fetchone():
            return _Mark(*known)
        others = "SELECT key, size, tail FROM marks WHERE length(tail) > 0 AND size <= ?"
        for key, size, tail in execute(others, [segment.end]):
            if key not in self._keys and is_same_log(segment, size, tail):
                with transaction(self._database):
                    self._parts.rename(key, segment.key)
                return self._mark(segment)
        return _Mark()

    def _identify(self, segment: Segment, mark: _Mark) -> _Mark:
        """Record the parts of a log that an earlier release has ingested."""
        mark = mark._replace(tail=b"")
        end = min(mark.size, segment.end)
        with transaction(self._database):
            start, before = 0, self._parts.last_identity(segment.key, 0)
            while start < end:
                text = segment.read_rows(start, min(BATCH_BYTES, end - start))
                if not text:
                    break
                part = LogPart.of(segment.key, start, text, translate_lines(BytesIO(text)), before)
                self._parts.write(part)
                start, before = part.end, int(part.ids[-1])
                mark = mark._replace(tail=((mark.tail or b"") + text)[-TAIL_BYTES:])
            self._write_mark(segment, mark)
        return mark

    def _ingest_batch(self, segment: Segment, mark: _Mark, size: int = 0) -> _Mark | None:
        """Ingest rows after a mark, up to a size; return the next mark, None at the end."""
        text = segment.read_rows(mark.size, size or BATCH_BYTES)
        if not text:
            return None
        end, tail = mark.size + len(text), ((mark.tail or b"") + text)[-TAIL_BYTES:]
        if not text.endswith(b"\n"):
            text, end = TOO_LONG, _line_end(segment, end)
            tail = b""
        before = self._parts.last_identity(segment.key, mark.size)
        part = LogPart.of(segment.key, mark.size, text, translate_lines(BytesIO(text)), before)
        part = replace(part, end=end)
        counted, damaged = self._parts.counted(part)
        known = b"".join(islice(BytesIO(text), max(counted, default=-1) + 1))
        if known and len(known) < len(text) and end < segment.end:
            # Rows after the last counted row: a counted row beyond tells whether they are damaged.
            return self._ingest_batch(segment, mark, len(known))
        batch, newest, broken = Batch(self._now), mark.newest or 0.0, len(damaged)
        twins, here = len(counted), set[int]()
        lines = translate_lines(BytesIO(text))  # line by line, for memory
        for place, (line, row_id) in enumerate(zip(lines, part.ids[1:].tolist(), strict=True)):
            if place in counted or place in damaged:
                continue
            try:
                row = _ROW.decode(line)
                if row_id in here:
                    twins += 1
                else:
                    newest = max(newest, batch.add(row))
                    here.add(row_id)
            except (ValueError, OverflowError, RecursionError):
                broken += 1
        mark = _Mark(
            end, mark.rows + batch.rows, newest or None, mark.duplicates + twins,
            mark.damaged + broken, mark.cut, tail,
        )  # fmt: skip
        self._write(batch, segment, mark, part)
        self.done.rows += batch.rows
        self.done.duplicates += twins
        self.done.damaged += Counter({segment.path: broken})
        return mark

    def _write(self, batch: Batch, segment: Segment, mark: _Mark, part: LogPart) -> None:
        """Write sums, users, identities and the mark, all or nothing."""
        execute = self._database.execute
        with transaction(self._database):
            for grain, cells in batch.cells().items():
                self._write_cells(grain, cells)
            for key, units in batch.users.items():
                (before,) = execute(_SEEN, key).fetchone() or (None,)
                execute("REPLACE INTO users VALUES (?, ?, ?, ?, ?)", [*key, seen(units, before)])
            self._parts.write(part)
            self._write_mark(segment, mark)

    def _write_mark(self, segment: Segment, mark: _Mark) -> None:
        self._database.execute(
            f"REPLACE INTO marks (key, gateway, {', '.join(mark._fields)}) "  # noqa: S608 (our names)
            f"VALUES ({', '.join('?' * (2 + len(mark)))})",
            [segment.key, segment.gateway, *mark],
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
        with transaction(self._database):
            (before,) = execute("SELECT max(time) FROM ingested").fetchone()
            if before is not None and before // 86400 != now // 86400:
                for grain, kept in KEPT_S.items():
                    oldest = (now - kept) // grain.length.total_seconds()
                    execute(f"DELETE FROM {grain} WHERE start < ?", [oldest])  # noqa: S608
                self._parts.forget(now - KEPT_S[Grain.HOUR])
            execute("DELETE FROM ingested")
            execute("INSERT INTO ingested VALUES (?)", [now])


def _line_end(segment: Segment, start: int) -> int:
    """Return the end of the line that has begun before an offset."""
    while part := segment.read_rows(start, BATCH_BYTES):
        if found := part.find(b"\n") + 1:
            return start + found
        start += len(part)
    return start


MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"nfs4?|cifs|smb3?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|beegfs|ocfs2|gfs2|davfs"
    r"|fuse\.(sshfs|glusterfs|ceph|s3fs|rclone|juicefs|davfs|gcsfuse)"
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def network_filesystem(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the type of the network file system that holds a folder; empty: it is local."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:  # a system without it
        return ""
    real, longest, kind = folder.resolve(), -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(_ESCAPE.sub(lambda found: chr(int(found[1], 8)), left.split(" ")[4]))
        if real.is_relative_to(point) and len(point.parts) >= longest:
            longest, kind = len(point.parts), right.split(" ")[0]
    return kind if _NETWORK.fullmatch(kind) else ""
