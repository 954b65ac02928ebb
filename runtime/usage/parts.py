"""Knows which rows have been counted: by the identities of the rows of every ingested part.

A part is what a transaction took from a log. Rows are looked up among the parts that have rows of
the same hours, one part after another, so that neither time nor memory grows with the store.
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.usage.log import Segment, is_same_log
from runtime.usage.row import translate_lines

_COMPARED_BYTES: Final = 16 * 2**20
"""Upper bound of the bytes of a log that are compared when the log grew, but for a part."""
_BEGIN: Final = 0
"""In the place of a row before the first row of a log."""
_NO_ROW: Final = 1
"""In the place of a line that is no row."""
TOO_LONG: Final = b"-"
"""In the place of a line that is longer than a batch: no row."""
_TOO_LONG: Final = hashlib.sha256(TOO_LONG).digest()
_ID_BYTES: Final = 8
"""Among 100 million rows two have the same identity with a probability of 0.03 %."""
_HOUR: Final = len("2026-11-25T08")
_Identities = NDArray[np.uint64]


class _Key(msgspec.Struct):
    """The identity of a row: clients may give an Envoy the same id again."""

    time: str
    request_id: str


_KEY: Final = msgspec.json.Decoder(_Key)


@dataclass(frozen=True, slots=True)
class LogPart:
    """Lines of a log, as they were ingested in a transaction."""

    key: str
    start: int
    end: int
    """Bytes of the log."""
    sha256: bytes
    hours: frozenset[str]
    """Such as `2026-11-25T08`."""
    ids: _Identities
    """The identities of the lines, after that of the line before the part."""

    @classmethod
    def of(cls, key: str, start: int, text: bytes, lines: Iterable[bytes], before: int) -> Self:
        """Identify the lines of a text that begins in a log at `start`."""
        hours, ids = set[str](), [before.to_bytes(_ID_BYTES, "little")]
        no_row = _NO_ROW.to_bytes(_ID_BYTES, "little")
        for line in lines:
            try:
                row = _KEY.decode(line)
                name = f"{row.time} {row.request_id}".encode()
            except (ValueError, RecursionError):
                ids.append(no_row)
            else:
                hours.add(row.time[:_HOUR])
                ids.append(hashlib.blake2b(name, digest_size=_ID_BYTES).digest())
        digest = hashlib.sha256(text).digest()
        found = np.frombuffer(b"".join(ids), "<u8")
        return cls(key, start, start + len(text), digest, frozenset(hours), found)


class IngestedParts:
    """The parts in the store."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def last_identity(self, key: str, end: int) -> int:
        """Return the identity of the line that ends at an offset of a log."""
        if not end:
            return _BEGIN
        query = "SELECT ids FROM parts WHERE key = ? AND end = ? ORDER BY id DESC"
        (ids,) = self._database.execute(query, [key, end]).fetchone() or (b"",)
        return int.from_bytes(ids[-_ID_BYTES:], "little") or _NO_ROW

    def are_in(self, segment: Segment, size: int) -> bool:
        """Return whether a log has the newest parts before an offset, by their hashes."""
        newest = "end <= ? ORDER BY end DESC, id DESC LIMIT 1000"
        query = f"SELECT start, end, sha256 FROM parts WHERE key = ? AND {newest}"  # noqa: S608
        position = size
        for start, end, sha256 in self._database.execute(query, [segment.key, size]):
            if end == position >= size - _COMPARED_BYTES:  # else of an older reading of the log
                position = start
                text = segment.read(start, end - start)
                if sha256 not in {hashlib.sha256(text).digest(), _TOO_LONG} and text:
                    return False
        return True

    def note_last(self, segment: Segment, size: int, tail: bytes) -> None:
        """Record the row before an offset as counted, where a few of its bytes changed since."""
        rows = tail.splitlines(keepends=True)[-2:]
        if rows and is_same_log(segment, size, b"".join(rows)):
            query = "SELECT ids FROM parts WHERE key = ? AND end = ? ORDER BY id DESC"
            (ids,) = self._database.execute(query, [segment.key, size]).fetchone() or (b"",)
            before = int.from_bytes(ids[-2 * _ID_BYTES : -_ID_BYTES], "little") or _NO_ROW
            last = segment.read(size - len(rows[-1]), len(rows[-1]))
            part = LogPart.of(segment.key, size - len(last), last, translate_lines([last]), before)
            self.write(part)

    def write(self, part: LogPart) -> None:
        """Record a part."""
        rows = int(np.count_nonzero(part.ids[1:] != _NO_ROW))
        place = self._database.execute(
            "INSERT INTO parts (key, start, end, rows, sha256, ids) VALUES (?, ?, ?, ?, ?, ?)",
            [part.key, part.start, part.end, rows, part.sha256, part.ids.tobytes()],
        ).lastrowid
        hours = ((hour, place) for hour in part.hours)
        self._database.executemany("INSERT INTO part_hours VALUES (?, ?)", hours)

    def counted(self, part: LogPart) -> tuple[set[int], set[int]]:
        """Return which lines of a part, numbered from 0, were counted, and which are damaged.

        Logs only grow. So a row that was never counted, in the place before a row that was counted
        after another one, is that other row with damage: to count it would count it again.
        """
        before: defaultdict[int, set[int]] = defaultdict(set)
        ids = np.unique(part.ids[1:])
        for hour_parts in self._sharing_hours(part.hours):
            known = np.frombuffer(hour_parts, "<u8")
            places = np.flatnonzero(np.isin(known[1:], ids))
            for row, previous in zip(
                known[places + 1].tolist(), known[places].tolist(), strict=True
            ):
                before[row].add(previous)
        before.pop(_NO_ROW, None)
        counted, damaged, fresh = set[int](), set[int](), list[int]()
        last = int(part.ids[0])
        for place, row in enumerate(part.ids[1:].tolist() if before else ()):
            if row in before:
                counted.add(place)
                others = before[row] - {_BEGIN, _NO_ROW}
                if others and last not in before[row]:
                    damaged.update(fresh)
                fresh, last = [], row
            elif row != _NO_ROW:
                fresh.append(place)
        return counted, damaged

    def _sharing_hours(self, hours: Iterable[str]) -> Iterable[bytes]:
        query = "SELECT part FROM part_hours WHERE hour = ?"
        places = {place for hour in hours for (place,) in self._database.execute(query, [hour])}
        for place in sorted(places):
            yield from self._database.execute(
                "SELECT ids FROM parts WHERE id = ?", [place]
            ).fetchone()

    def rename(self, before: str, key: str) -> None:
        """Note that a log has another key."""
        for table in ("marks", "parts"):
            self._database.execute(f"UPDATE {table} SET key = ? WHERE key = ?", [key, before])  # noqa: S608

    def forget(self, before: float) -> None:
        """Drop parts of which all rows are from before a time, in seconds since 1970."""
        oldest = datetime.fromtimestamp(before, UTC).isoformat()[:_HOUR]
        self._database.execute("DELETE FROM part_hours WHERE hour < ?", [oldest])
        self._database.execute("DELETE FROM parts WHERE id NOT IN (SELECT part FROM part_hours)")
