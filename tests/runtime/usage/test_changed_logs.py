"""Logs that were changed, restored or put beside each other: each request is billed, and once."""

import random
from itertools import product
from pathlib import Path

import pytest

from fleet.spec import GatewaySpec
from runtime.gateway.admin.state_dir import remember
from runtime.gateway.control.faults import faults_of
from runtime.usage import ingest as ingestion
from runtime.usage.ingest import ingest
from runtime.usage.log import gateway_segments
from tests.runtime.usage.test_mutations import NOW, altered, made_rows, sums
from tests.runtime.usage.test_parquet import logged, row


def rows_of(count: int) -> list[bytes]:
    return [row + b"\n" for row in made_rows(random.Random(9), count, 0)]  # noqa: S311


def counted(state: Path) -> int:
    return sum(figures[0] for figures in sums(state).values())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "gateways/main/usage.jsonl"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("place", ["gateways/main/usage-0.jsonl", "gateways/spare/usage.jsonl"])
@pytest.mark.parametrize("is_looked_at", [False, True])
def test_two_logs_that_begin_with_the_same_row_are_both_billed(
    tmp_path: Path, log: Path, place: str, *, is_looked_at: bool
) -> None:
    """40 of 50 requests were counted, without a word, and the next run brought nothing."""
    rows = rows_of(50)
    log.write_bytes(b"".join(rows[:20]))
    ingest(tmp_path, NOW)
    log.write_bytes(b"".join(rows[:15] + rows[40:]))
    if is_looked_at:
        assert ingest(tmp_path, NOW).rows == 10
    salvaged = tmp_path / place
    salvaged.parent.mkdir(exist_ok=True)
    salvaged.write_bytes(b"".join(rows[:40]))
    ingest(tmp_path, NOW)
    assert counted(tmp_path) == 50
    assert ingest(tmp_path, NOW).rows == 0
    more = made_rows(random.Random(10), 2, 100)  # noqa: S311
    logged(tmp_path, *more)
    assert (ingest(tmp_path, NOW).rows, counted(tmp_path)) == (2, 52)
    salvaged.unlink()
    assert (ingest(tmp_path, NOW).rows, counted(tmp_path)) == (0, 52)


def test_another_log_of_the_same_size_in_the_place_of_a_log_is_billed(
    tmp_path: Path, log: Path
) -> None:
    """Of a log of the size of before nothing was read: 15 of 20 requests were counted."""
    rows = [row(number, latency_s=0.25) + b"\n" for number in range(20)]
    log.write_bytes(b"".join(rows[:10] + rows[15:]))
    ingest(tmp_path, NOW)
    log.write_bytes(b"".join(rows[:15]))
    ingest(tmp_path, NOW)
    assert counted(tmp_path) == 20


def test_a_gateway_shows_two_logs_with_the_same_first_row_by_two_keys(log: Path) -> None:
    """Both had a key, so that a machine elsewhere copied the first of them alone."""
    rows = rows_of(9)
    log.write_bytes(b"".join(rows[:3] + rows[5:]))
    log.with_name("usage-0.jsonl").write_bytes(b"".join(rows[:5]))
    log.with_name("usage-1.jsonl").write_bytes(b"".join(rows[:4]))  # what another one has as well
    found = [*gateway_segments(log.parent)]
    assert [len(segment.read_rows(0).splitlines()) for segment in found] == [5, 7]
    assert len({segment.key for segment in found}) == 2


@pytest.mark.parametrize(
    ("others", "digits"),
    [*product([[], [5], [20], [0], [0, 7]], [[0, 20]]), ([], [0, 9, 20]), ([5], [0, 9, 20])],
)
def test_a_last_row_that_changed_in_bytes_of_its_id_is_not_billed_again(
    tmp_path: Path, log: Path, others: list[int], digits: list[int]
) -> None:
    """23 requests were billed for 22: a row with another id is a new one."""
    rows = rows_of(23)
    log.write_bytes(b"".join(rows[:22]))
    ingest(tmp_path, NOW)
    for place in [*others, 21]:
        for digit in digits[: 1 if place == 0 else None]:
            rows[place] = altered(rows[place], digit)
    log.write_bytes(b"".join(rows))
    done = ingest(tmp_path, NOW)
    assert (done.rows, done.cut, counted(tmp_path)) == (1, [log], 23)
    logged(tmp_path, *made_rows(random.Random(10), 2, 100))  # noqa: S311
    done = ingest(tmp_path, NOW)
    assert (done.rows, done.cut, counted(tmp_path)) == (2, [], 25)


@pytest.mark.parametrize("other_name", [False, True])
@pytest.mark.parametrize("last", range(12, 24))
def test_a_damaged_row_at_the_end_of_a_batch_is_not_billed_again(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, last: int, *, other_name: bool
) -> None:
    """43 requests were billed for 42, for each damaged row that ends a batch."""
    monkeypatch.setattr(ingestion, "BATCH_BYTES", 8192)
    rows = rows_of(42)
    log.write_bytes(b"".join(rows))
    ingest(tmp_path, NOW)
    rows[0], rows[last] = (altered(rows[place], 0) for place in (0, last))
    changed = log.with_name("usage-0.jsonl") if other_name else log
    changed.write_bytes(b"".join(rows))
    assert (ingest(tmp_path, NOW).rows, counted(tmp_path)) == (0, 42)


def test_damage_in_the_middle_of_a_log_is_named_once(tmp_path: Path, log: Path) -> None:
    """Two damaged rows before the last 4 KiB: no log was named."""
    rows = rows_of(62)
    log.write_bytes(b"".join(rows[:60]))
    ingest(tmp_path, NOW)
    rows[20], rows[31] = (b"x" * (len(rows[place]) - 1) + b"\n" for place in (20, 31))
    log.write_bytes(b"".join(rows[:61]))
    done = ingest(tmp_path, NOW)
    assert (done.cut, done.rows, counted(tmp_path)) == ([log], 1, 61)
    log.write_bytes(b"".join(rows))
    done = ingest(tmp_path, NOW)
    assert (done.cut, done.rows, counted(tmp_path)) == ([], 1, 62)


def test_a_log_file_that_is_gone_is_passed_over(tmp_path: Path, log: Path) -> None:
    """A rotation between the listing and the look ended `status`, `plan` and `reconcile`."""
    gateway = GatewaySpec("main", "127.0.0.1:8080", "", usage_log=10)
    remember(tmp_path, {"main": gateway})
    log.write_bytes(b"x" * 11)
    log.with_name("usage-0.jsonl").symlink_to("gone.jsonl")  # as if renamed since
    (fault,) = faults_of(tmp_path, {"main": gateway}, {}).values()
    assert "11 bytes" in fault.what
