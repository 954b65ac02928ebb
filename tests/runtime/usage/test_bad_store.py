"""What befalls the usage store: full disks, network file systems, long lines, very many."""

import random
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.usage import OfClient, Operator
from runtime.gateway.admin.admin import MAX_USAGE_PART
from runtime.usage.ingest import BATCH_BYTES, Ingested, ingest, network_filesystem
from runtime.usage.log import segments
from runtime.usage.parquet import compact
from runtime.usage.store import UsageStore, about, seen, union
from tests.runtime.usage.sums import summed
from tests.runtime.usage.test_parquet import logged, row

NOW = datetime(2026, 11, 25, 9, tzinfo=UTC)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as a disk does that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 10_000, 60_000])
def test_a_full_disk_is_told_and_ingestion_goes_on_later(tmp_path: Path, size: int) -> None:
    logged(tmp_path, row(0))
    ingest(tmp_path, NOW)
    logged(tmp_path, *(row(n, server=f"h{n}") for n in range(1, 400)))
    with largest_file(size), pytest.raises(FleetError) as caught:
        ingest(tmp_path, NOW)
    (told,) = caught.value.diagnostics
    assert (told.code, "free space" in told.hint) == ("FC6065", True)
    assert ingest(tmp_path, NOW).rows == 399
    assert [each["requests"] for each in summed(tmp_path)] == [400]


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)],
)
def test_a_network_file_system_is_refused(
    tmp_path: Path, kind: str, *, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    state = tmp_path / "my state"
    point = str(state).replace(" ", "\\040")
    table.write_text(
        "22 1 8:1 / / rw - ext4 /dev/root rw\n"
        f"40 22 0:52 / {point} rw shared:1 - {kind} host:/share rw\n"
        "41 22 0:53 / /elsewhere rw - nfs host:/share rw\n"
    )
    logged(state, row(1))
    assert network_filesystem(tmp_path, table) == ""
    assert network_filesystem(state / "usage", table) == (kind if refused else "")
    monkeypatch.setattr(network_filesystem, "__defaults__", (table,))
    if not refused:
        assert ingest(state, NOW).rows == 1
        return
    with pytest.raises(FleetError) as caught:
        ingest(state, NOW)
    assert caught.value.diagnostics[0].code == "FC6064"
    assert not [*(state / "usage").glob("*.sqlite")]


@pytest.mark.parametrize(
    "count", [0, 1, 30, 3_000, 100_000, pytest.param(1_000_000, marks=pytest.mark.long)]
)
def test_users_are_counted_about(count: int) -> None:
    draw = random.Random(count)  # noqa: S311
    units = [f"{draw.getrandbits(64):016x}" for _ in range(count)]
    half = count // 2
    days = [seen(units[: half + count // 10]), seen(units[half:], seen(units[:1]))]
    assert about(union(days)) == pytest.approx(count, rel=0.05)
    assert len(union(days)) < 5000


def test_a_unit_that_is_no_hash_counts_as_no_user() -> None:
    assert about(seen(["", "<script>", "-5", "ü", "1" * 17, "f" * 16])) == 1


@pytest.mark.parametrize("size", [100_000, BATCH_BYTES - 1, 2 * BATCH_BYTES + 77])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_line_longer_than_a_batch_is_left_out_counted_and_named(
    tmp_path: Path, size: int, *, is_first: bool
) -> None:
    log, inner = tmp_path / "gateways/main/usage.jsonl", row(9)
    rows = [row(number) for number in range(1, 4)]
    # What the parts of the line hold is no row either, wherever the parts begin.
    long = b"x" * (-size % len(inner)) + inner * (size // len(inner))
    logged(tmp_path, *([] if is_first else rows[:1]))
    log.write_bytes(log.read_bytes() + long + b"\n" + b"\n".join(rows[is_first ^ 1 :]) + b"\n")
    logged(tmp_path, row(4), rotate=2**30)
    assert ingest(tmp_path, NOW) == Ingested(rows=4, damaged=Counter({log: 1}))
    assert ingest(tmp_path, NOW) == Ingested()
    (segment,) = segments(tmp_path)
    copied = b""
    while part := segment.read_rows(len(copied), MAX_USAGE_PART):
        copied += part
    assert copied == log.read_bytes()
    assert compact(tmp_path, NOW).rows == 4
    log.write_bytes(log.read_bytes() + long)  # not complete yet: no line
    assert ingest(tmp_path, NOW) == Ingested()


def test_ten_thousand_aliases_are_summed_up_and_read(tmp_path: Path) -> None:
    names = [(f"c{n % 100}", f"c{n % 100}-t{n}") for n in range(10_000)]
    rows = (row(n, client=client, alias=alias) for n, (client, alias) in enumerate(names))
    logged(tmp_path, *rows, rotate=2**21)
    assert ingest(tmp_path, NOW).rows == len(names)
    with UsageStore(tmp_path) as store:
        cells = store.last_day(Operator(), NOW)
        own = store.last_day(OfClient("c7"), NOW)
    assert [(cell.client, cell.alias) for cell in cells] == sorted(names)
    assert {cell.figures.requests for cell in cells} == {1}
    assert [cell.alias for cell in own] == [cell.alias for cell in cells if cell.client == "c7"]
