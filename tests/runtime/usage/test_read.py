"""The reader of usage rows: copies, damage and files that cannot be read."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.usage.ingest import ingest
from runtime.usage.log import COPY_PREFIX
from runtime.usage.read import UsageReader, last_rows
from tests.runtime.usage.test_parquet import logged, row

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def test_copies_from_other_machines_are_rows_for_gates(tmp_path: Path) -> None:
    logged(tmp_path, row(1), row(2, purpose="shadow"), row(3, version=""))
    folder = tmp_path / "gateways/far"
    folder.mkdir()
    (folder / f"{COPY_PREFIX}abc.jsonl").write_bytes(row(4) + b"\n")
    reader = UsageReader(tmp_path)
    ids = sorted(int(found["request_id"], 16) for found in reader.rows(LONG_AGO))
    assert ids == [1, 2, 3, 4]
    assert reader.missing == ()


@pytest.mark.parametrize("line", [b"[]", b"5", b"{", b"null", b'{"latency_us": 1}', b"\xff"])
def test_a_line_that_is_no_row_is_damaged_for_each_reading(tmp_path: Path, line: bytes) -> None:
    logged(tmp_path, row(1), line, row(2))
    reader = UsageReader(tmp_path)
    for _ in range(2):
        assert len([*reader.rows(LONG_AGO)]) == 2
        assert reader.damaged == 1


def test_a_file_that_cannot_be_read_is_missing_for_gates_and_an_error_for_sums(
    tmp_path: Path,
) -> None:
    logged(tmp_path, row(1))
    unreadable = tmp_path / "gateways/main/usage-1.jsonl"
    unreadable.mkdir()
    reader = UsageReader(tmp_path)
    assert [json.loads(row(1))] == [*reader.rows(LONG_AGO)]
    assert reader.missing == (f"requests in {unreadable} are lacking: Is a directory",)
    with pytest.raises(IsADirectoryError):
        ingest(tmp_path, LONG_AGO)


def test_the_last_rows_come_from_all_gateways_and_files_in_order(tmp_path: Path) -> None:
    logged(tmp_path, *(row(number) for number in range(0, 40, 2)), rotate=2000)
    logged(tmp_path, row(1), b"{torn", row(3, purpose="eval"), row(5), gateway="far")

    def numbers(count: int, since: datetime = LONG_AGO) -> list[int]:
        found = last_rows(tmp_path, lambda row: row.purpose == "live", since, count)
        return [int(row.request_id, 16) for row in found]

    assert numbers(3) == [34, 36, 38]
    assert numbers(99) == [0, 1, 2, 4, 5, *range(6, 40, 2)]
    assert numbers(99, datetime(2026, 11, 25, 8, 0, 37, tzinfo=UTC)) == [38]
