"""The reader of usage rows: copies, damage and files that cannot be read."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.usage.log import COPY_PREFIX, USAGE_FILE
from runtime.usage.read import UsageReader
from tests.runtime.usage.test_parquet import logged, row

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def test_copies_from_other_machines_are_rows_for_gates_and_no_demand(tmp_path: Path) -> None:
    logged(tmp_path, row(1), row(2, purpose="shadow"), row(3, version=""))
    folder = tmp_path / "gateways/far"
    folder.mkdir()
    (folder / f"{COPY_PREFIX}abc.jsonl").write_bytes(row(4) + b"\n")
    reader = UsageReader(tmp_path)
    ids = sorted(int(found["request_id"], 16) for found in reader.rows(LONG_AGO))
    assert ids == [1, 2, 3, 4]
    assert [request.prompt_tokens for request in reader.requests()] == [3]
    assert [path.name for path in reader.paths] == [USAGE_FILE]
    assert reader.missing == ()


@pytest.mark.parametrize("line", [b"[]", b"5", b"{", b"null", b'{"latency_us": 1}', b"\xff"])
def test_a_line_that_is_no_row_is_damaged_for_each_reading(tmp_path: Path, line: bytes) -> None:
    logged(tmp_path, row(1), line, row(2))
    reader = UsageReader(tmp_path)
    for _ in range(2):
        assert len([*reader.rows(LONG_AGO)]) == 2
        assert reader.damaged == 1
        assert len([*reader.requests()]) == 2
        assert reader.damaged == 1


def test_a_file_that_cannot_be_read_is_missing_for_gates_and_an_error_for_demand(
    tmp_path: Path,
) -> None:
    logged(tmp_path, row(1))
    unreadable = tmp_path / "gateways/main/usage-1.jsonl"
    unreadable.mkdir()
    reader = UsageReader(tmp_path)
    assert [json.loads(row(1))] == [*reader.rows(LONG_AGO)]
    assert reader.missing == (f"requests in {unreadable} are lacking: Is a directory",)
    with pytest.raises(IsADirectoryError):
        list(reader.requests())
