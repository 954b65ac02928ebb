"""Sums up rows by quarter of an hour, hour and day, and puts parts of the store together."""

import hashlib
import sqlite3
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import chain
from typing import Any, Final, Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from fleet.usage import COUNTS, SKETCHES, Grain, Sketch, bucket_of
from runtime.usage.log import Segment, is_same_log
from runtime.usage.row import CLIENT_LEFT, LIVE, UsageRow, translate_lines

SKETCH_STEP: Final = 2**17
"""Distance of the keys of two sketches. The sketches of a cell are one BLOB of pairs, 8 bytes a
pair, a key and a count; a key is the bucket plus this for every sketch before in `SKETCHES`."""

_Pairs: TypeAlias = dict[tuple[int, int], tuple[int, int]]


def stored_pairs(pairs: Mapping[int, int]) -> bytes:
    """Return counts by key as they lie in the file."""
    return array("i", chain.from_iterable(pairs.items())).tobytes()


def added(first: bytes, second: bytes) -> bytes:
    """Return the sum of the sketches of two cells, as they lie in the file."""
    pairs = Counter(dict(np.frombuffer(first, "<i4").reshape(-1, 2).tolist()))
    for key, count in np.frombuffer(second, "<i4").reshape(-1, 2).tolist():
        pairs[key] += count
    return stored_pairs(pairs)


def summed(blobs: Sequence[bytes]) -> bytes:
    """Return the sum of the sketches of many cells, as they lie in the file."""
    keys, counts = np.frombuffer(b"".join(blobs), "<i4").reshape(-1, 2).T
    found, place = np.unique(keys, return_inverse=True)
    return np.column_stack((found, np.bincount(place, counts))).astype("<i4").tobytes()


def merged(blobs: Sequence[bytes], pairs: _Pairs) -> Iterator[Sketch]:
    """Yield the sums of the sketches of cells, in the order of `SKETCHES`.

    `pairs` are shared by the sketches of a reading, which has few different ones: else they would
    take most of its memory.
    """
    counts: Counter[int] = Counter()
    for blob in blobs:
        its = array("i", blob)
        for key, count in zip(its[::2], its[1::2], strict=True):
            counts[key] += count
    found = sorted(counts.items())
    for number in range(len(SKETCHES)):
        base, half = number * SKETCH_STEP, SKETCH_STEP // 2
        first, end = (bisect_left(found, (base + side,)) for side in (-half, half))
        own = ((key - base, count) for key, count in found[first:end])
        yield Sketch(tuple(pairs.setdefault(pair, pair) for pair in own))


