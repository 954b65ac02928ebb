"""Usage as Parquet: nothing is lost, nothing counts twice, whenever a run dies."""

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from fleet.errors import FleetError
from runtime.usage.log import USAGE_FILE, UsageLog
from runtime.usage.parquet import MARKS, UsageFilter, compact, last_rows, summarize
from runtime.usage.row import UsageRow
from runtime.usage.segments import segments
from runtime.usage.store import FOLDER

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
    return sum(each["requests"] for each in summarize(state, UsageFilter()))


def test_a_summary_holds_requests_errors_tokens_and_times(tmp_path: Path) -> None:
    logged(tmp_path, *(row(number) for number in range(100)))
    logged(tmp_path, row(100, version=NEW, status=503, input_tokens=None, output_tokens=None))
    left = row(101, version=NEW, status=499, output_tokens=2, counted="text")
    logged(tmp_path, left, gateway="second")
    logged(tmp_path, row(102, purpose="shadow"), row(103, client="globex", alias="globex-dates"))
    rows = summarize(tmp_path, UsageFilter(client="acme"))
    assert [(each["version"], each["requests"]) for each in rows] == [(OLD, 100), (NEW, 2)]
    old, new = rows
    assert (old["errors"], old["input_tokens"], old["output_tokens"]) == (0, 300, 500)
    assert (old["latency_p50_s"], old["latency_p95_s"], old["latency_p99_s"]) == (
        0.505,
        0.9505,
        0.9901,
    )
    assert (new["errors"], new["left_by_client"], new["output_tokens"]) == (1, 1, 2)
    assert (old["recounted"], new["recounted"]) == (0, 1)
    assert new["first_byte_p50_s"] is None
    (shadow,) = summarize(tmp_path, UsageFilter(purpose="shadow"))
    assert shadow["requests"] == 1
    assert summarize(tmp_path, UsageFilter(since="2026-11-25T08:01:39+00:00"))[0]["requests"] == 1
    assert summarize(tmp_path, UsageFilter(alias="it's none")) == []


def test_compaction_changes_no_answer_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert (counted(tmp_path), compact(tmp_path).parts) == (0, 0)
    logged(tmp_path, *(row(number) for number in range(30)), rotate=3000)  # several files
    before = summarize(tmp_path, UsageFilter())
    assert compact(tmp_path).rows == 30
    assert summarize(tmp_path, UsageFilter()) == before
    assert compact(tmp_path).parts == 0
    logged(tmp_path, *(row(number) for number in range(30, 50)), rotate=3000)  # puts more aside
    assert counted(tmp_path) == 50
    assert compact(tmp_path).rows == 20
    for path in (tmp_path / "gateways").rglob("*.jsonl"):
        path.unlink()  # as an operator may, after a backup
    assert counted(tmp_path) == 50
    assert [each["request_id"] for each in last_rows(tmp_path, UsageFilter(), 2)] == [
        f"{number:032x}" for number in (48, 49)
    ]
    assert all(each.stat().st_mode & 0o077 == 0 for each in (tmp_path / FOLDER).iterdir())


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
            compact(tmp_path)
    assert counted(tmp_path) == 10
    logged(tmp_path, row(10))
    assert compact(tmp_path).rows == 11
    assert counted(tmp_path) == 11
    assert len(list((tmp_path / FOLDER).glob("*.parquet"))) == 1


def test_lost_marks_and_damaged_lines_do_no_harm(tmp_path: Path) -> None:
    logged(tmp_path, row(1), b"{no json", row(2))
    with (tmp_path / "gateways/main" / USAGE_FILE).open("ab") as stream:
        stream.write(row(3)[:40])  # a row that is being written
    compact(tmp_path)
    (tmp_path / FOLDER / MARKS).write_text("{")
    logged(tmp_path, row(4))  # cuts off what was incomplete
    compact(tmp_path)
    assert counted(tmp_path) == 3


def test_parquet_holds_every_column_with_its_type(tmp_path: Path) -> None:
    logged(tmp_path, row(1))
    compact(tmp_path)
    with duckdb.connect() as database:
        database.execute(f"DESCRIBE FROM '{tmp_path / FOLDER}/*.parquet'")
        kinds = {name: kind for name, kind, *_ in database.fetchall()}
    assert list(kinds) == list(UsageRow.__struct_fields__)
    assert (kinds["status"], kinds["latency_s"], kinds["stream"]) == ("BIGINT", "DOUBLE", "BOOLEAN")
    (kept,) = last_rows(tmp_path, UsageFilter(), 1)
    assert kept == json.loads(row(1))


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(FleetError) as caught:
        summarize(tmp_path, UsageFilter())
    assert caught.value.diagnostics[0].command == "pip install 'fleetctl[dashboard]'"


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
