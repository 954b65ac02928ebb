"""Reads the usage store: an SQLite file that holds sums of rows, and no row.

`runtime.usage.ingest` alone writes it. A reader opens it read-only, for as long as a command or
the answer of a page takes; a store that is not there yet is empty.
"""

import math
import re
import sqlite3
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from fleet.usage import (
    COUNTS,
    GatewayIngest,
    Grain,
    OfClient,
    Operator,
    Scope,
    UsageCell,
    UsageFigures,
)
from runtime.usage.batch import latencies_within, merged, summed
from runtime.usage.row import LIVE
from runtime.usage.tables import FOLDER, SCHEMA, SERIES, STORE_FILE, check_version, told_errors

MANY: Final = 100
"""Upper bound of the sketches of a sum that are in memory at the same time."""


class UsageStore:
    """Reads figures; each function takes the scope, which decides whose figures it may return."""

    def __init__(self, state_dir: Path) -> None:
        """Open the store of a state folder.

        Raises:
            FleetError: FC6063, FC6065.
        """
        path = state_dir / FOLDER / STORE_FILE
        self._path = path
        with told_errors(path):
            if path.exists():
                self._database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
                version = check_version(self._database, path)
            if not path.exists() or not version:  # the first ingestion is at work
                self._database = sqlite3.connect(":memory:")
                self._database.executescript(SCHEMA)

    def cells(
        self,
        scope: Scope,
        since: datetime,
        until: datetime,
        grain: Grain = Grain.HOUR,
        by: Sequence[str] = SERIES,
        *,
        alias: str = "",
        client: str = "",
        server: str = "",
        purposes: Sequence[str] = (LIVE,),
        by_cell: bool = True,
        sketches: bool = True,
    ) -> tuple[UsageCell, ...]:
        """Return figures by the fields of `by` and, if `by_cell`, by cell; sorted by these.

        Cells count that start in `since` <= start < `until`: give whole quarters, hours or days.
        No purposes: all. Without `sketches` the figures have counts alone, which is faster.
        """
        length = int(grain.length.total_seconds())
        if isinstance(scope, OfClient):  # no server, however the fields were asked for
            by = [name for name in by if name != "server"]
            if client not in {"", scope.name}:
                return ()
            client, server = scope.name, ""
        tests = {"client = ?": client, "alias = ?": alias, "server = ?": server}
        given = {test: value for test, value in tests.items() if value}
        if purposes:
            given[f"purpose IN ({', '.join('?' * len(purposes))})"] = ""
        where = " AND ".join(("TRUE", *given))
        values = [value for value in given.values() if value]
        bounds = (-(-since.timestamp() // length), -(-until.timestamp() // length))
        fields = [f"series.{name}" if name in by else "''" for name in SERIES]
        fields.append("cell.start" if by_cell else "0")
        # Without sketches SQLite adds up; with them their bytes must be seen.
        chosen = [f"cell.{name}" if sketches else f"sum(cell.{name})" for name in COUNTS]
        last = "cell.sketches" if sketches else "x''"
        group = "" if sketches else " GROUP BY 1, 2, 3, 4, 5, 6"
        sums: dict[tuple[Any, ...], tuple[Any, list[bytes]]] = {}
        with told_errors(self._path):
            for row in self._database.execute(
                f"SELECT {', '.join([*fields, *chosen, last])} FROM series "  # noqa: S608 (our names)
                f"CROSS JOIN {grain} AS cell ON cell.series = series.id "
                f"WHERE {where} AND cell.start >= ? AND cell.start < ?{group}",
                [*values, *purposes, *bounds],
            ):
                key, counts, blob = row[: len(fields)], row[len(fields) : -1], row[-1]
                if key in sums:
                    before, blobs = sums[key]
                    counts = tuple(map(int.__add__, before, counts))
                    blobs.append(blob)
                    sums[key] = counts, blobs if len(blobs) < MANY else [summed(blobs)]
                else:
                    sums[key] = counts, [blob]
        starts, pairs = {key[-1] for key in sums}, dict[Any, Any]()
        times = {
            at: datetime.fromtimestamp(at * length, UTC) if by_cell else since for at in starts
        }
        return tuple(
            UsageCell(
                times[key[-1]],
                UsageFigures(*counts, *(merged(blobs, pairs) if sketches else ())),
                *key[:-1],
            )
            for key, (counts, blobs) in sorted(sums.items())
        )

    def counts(
        self,
        scope: Operator,
        since: datetime,
        until: datetime,
        chosen: Sequence[str],
        make: Callable[[tuple[str, ...]], Any] = tuple,
    ) -> Generator[tuple[int, Iterator[tuple[Any, ...]]]]:
        """Yield the hours in order, as hours since 1970, with their cells: names, chosen counts.

        For bills, which read half a million cells: `make` makes the names of a series once, of the
        fields in `SERIES`; cells have to be read before the next hour is asked for.
        """
        del scope  # the operator's alone
        hour = Grain.HOUR.length.total_seconds()
        columns = [f"cell.{COUNTS[COUNTS.index(name)]}" for name in chosen]
        with told_errors(self._path):
            listed = self._database.execute(f"SELECT id, {', '.join(SERIES)} FROM series")  # noqa: S608
            series = {number: make(fields) for number, *fields in listed}
            rows = self._database.execute(
                f"SELECT cell.start, cell.series, {', '.join(columns)} "  # noqa: S608 (our names)
                "FROM series CROSS JOIN hourly AS cell ON cell.series = series.id "
                "WHERE cell.start >= ? AND cell.start < ? ORDER BY cell.start",
                (-(-since.timestamp() // hour), -(-until.timestamp() // hour)),
            )
            for start, cells in groupby(rows, key=itemgetter(0)):
                yield start, ((series[cell[1]], *cell[2:]) for cell in cells)

    def hours_within(
        self, scope: Operator, alias: str, since: datetime, until: datetime, limit_s: float
    ) -> tuple[int, int]:
        """Return the hours with answers to live requests of an alias, and those of a good p95.

        The p95 of a good hour is at most the limit; sketches tell this within `ACCURACY`.
        """
        del scope  # the operator's alone
        hour = Grain.HOUR.length.total_seconds()
        with told_errors(self._path):
            cells = self._database.execute(
                "SELECT cell.start, cell.sketches FROM series "
                "CROSS JOIN hourly AS cell ON cell.series = series.id WHERE alias = ? "
                "AND purpose = ? AND cell.start >= ? AND cell.start < ?",
                (alias, LIVE, since.timestamp() // hour, until.timestamp() // hour),
            ).fetchall()
        return latencies_within(cells, limit_s)

    def last_day(self, scope: Scope, now: datetime) -> tuple[UsageCell, ...]:
        """Return live figures by client and alias of 24 hours, the last being the hour of `now`."""
        until = now.replace(minute=0, second=0, microsecond=0) + Grain.HOUR.length
        since = until - Grain.DAY.length
        return self.cells(scope, since, until, by=("client", "alias"), by_cell=False)

    def users(
        self,
        scope: Scope,
        since: datetime,
        until: datetime,
        by: Sequence[str] = ("client", "alias"),
    ) -> dict[tuple[str, ...], int]:
        """Return about how many users made live requests in UTC days, by client, alias, version.

        Within 5 % in 99 of 100 cases. A user counts anew in each rollout of an alias.
        """
        day = Grain.DAY.length.total_seconds()
        blobs: dict[tuple[str, ...], list[bytes]] = {}
        with told_errors(self._path):
            for client, *fields, blob in self._database.execute(
                f"SELECT client, {', '.join(by)}, seen FROM users WHERE day >= ? AND day < ?",  # noqa: S608
                (since.timestamp() // day, -(-until.timestamp() // day)),
            ):
                if not isinstance(scope, OfClient) or client == scope.name:
                    blobs.setdefault(tuple(fields), []).append(blob)
        return {key: about(union(found)) for key, found in sorted(blobs.items())}

    def gateways(self) -> tuple[GatewayIngest, ...]:
        """Return how far the rows of every gateway have come; for the operator."""
        with told_errors(self._path):
            rows = self._database.execute(
                "SELECT gateway, sum(rows), max(newest), sum(duplicates), sum(damaged), sum(cut) "
                "FROM marks GROUP BY gateway ORDER BY gateway"
            ).fetchall()
        return tuple(
            GatewayIngest(gateway, count, _time(newest), *others)
            for gateway, count, newest, *others in rows
        )

    def marks(self) -> dict[str, int]:
        """Return the bytes that have been ingested of a log, by its key."""
        with told_errors(self._path):
            return dict(self._database.execute("SELECT key, size FROM marks"))

    def parts(self, key: str) -> list[tuple[int, int, bytes]]:
        """Return begin, end and SHA-256 of the parts of a log since its last reading as a whole."""
        newest = "SELECT max(id) FROM parts WHERE key = ? AND start = 0"
        with told_errors(self._path):
            return self._database.execute(
                f"SELECT start, end, sha256 FROM parts WHERE key = ? AND id >= ({newest})",  # noqa: S608
                [key, key],
            ).fetchall()

    @property
    def ingested_at(self) -> datetime | None:
        """When rows were last looked for; None: never."""
        with told_errors(self._path):
            return _time(*self._database.execute("SELECT max(time) FROM ingested").fetchone())

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


_UNIT: Final = re.compile("[0-9a-f]{16}")
_INDEX_BITS: Final = 12
_REST_BITS: Final = 64 - _INDEX_BITS
_REGISTERS: Final = 1 << _INDEX_BITS
_ALPHA: Final = 0.7213 / (1 + 1.079 / _REGISTERS)


def seen(units: Iterable[str], before: bytes | None = None) -> bytes:
    """Return the registers of users, with those of `before`; other than 16 hex digits are no user.

    A few users take a few bytes, a million 3 KiB.
    """
    registers = bytearray(zlib.decompress(before)) if before else bytearray(_REGISTERS)
    for unit in units:
        if not _UNIT.fullmatch(unit):
            continue
        bits = int(unit, 16)
        place, rest = bits >> _REST_BITS & (_REGISTERS - 1), bits & ((1 << _REST_BITS) - 1)
        registers[place] = max(registers[place], _REST_BITS - rest.bit_length() + 1)
    return zlib.compress(bytes(registers), 1)


def union(blobs: Iterable[bytes]) -> bytes:
    """Return the registers of the users of all of `blobs`."""
    parts = [np.frombuffer(zlib.decompress(blob), np.uint8) for blob in blobs]
    return zlib.compress(np.maximum.reduce(parts).tobytes(), 1)


def about(blob: bytes) -> int:
    """Return about how many users there are: standard error 1.6 %."""
    registers = np.frombuffer(zlib.decompress(blob), np.uint8)
    raw = _ALPHA * _REGISTERS**2 / float(np.sum(2.0 ** -registers.astype(np.float64)))
    empty = int(np.count_nonzero(registers == 0))
    if raw <= 2.5 * _REGISTERS and empty:
        raw = _REGISTERS * math.log(_REGISTERS / empty)
    return round(raw)
