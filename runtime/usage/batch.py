"""Sums up rows by quarter of an hour, hour and day; knows no file and no clock."""

from collections import defaultdict
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from fleet.usage import COUNTS, SKETCHES, Grain, bucket_of
from runtime.usage.row import CLIENT_LEFT, LIVE, UsageRow
from runtime.usage.sketches import SKETCH_STEP, stored_pairs

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
