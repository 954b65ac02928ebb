"""Faults of the figures that `watch` finds by what earlier looks have noted."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from runtime.operations.watch.usage import FILE, data_faults
from runtime.usage.ingest import ingest
from tests.runtime.usage.test_parquet import logged, row

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
GIB = 2**30


def told(state: Path, now: datetime) -> list[tuple[str, str]]:
    return [(fault.subject, fault.detail) for fault in data_faults(state, now)]


def test_rows_of_a_day_that_is_over_are_told_once(tmp_path: Path) -> None:
    logged(tmp_path, row(1), row(2))
    ingest(tmp_path, NOW)
    assert told(tmp_path, NOW) == []
    logged(tmp_path, row(3))
    ingest(tmp_path, NOW)
    text = "it had 2 requests when it was over, and has 3"
    assert told(tmp_path, NOW) == [("day 2026-11-25", text)]
    assert told(tmp_path, NOW) == []
    (tmp_path / FILE).write_text('{"days": 3}')  # broken: noted anew
    assert told(tmp_path, NOW) == []


def test_ingestion_that_is_behind_is_told(tmp_path: Path) -> None:
    logged(tmp_path, row(1))
    ingest(tmp_path, NOW)
    assert told(tmp_path, NOW + timedelta(minutes=4)) == []
    late = told(tmp_path, NOW + timedelta(minutes=9))
    assert late == [("usage", "rows were last brought in 9 minutes ago")]


@pytest.mark.parametrize(
    ("lost", "hours", "expected"),
    [
        (0, 12, ""),
        (20, 12, ""),  # 360 GiB are left: 9 days
        (100, 12, "full in 1.4 days"),
        (100, 3, ""),  # too short a time for a pace
        (365, 12, "5.0 GiB are free"),
    ],
)
def test_a_disk_that_is_soon_full_is_told(
    tmp_path: Path, lost: int, hours: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(total=1000 * GIB, free=370 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    assert told(tmp_path, NOW) == []
    disk.free -= lost * GIB
    found = [detail for _, detail in told(tmp_path, NOW + timedelta(hours=hours))]
    assert len(found) == bool(expected)
    assert expected in "".join(found)
