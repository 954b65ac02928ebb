"""Usage as Parquet, and queries over the Parquet files and the rows that are not compacted yet.

DuckDB, an optional extra, reads and writes. Logs are never changed: a part is written beside them,
then the mark up to which a log has been compacted. A run that dies in between writes the same part
again; a row that is found twice counts once, by its request's id. Rows of an Envoy are kept with
the fields of `UsageRow`.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from fleet.errors import FleetError
from runtime.files import PRIVATE, make_private, put_in_place, replace_file
from runtime.usage.row import LIVE, UsageRow, translate_lines
from runtime.usage.segments import segments
from runtime.usage.store import FOLDER

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARKS: Final = "compacted.json"
"""File with the bytes that have been compacted, by segment key."""
_SQL_TYPES: Final = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}

_SUMMARY: Final = """
SELECT client, alias, version, count(*) AS requests,
    count(*) FILTER (status >= 400 AND status <> 499) AS errors,
    count(*) FILTER (status = 499) AS left_by_client,
    count(counted) AS recounted,
    count(DISTINCT unit) AS users,
    coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
    coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
    round(quantile_cont(latency_s, 0.5), 6) AS latency_p50_s,
    round(quantile_cont(latency_s, 0.95), 6) AS latency_p95_s,
    round(quantile_cont(latency_s, 0.99), 6) AS latency_p99_s,
    round(quantile_cont(first_byte_s, 0.5), 6) AS first_byte_p50_s,
    round(quantile_cont(first_byte_s, 0.95), 6) AS first_byte_p95_s,
    round(quantile_cont(first_byte_s, 0.99), 6) AS first_byte_p99_s
FROM selected GROUP BY ALL ORDER BY ALL
"""


@dataclass(slots=True)
class Compaction:
    """The rows and parts that a compaction has written."""

    rows: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Which rows a query is about; an empty field matches all."""

    client: str = ""
    alias: str = ""
    since: str = ""
    """Time in ISO 8601."""
    purpose: str = LIVE
    billed: frozenset[str] | None = None
    """Billed rows instead of a purpose: all live rows, and evaluations of these clients."""

    def condition(self) -> tuple[str, list[Any]]:
        """Return the filter as an SQL condition and its parameters."""
        tests = {
            "client = ?": self.client,
            "alias = ?": self.alias,
            "purpose = ?": self.purpose if self.billed is None else "",
            "time::TIMESTAMPTZ >= ?::TIMESTAMPTZ": self.since,
        }
        given = {test: value for test, value in tests.items() if value}
        values: list[Any] = [*given.values()]
        if self.billed is not None:
            given["purpose = ? OR (purpose = 'eval' AND client IN (SELECT unnest(?)))"] = ""
            values += [LIVE, sorted(self.billed)]
        return " AND ".join(f"({test})" for test in ("request_id IS NOT NULL", *given)), values


def compact(state_dir: Path) -> Compaction:
    """Write the rows since the last compaction as Parquet into the folder `usage`.

    Raises `FleetError` without DuckDB, `OSError` where a file cannot be read or written.
    """
    folder, compaction = state_dir / FOLDER, Compaction()
    make_private(folder)
    with _database() as database:
        marks = _read_marks(folder)
        for segment in segments(state_dir):
            start = marks.get(segment.key, 0)
            rows = _translate(segment.read_rows(start))
            if not rows:
                continue
            name = f"{segment.gateway}-{segment.key}-{start}.parquet"
            compaction.rows += _write_part(database, rows, folder / name)
            compaction.parts += 1
            marks[segment.key] = segment.end
            replace_file(folder / MARKS, json.dumps(marks, sort_keys=True).encode())
    return compaction


def summarize(state_dir: Path, usage_filter: UsageFilter) -> list[dict[str, Any]]:
    """Return requests, errors, users, tokens and times by client, alias and version.

    `recounted`: requests whose output tokens no server reported, see `UsageRow.counted`.
    `users`: users or sessions that requests name; each rollout of an alias counts them anew.
    Times are seconds; percentiles are of the rows, not of buckets. Raises as `compact`.
    """
    return _query(state_dir, usage_filter, _SUMMARY)


def last_rows(state_dir: Path, usage_filter: UsageFilter, count: int) -> list[dict[str, Any]]:
    """Return the last rows, oldest first; raises as `compact`."""
    query = f"FROM (FROM selected ORDER BY time DESC, request_id LIMIT {count:d}) ORDER BY time"
    return _query(state_dir, usage_filter, query)


def _query(state_dir: Path, usage_filter: UsageFilter, query: str) -> list[dict[str, Any]]:
    """Return the result of a query over the relation `selected`, which has every row once."""
    folder = state_dir / FOLDER
    with _database() as database, tempfile.TemporaryDirectory() as scratch:
        marks = _read_marks(folder)
        tail = Path(scratch, "tail.jsonl")
        with tail.open("wb") as stream:
            for segment in segments(state_dir):
                stream.write(_translate(segment.read_rows(marks.get(segment.key, 0))))
        parts = sorted(map(str, folder.glob("[!.]*.parquet")))
        sources = [_from_json(tail)]
        if parts:
            sources.append(f"FROM read_parquet({_literal(parts)}, union_by_name = true)")
        condition, values = usage_filter.condition()
        once = "QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY time) = 1"
        result = database.execute(
            f"WITH logged AS ({' UNION ALL BY NAME '.join(sources)}), "
            f"selected AS (FROM logged WHERE {condition} {once}) {query}",
            values,
        )
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _write_part(database: "DuckDBPyConnection", rows: bytes, part: Path) -> int:
    """Write rows as a Parquet file that is whole or not there; return the number of rows."""
    scratch = part.with_name(f".{part.name}")
    with tempfile.TemporaryDirectory(dir=part.parent) as name:
        lines = Path(name, "rows.jsonl")
        lines.write_bytes(rows)
        options = "(FORMAT parquet, COMPRESSION zstd)"
        copy = f"COPY ({_from_json(lines)}) TO {_literal(str(scratch))} {options}"
        (count,) = database.execute(copy).fetchone() or (0,)
    scratch.chmod(PRIVATE)
    put_in_place(scratch, part)
    return int(count)


def _translate(rows: bytes) -> bytes:
    return b"".join(translate_lines(rows.splitlines(keepends=True)))


def _from_json(path: Path) -> str:
    """Return the SQL that reads rows from a file; damaged lines are left out."""
    columns = ", ".join(f"{name}: '{sql_type}'" for name, sql_type in _columns())
    return (
        f"FROM read_json({_literal(str(path))}, columns = {{{columns}}}, "
        "format = 'newline_delimited', ignore_errors = true)"
    )


def _columns() -> Iterator[tuple[str, str]]:
    for name, hint in get_type_hints(UsageRow).items():
        types = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        yield name, _SQL_TYPES[next(python for python in types if python is not type(None))]


def _literal(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(map(_literal, value))}]"


def _read_marks(folder: Path) -> dict[str, int]:
    try:
        marks: dict[str, int] = json.loads((folder / MARKS).read_bytes())
    except (OSError, ValueError):  # without marks all is compacted anew, and counted once
        return {}
    return marks


@contextmanager
def _database() -> "Iterator[DuckDBPyConnection]":
    try:
        import duckdb  # noqa: PLC0415 (an optional extra)
    except ImportError:
        raise FleetError.of(
            "FC6060",
            "DuckDB is not installed",
            "Usage is written and read as Parquet by DuckDB, which comes with an extra.",
            command="pip install 'fleetctl[dashboard]'",
        ) from None
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        yield database