def latencies_within(cells: Sequence[tuple[int, bytes]], limit_s: float) -> tuple[int, int]:
    """Return how many starts have latencies, and of how many the p95 is within a limit.

    `cells`: start and sketches. All of them are read at once: a bill has half a million.
    """
    filled = [(start, blob) for start, blob in cells if blob]
    if not filled:
        return 0, 0
    keys, counts = np.frombuffer(b"".join(blob for _, blob in filled), "<i4").reshape(-1, 2).T
    ends = np.cumsum([len(blob) // 8 for _, blob in filled])
    begins = np.append(0, ends[:-1])
    _, place = np.unique([start for start, _ in filled], return_inverse=True)
    # The latencies are the first of `SKETCHES`, and their keys the lowest.
    answered, within = (
        np.bincount(place, np.add.reduceat(counts * (keys <= last), begins))
        for last in (SKETCH_STEP // 2, bucket_of(limit_s))
    )
    return int((answered > 0).sum()), int((100 * within >= 95 * answered)[answered > 0].sum())


KEPT_S: Final = {Grain.QUARTER: 48 * 3600, Grain.HOUR: 400 * 86400}
"""How long cells are kept at least, in seconds; days are kept for ever."""
AHEAD_S: Final = 2.0
"""A request that ended this many seconds after now shows that its gateway's clock runs ahead."""


(
    _REQUESTS, _ERRORS, _REFUSED, _REJECTED, _LEFT, _RETRIES, _INPUT, _OUTPUT, _CACHED, _INPUTS,
    _OUTPUTS, _UNKNOWN, _RECOUNTED, _JUDGED, _MISSHAPEN, _ENDED, _CUT_SHORT, _ODD, _WAITED_US,
    _KV_TOKEN_MS,
) = range(len(COUNTS))  # fmt: skip
_Series = tuple[str, str, str, str, str]
# As plain numbers: rows are compared millions of times.
_BAD_REQUEST, _SERVER_ERROR = int(HTTPStatus.BAD_REQUEST), int(HTTPStatus.INTERNAL_SERVER_ERROR)


_LATENCY, _FIRST_TOKEN, _PER_TOKEN, _WAITED, _TOKENS = (
    SKETCH_STEP * place for place in range(len(SKETCHES))
)


class CellSums:
    """The sums of a cell that is being filled."""

    __slots__ = ("counts", "pairs")

    def __init__(self) -> None:
        self.counts = [0] * len(COUNTS)
        self.pairs: defaultdict[int, int] = defaultdict(int)
        """The counts of all sketches by key, see `sketches.SKETCH_STEP`."""

    def add(self, row: UsageRow, *, is_ahead: bool) -> None:
        """Count a row."""
        counts, status, latency = self.counts, row.status, row.latency_s
        counts[_REQUESTS] += 1
        counts[_RETRIES] += row.retries
        is_answered = status < _BAD_REQUEST
        if not is_answered:
            counts[_kind(status)] += 1
        given, made = row.input_tokens, row.output_tokens
        if given is not None:
            counts[_INPUTS] += 1
            counts[_INPUT] += given
            counts[_CACHED] += row.cached_tokens or 0
        if made is not None:
            counts[_OUTPUTS] += 1
            counts[_OUTPUT] += made
        if given is None or made is None:
            counts[_UNKNOWN] += bool(row.version) and (is_answered or status == CLIENT_LEFT)
        counts[_RECOUNTED] += row.counted is not None
        counts[_ODD] += is_ahead or latency <= 0
        if row.waited_s is not None:
            counts[_WAITED_US] += round(row.waited_s * 1e6)
            self.pairs[_WAITED + bucket_of(row.waited_s)] += 1
        if status < _SERVER_ERROR:
            counts[_JUDGED] += row.format_ok is not None
            counts[_MISSHAPEN] += row.format_ok is False
            counts[_ENDED] += bool(row.finish)
            counts[_CUT_SHORT] += row.finish == "length"
        if is_answered:
            self._add_answer(row, given or 0, made or 0)

    def _add_answer(self, row: UsageRow, given: int, made: int) -> None:
        latency, first = row.latency_s, row.first_byte_s
        at_work_ms = max(0, round((latency - (row.waited_s or 0)) * 1000))
        self.counts[_KV_TOKEN_MS] += (given + made // 2) * at_work_ms
        self.pairs[_LATENCY + bucket_of(latency)] += 1
        if row.input_tokens is not None:
            self.pairs[_TOKENS + bucket_of(given + made)] += 1
        if row.stream and first is not None:
            self.pairs[_FIRST_TOKEN + bucket_of(first)] += 1
            if made > 1:
                self.pairs[_PER_TOKEN + bucket_of((latency - first) / (made - 1))] += 1

    def merge(self, other: "CellSums") -> None:
        """Add the sums of another cell."""
        self.counts = list(map(int.__add__, self.counts, other.counts))
        for key, count in other.pairs.items():
            self.pairs[key] += count

    def stored(self) -> list[Any]:
        """Return the sums as the file has them."""
        return [*self.counts, stored_pairs(self.pairs)]


def _kind(status: int) -> int:
    """Return the count that a status from 400 on belongs to."""
    if status == CLIENT_LEFT:
        return _LEFT
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _REFUSED
    return _ERRORS if status >= _SERVER_ERROR else _REJECTED


Cells = defaultdict[tuple[_Series, int], CellSums]
_QUARTER_S: Final = int(Grain.QUARTER.length.total_seconds())
_HOUR_S: Final = int(Grain.HOUR.length.total_seconds())
_DAY_S: Final = int(Grain.DAY.length.total_seconds())


class Batch:
    """The sums of rows that a transaction writes."""

    def __init__(self, now: datetime) -> None:
        self._now = now.timestamp()
        self._oldest = self._now - KEPT_S[Grain.QUARTER]
        self._quarters: Cells = defaultdict(CellSums)
        self._hours: Cells = defaultdict(CellSums)
        self.users: defaultdict[tuple[str, str, str, int], set[str]] = defaultdict(set)
        """Pseudonyms of users by client, alias, version and day."""
        self.rows = 0

    def add(self, row: UsageRow) -> float:
        """Count a row; return when its request ended, in seconds since 1970, at most now.

        Raises:
            ValueError: the row's time is none, or has no zone.
        """
        time = _seconds(row.time)
        began = int(time)
        series = (row.client, row.alias, row.version, row.server, row.purpose)
        is_ahead = began + row.latency_s > self._now + AHEAD_S
        self._hours[series, began // _HOUR_S].add(row, is_ahead=is_ahead)
        if began >= self._oldest:
            self._quarters[series, began // _QUARTER_S].add(row, is_ahead=is_ahead)
        if row.unit and row.purpose == LIVE:
            self.users[row.client, row.alias, row.version, began // _DAY_S].add(row.unit)
        self.rows += 1
        return min(time + row.latency_s, self._now)

    def cells(self) -> dict[Grain, Cells]:
        """Return the sums by series and start, in lengths of the grain since 1970."""
        days: Cells = defaultdict(CellSums)
        for (series, hour), sums in self._hours.items():
            days[series, hour * _HOUR_S // _DAY_S].merge(sums)
        return {Grain.QUARTER: self._quarters, Grain.HOUR: self._hours, Grain.DAY: days}


def _seconds(text: str) -> float:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time.timestamp()


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
