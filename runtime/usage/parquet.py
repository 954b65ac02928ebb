"""Writes rows as Parquet, to be kept and for free questions; removes old logs.

DuckDB, an optional extra, writes. A part is written beside the logs, then the mark up to which a
log has been compacted: a run that dies in between writes the same part again. Rows of an Envoy are
kept with the fields of `UsageRow`.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints

from fleet.codec import decode_json
from fleet.errors import FleetError
from runtime.files import PRIVATE, locked_file, make_private, put_in_place, read_plain, replace_file
from runtime.usage.log import COPY_PATTERN, LONGEST_ROW, USAGE_FILE, Segment, whole_segments
from runtime.usage.row import UsageRow, translate_lines
from runtime.usage.store import UsageStore
from runtime.usage.tables import FOLDER

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MARKS: Final = "compacted.json"
"""File with the bytes that have been compacted, by segment key."""
KEEP_LOGS: Final = timedelta(days=60)
"""How long a log stays after rotation; no rollout looks back as far."""
KEEP_PARTS: Final = timedelta(days=400)
"""How long rows are kept as Parquet, and copies from other machines at all."""
_SUMS: Final = (
    "SELECT count(*), sum(input_tokens), sum(output_tokens), sum(round(latency_s * 1e6)::HUGEINT), "
    "bit_xor(hash(request_id)) FROM ({})"
)
_SQL_TYPES: Final = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}


@dataclass(slots=True)
class Compaction:
    """The rows and parts that a compaction has written, and the number of logs removed."""

    rows: int = 0
    parts: int = 0
    removed: int = 0
    kept: list[Path] = field(default_factory=list)
    """Logs past their time that were changed since, or whose parts differ."""


def compact(state_dir: Path, now: datetime) -> Compaction:
    """Write the rows since the last compaction as Parquet; remove logs and parts past their time.

    A log is removed once it was rotated, is in the store with the hashes that it still has, and its
    Parquet was read back with the same number of rows and the same sums.

    Raises:
        FleetError: FC6060, DuckDB is not installed.
        OSError: a file cannot be read or written.
    """
    folder, done = state_dir / FOLDER, Compaction()
    make_private(folder)
    with _database() as database, locked_file(folder / "compact.lock"):
        marks = _read_marks(folder)
        with UsageStore(state_dir) as store:
            ingested = store.marks()
            parts = {key: store.parts(key) for key in ingested}
        for segment in whole_segments(state_dir):
            start, name = marks.get(segment.key, 0), f"{segment.gateway}-{segment.key}"
            rows = _translate(segment.read_rows(start))
            if rows:
                done.rows += _write_part(database, rows, folder / f"{name}-{start}.parquet")
                done.parts += 1
                for part in _parts(folder, name):  # left by a run whose mark was lost
                    if int(part.stem.rpartition("-")[2]) > start:
                        part.unlink()
                marks[segment.key] = segment.end
                replace_file(folder / MARKS, json.dumps(marks, sort_keys=True).encode())
            if _is_due(segment, now) and ingested.get(segment.key) == segment.end:
                lines = segment.read_rows(0)
                is_whole = all(
                    hashlib.sha256(lines[start:end]).digest() == sha256
                    for start, end, sha256 in parts[segment.key]
                )
                if is_whole and _are_equal(database, _translate(lines), _parts(folder, name)):
                    segment.path.unlink()
                    done.removed += 1
                else:
                    done.kept.append(segment.path)
        for part in folder.glob("[!.]*.parquet"):
            if _age(part, now) > KEEP_PARTS:
                part.unlink()
    return done


def kept_rows(state_dir: Path, since: datetime, alias: str) -> list[dict[str, Any]]:
    """Return the rows of an alias that are kept as Parquet, from a second on.

    Without DuckDB none are.
    """
    parts = sorted((state_dir / FOLDER).glob("[!.]*.parquet"))
    if not parts or find_spec("duckdb") is None:
        return []
    rows = f"FROM read_parquet({_literal([*map(str, parts)])}, union_by_name = true)"
    with _database() as database:
        moment = since.astimezone(UTC).isoformat(timespec="seconds")[:19]
        found = database.execute(f"{rows} WHERE alias = $1 AND time >= $2", [alias, moment])
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _is_due(segment: Segment, now: datetime) -> bool:
    is_copy = segment.path.match(COPY_PATTERN)
    limit = KEEP_PARTS if is_copy else KEEP_LOGS
    return segment.path.name != USAGE_FILE and _age(segment.path, now) > limit


def _age(path: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _parts(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.parquet"))


def _are_equal(database: "DuckDBPyConnection", rows: bytes, parts: Sequence[Path]) -> bool:
    """Return whether parts hold the rows of a log: the same number, the same sums."""
    if not parts:
        return False
    with _as_file(rows, parts[0].parent) as lines:
        sources = (_from_json(lines), f"FROM read_parquet({_literal([*map(str, parts)])})")
        sums = [database.execute(_SUMS.format(source)).fetchone() for source in sources]
    return sums[0] == sums[1]


def _write_part(database: "DuckDBPyConnection", rows: bytes, part: Path) -> int:
    """Write rows as a Parquet file that is whole or not there; return the number of rows."""
    scratch = part.with_name(f".{part.name}")
    with _as_file(rows, part.parent) as lines:
        options = "(FORMAT parquet, COMPRESSION zstd)"
        copy = f"COPY ({_from_json(lines)}) TO {_literal(str(scratch))} {options}"
        (count,) = database.execute(copy).fetchone() or (0,)
    scratch.chmod(PRIVATE)
    put_in_place(scratch, part)
    return int(count)


@contextmanager
def _as_file(rows: bytes, folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as name:
        lines = Path(name, "rows.jsonl")
        lines.write_bytes(rows)
        yield lines


def _translate(rows: bytes) -> bytes:
    lines = rows.splitlines(keepends=True)
    return b"".join(translate_lines(line for line in lines if len(line) <= LONGEST_ROW))


def _from_json(path: Path) -> str:
    """Return the SQL that reads rows from a file; damaged lines are left out."""
    columns = ", ".join(f"{name}: '{sql_type}'" for name, sql_type in _columns())
    return (
        f"FROM read_json({_literal(str(path))}, columns = {{{columns}}}, "
        "format = 'newline_delimited', ignore_errors = true) WHERE request_id IS NOT NULL"
    )


def _columns() -> Iterator[tuple[str, str]]:
    for name, hint in get_type_hints(UsageRow).items():
        types = get_args(hint) or (hint,)
        yield name, _SQL_TYPES[next(python for python in types if python is not type(None))]


def _literal(value: str | Sequence[str]) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"[{', '.join(map(_literal, value))}]"


def _read_marks(folder: Path) -> dict[str, int]:
    try:
        marks = decode_json(read_plain(folder / MARKS))
        return {key: int(marks[key]) for key in marks}
    except (OSError, ValueError, TypeError):  # all is compacted anew then, and counted once
        return {}


@contextmanager
def _database() -> "Iterator[DuckDBPyConnection]":
    try:
        import duckdb  # noqa: PLC0415 (an optional extra)
    except ImportError:
        raise FleetError.of(
            "FC6060",
            "DuckDB is not installed",
            "Usage is written as Parquet by DuckDB, a package of its own.",
            command="pip install 'duckdb>=1.2'",
        ) from None
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        yield database
