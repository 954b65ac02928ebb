"""A usage log stays below its declared size by its oldest files whose rows are all in the store."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.spec import GatewaySpec
from runtime.gateway.admin.state_dir import known_gateways, remember
from runtime.gateway.control.faults import faults_of
from runtime.operations.watch.usage import remove_old_logs
from runtime.usage.ingest import ingest
from runtime.usage.log import log_bytes
from tests.runtime.usage.sums import summed
from tests.runtime.usage.test_parquet import logged, row

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)
ROWS = 100
FILE, LIMIT = 4096, 16_384


def gateway(limit: int = LIMIT) -> GatewaySpec:
    return GatewaySpec("main", "127.0.0.1:8080", "", usage_log=limit)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gateway with more rows than its log may have, in many files."""
    remember(tmp_path, {"main": gateway()})
    logged(tmp_path, *(row(number) for number in range(ROWS)), rotate=FILE)
    folder = tmp_path / "gateways" / "main"
    assert log_bytes(folder) > LIMIT
    return folder


def test_the_oldest_ingested_files_are_removed_and_no_sum_changes(
    tmp_path: Path, folder: Path
) -> None:
    files = sorted(folder.glob("usage*.jsonl"))
    before = summed(tmp_path)
    removed = remove_old_logs(tmp_path)
    assert LIMIT - FILE < log_bytes(folder) <= LIMIT
    left = sorted(folder.glob("usage*.jsonl"))
    assert left == files[len(removed) :]
    assert [text.split()[-7] for text in removed] == [
        f"{path.name}," for path in files[: len(removed)]
    ]
    assert remove_old_logs(tmp_path) == []
    assert summed(tmp_path) == before
    assert before[0]["requests"] == ROWS


def test_a_row_that_is_not_ingested_stays_and_the_gateway_has_a_fault(
    tmp_path: Path, folder: Path
) -> None:
    ingest(tmp_path, NOW)
    for path in folder.glob("usage*.jsonl"):  # each has a row more than the store
        with path.open("ab") as log:
            log.write(row(ROWS) + b"\n")
    size = log_bytes(folder)
    assert remove_old_logs(tmp_path) == []
    assert log_bytes(folder) == size
    (fault,) = faults_of(tmp_path, {"main": gateway()}, {}).values()
    assert fault.what.startswith(
        f"has a usage log of {size} bytes, above its `usage_log` of {LIMIT}:"
    )
    assert fault.command == "fleetctl usage ingest"
    summed(tmp_path)
    remove_old_logs(tmp_path)
    assert faults_of(tmp_path, {"main": gateway()}, {}) == {}


def test_a_log_without_a_declared_size_is_read_and_remembered_as_before(
    tmp_path: Path, folder: Path
) -> None:
    remember(tmp_path, {"main": gateway(0)})
    assert "usage_log" not in (folder / "gateway.json").read_text(encoding="utf-8")
    assert known_gateways(tmp_path)["main"].usage_log == 0
    summed(tmp_path)
    assert remove_old_logs(tmp_path) == []
    assert faults_of(tmp_path, {"main": gateway(0)}, {}) == {}
