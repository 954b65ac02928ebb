"""Usage as Parquet, and questions to it and to what is not compacted yet.

DuckDB reads and writes; it is an optional extra. What was logged is never changed: a part is
written beside the logs, then the mark up to which a log has been compacted. A run that dies in
between writes the same part again; a row that is found twice counts once, by its request's id.
Rows of an Envoy are kept and summed up in the words of ours.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from fleet.errors import FleetError, problem
from runtime.files import replace_file, sync_folder
from runtime.gateway.envoyrows import in_our_words
from runtime.gateway.usage import LIVE, Row
from runtime.gateway.usagesegments import segments

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FOLDER: Final = "usage"
MARKS: Final = "compacted.json"
_TYPES: Final = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}

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
FROM found GROUP BY ALL ORDER BY ALL
"""


@dataclass(slots=True)
class Compacted:
    """What a run has written."""

    rows: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows a question is about; empty: all."""

    client: str = ""
    alias: str = ""
    since: str = ""
    """Time in ISO 8601."""
    purpose: str = LIVE
    billed: frozenset[str] | None = None
    """Instead of a purpose, what is billed: all that is live, and evaluations of these clients."""

    def condition(self) -> tuple[str, list[Any]]:
        """Return it as SQL and its parameters."""
        tests = {
            "client = ?": self.client,
            "alias = ?": self.alias,
            "purpose = ?": self.purpose if self.billed is None else "",
            "time::TIMESTAMPTZ >= ?::TIMESTAMPTZ": self.since,
        }
        given = {test: value for test, value in tests.items() if value}
        values: list[Any] = [*given.values()]
        if self.billed is not None:
            paid = sorted(self.billed)
            given["purpose = ? OR (purpose = 'eval' AND client IN (SELECT unnest(?)))"] = ""
            values += [LIVE, paid]
        return " AND ".join(f"({each})" for each in ("request_id IS NOT NULL", *given)), values


def compact(state_dir: Path) -> Compacted:
    """Write what has been logged since the last run as Parquet into the state folder's `usage`.

    Raises:
        FleetError: DuckDB is not installed.
        OSError: a file cannot be read or written.
    """
    folder, done = state_dir / FOLDER, Compacted()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _database() as database:
        marks = _marks(folder)
        for each in segments(state_dir):
            start = marks.get(each.key, 0)
            rows = _ours(each.part(start))
            if not rows:
                continue
            name = f"{each.gateway}-{each.key}-{start}.parquet"
            done.rows += _write(database, rows, folder / name)
            done.parts += 1
            marks[each.key] = each.end
            replace_file(folder / MARKS, json.dumps(marks, sort_keys=True).encode())
    return done


def summary(state_dir: Path, wanted: Wanted) -> list[dict[str, Any]]:
    """Return requests, errors, users, tokens and times by client, alias and version.

    `recounted` are requests whose tokens no server reported, see `Row.counted`. Users are those
    whom requests name; each rollout of an alias counts them anew. Times are seconds; percentiles
    are of the rows, not of buckets.

    Raises:
        FleetError, OSError: as `compact`.
    """
    return _asked(state_dir, wanted, _SUMMARY)


def newest(state_dir: Path, wanted: Wanted, count: int) -> list[dict[str, Any]]:
    """Return the last rows, oldest first.

    Raises:
        FleetError, OSError: as `compact`.
    """
    query = f"FROM (FROM found ORDER BY time DESC, request_id LIMIT {count:d}) ORDER BY time"
    return _asked(state_dir, wanted, query)


def _asked(state_dir: Path, wanted: Wanted, query: str) -> list[dict[str, Any]]:
    """Return the rows of a query over the relation `found`, each row once."""
    folder = state_dir / FOLDER
    with _database() as database, tempfile.TemporaryDirectory() as scratch:
        marks = _marks(folder)
        tail = Path(scratch, "tail.jsonl")
        with tail.open("wb") as stream:
            for each in segments(state_dir):
                stream.write(_ours(each.part(marks.get(each.key, 0))))
        parts = sorted(map(str, folder.glob("[!.]*.parquet")))
        sources = [_lines(tail)]
        if parts:
            sources.append(f"FROM read_parquet({_literal(parts)}, union_by_name = true)")
        condition, values = wanted.condition()
        once = "QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY time) = 1"
        made = database.execute(
            f"WITH every AS ({' UNION ALL BY NAME '.join(sources)}), "
            f"found AS (FROM every WHERE {condition} {once}) {query}",
            values,
        )
        names = [each[0] for each in made.description or ()]
        return [dict(zip(names, row, strict=True)) for row in made.fetchall()]


def _write(database: "DuckDBPyConnection", rows: bytes, part: Path) -> int:
    """Write rows as a Parquet file that is whole or not there; return how many there are."""
    scratch = part.with_name(f".{part.name}")
    with tempfile.TemporaryDirectory(dir=part.parent) as name:
        lines = Path(name, "rows.jsonl")
        lines.write_bytes(rows)
        options = "(FORMAT parquet, COMPRESSION zstd)"
        done = database.execute(f"COPY ({_lines(lines)}) TO {_literal(str(scratch))} {options}")
        (count,) = done.fetchone() or (0,)
    scratch.chmod(0o600)
    with scratch.open("rb") as stream:
        os.fsync(stream.fileno())
    scratch.replace(part)
    sync_folder(part.parent)
    return int(count)


def _ours(rows: bytes) -> bytes:
    return b"".join(in_our_words(rows.splitlines(keepends=True)))


def _lines(path: Path) -> str:
    """Return what reads rows; lines that are damaged are left out."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _columns())
    return (
        f"FROM read_json({_literal(str(path))}, columns = {{{columns}}}, "
        "format = 'newline_delimited', ignore_errors = true)"
    )


def _columns() -> Iterator[tuple[str, str]]:
    for name, hint in get_type_hints(Row).items():
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        yield name, _TYPES[next(each for each in kinds if each is not type(None))]


def _literal(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(map(_literal, value))}]"


def _marks(folder: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads((folder / MARKS).read_bytes())
    except (OSError, ValueError):  # without it all is compacted anew, and counted once
        return {}
    return found


@contextmanager
def _database() -> "Iterator[DuckDBPyConnection]":
    try:
        import duckdb  # noqa: PLC0415 (an optional extra)
    except ImportError:
        raise FleetError(
            problem(
                "FC6060",
                "DuckDB is not installed",
                "Usage is written and read as Parquet by DuckDB, which comes with an extra.",
                command="pip install 'fleetctl[dashboard]'",
            )
        ) from None
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        yield database
