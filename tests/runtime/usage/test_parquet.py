"""Usage as Parquet: nothing is lost, nothing counts twice, whenever a run dies."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from fleet.errors import FleetError
from runtime.usage.ingest import ingest
from runtime.usage.log import USAGE_FILE, UsageLog, segments
from runtime.usage.parquet import KEEP_LOGS, KEEP_PARTS, MARKS, compact
from runtime.usage.row import UsageRow
from runtime.usage.tables import FOLDER
from tests.runtime.usage.sums import summed

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)
OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


def row(number: int, **more: Any) -> bytes:
    made: dict[str, Any] = {
        "time": f"2026-11-25T08:{number // 60 % 60:02}:{number % 60:02}.000+00:00",
        "request_id": f"{number:032x}",
        "client": "acme",
        "alias": "acme-support",
        "version": OLD,
        "status": 200,
        "latency_s": (number % 100 + 1) / 100,
        "input_tokens": 3,
        "output_tokens": 5,
    }
    return msgspec.json.encode(UsageRow(**(made | more)))


def logged(state: Path, *rows: bytes, gateway: str = "main", rotate: int = 2**20) -> None:
    folder = state / "gateways" / gateway
    folder.mkdir(parents=True, exist_ok=True)
    with UsageLog(folder / USAGE_FILE, rotate) as log:
        for each in rows:
            log.append(each)


def counted(state: Path) -> int:
    """Return the number of rows as Parquet, each of them there once."""
    with duckdb.connect() as database:
        parts = f"read_parquet('{state / FOLDER}/*.parquet')"
        found = database.execute(f"SELECT count(*), count(DISTINCT request_id) FROM {parts}")  # noqa: S608
        ((rows, requests),) = found.fetchall()
    assert rows == requests
    return int(rows)


def test_compaction_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert compact(tmp_path, NOW).parts == 0
    logged(tmp_path, *(row(number) for number in range(30)), rotate=3000)  # several files
    assert compact(tmp_path, NOW).rows == 30
    assert compact(tmp_path, NOW).parts == 0
    logged(tmp_path, *(row(number) for number in range(30, 50)), rotate=3000)  # puts more aside
    assert compact(tmp_path, NOW).rows == 20
    assert counted(tmp_path) == 50
    assert all(each.stat().st_mode & 0o077 == 0 for each in (tmp_path / FOLDER).iterdir())


def test_a_log_goes_once_store_and_parquet_hold_its_rows(tmp_path: Path) -> None:
    logged(tmp_path, *(row(number) for number in range(30)), rotate=3000)
    before, later = summed(tmp_path), datetime.now(UTC) + KEEP_LOGS + timedelta(days=1)
    assert compact(tmp_path, datetime.now(UTC)).removed == 0
    logged(tmp_path, *(row(number) for number in range(30, 40)), rotate=3000)
    ((part, *_),) = [sorted((tmp_path / FOLDER).glob("*.parquet"))]
    whole = part.read_bytes()
    with duckdb.connect() as database:  # a part that lacks a row
        copy = f"COPY (FROM '{part}' OFFSET 1) TO '{part}.new' (FORMAT parquet)"
        database.execute(copy)
    Path(f"{part}.new").replace(part)
    done = compact(tmp_path, later)
    assert len(done.kept) == 1
    assert done.removed  # later logs are not in the store yet
    part.write_bytes(whole)
    ingest(tmp_path, NOW)
    assert compact(tmp_path, later).kept == []
    assert [path.name for path in (tmp_path / "gateways/main").iterdir()] == [USAGE_FILE]
    assert counted(tmp_path) == 40
    assert [each["requests"] for each in before] == [30]
    assert [each["requests"] for each in summed(tmp_path)] == [40]
    compact(tmp_path, later + KEEP_PARTS)
    assert not [*(tmp_path / FOLDER).glob("*.parquet")]


@pytest.mark.parametrize("step", ["usage.parquet.replace_file", "files.sync", "files.os.fsync"])
def test_an_interrupted_compaction_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged(tmp_path, *(row(number) for number in range(10)))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"runtime.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            compact(tmp_path, NOW)
    logged(tmp_path, row(10))
    assert compact(tmp_path, NOW).rows == 11
    assert counted(tmp_path) == 11
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 1


def test_lost_marks_and_damaged_lines_do_no_harm(tmp_path: Path) -> None:
    logged(tmp_path, row(1), b"{no json", row(2))
    with (tmp_path / "gateways/main" / USAGE_FILE).open("ab") as stream:
        stream.write(row(3)[:40])  # a row that is being written
    compact(tmp_path, NOW)
    (tmp_path / FOLDER / MARKS).write_text("{")
    logged(tmp_path, row(4))  # cuts off what was incomplete
    compact(tmp_path, NOW)
    assert counted(tmp_path) == 3


def test_parquet_holds_every_column_with_its_type(tmp_path: Path) -> None:
    logged(tmp_path, row(1))
    compact(tmp_path, NOW)
    with duckdb.connect() as database:
        database.execute(f"DESCRIBE FROM '{tmp_path / FOLDER}/*.parquet'")
        kinds = {name: kind for name, kind, *_ in database.fetchall()}
    assert list(kinds) == list(UsageRow.__struct_fields__)
    assert (kinds["status"], kinds["latency_s"], kinds["stream"]) == ("BIGINT", "DOUBLE", "BOOLEAN")


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(FleetError) as caught:
        compact(tmp_path, NOW)
    assert caught.value.diagnostics[0].command == "pip install 'duckdb>=1.2'"


def test_a_file_that_is_put_aside_while_others_are_read_is_read_whole(tmp_path: Path) -> None:
    logged(tmp_path, *(row(number) for number in range(8)), rotate=600)
    folder = tmp_path / "gateways/main"
    before = len([*folder.glob("usage*.jsonl")])
    assert before > 2
    read = b""
    for segment in segments(tmp_path):
        if not read:
            logged(tmp_path, row(8), rotate=1)
            assert len([*folder.glob("usage*.jsonl")]) == before + 1
        read += segment.read_rows(0)
    ids = [json.loads(line)["request_id"] for line in read.splitlines()]
    assert ids == [f"{number:032x}" for number in range(8)]
