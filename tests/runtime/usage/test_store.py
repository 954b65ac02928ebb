"""The usage store: sums of rows, each row once, and each reader's own scope."""

import sqlite3
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.usage import Grain, OfClient, Operator
from runtime.files import locked_file
from runtime.usage.ingest import Ingested, ingest
from runtime.usage.store import UsageStore
from runtime.usage.tables import FOLDER, STORE_FILE
from tests.runtime.usage.test_parquet import NEW, OLD, logged, row

DAY = datetime(2026, 11, 25, tzinfo=UTC)
NOW = DAY + timedelta(hours=9)
NEXT = DAY + timedelta(days=1)


def total(state: Path, grain: Grain = Grain.HOUR) -> int:
    with UsageStore(state) as store:
        return sum(
            cell.figures.requests
            for cell in store.cells(Operator(), DAY, NEXT, grain, purposes=(), by_cell=False)
        )


def test_cells_hold_the_figures_of_their_rows(tmp_path: Path) -> None:
    logged(
        tmp_path,
        *(row(number, server="h0", stream=True, first_byte_s=0.005) for number in range(100)),
        row(100, version=NEW, status=503, input_tokens=None, output_tokens=None),
        row(101, version=NEW, status=499, output_tokens=None),
        row(102, version="", status=429, input_tokens=None, output_tokens=None),
        row(103, version="", status=400, input_tokens=None, output_tokens=None),
        row(104, purpose="shadow"),
    )
    logged(tmp_path, row(105, client="globex", alias="globex-dates"), gateway="second")
    assert ingest(tmp_path, NOW) == Ingested(rows=106)
    with UsageStore(tmp_path) as store:
        (whole,) = store.cells(Operator(), DAY, NEXT, by=("alias",), client="acme", by_cell=False)
        figures = whole.figures
        assert (whole.alias, whole.start, figures.requests) == ("acme-support", DAY, 104)
        assert (figures.errors, figures.left, figures.refused, figures.rejected) == (1, 1, 1, 1)
        assert (figures.answered, figures.unknown, figures.inputs) == (100, 1, 101)
        assert (figures.input_tokens, figures.output_tokens) == (303, 500)
        assert figures.latency.quantile(0.95) == pytest.approx(0.95, rel=0.01)
        assert figures.first_token.quantile(0.5) == pytest.approx(0.005, rel=0.01)
        assert figures.tokens.count == figures.latency.count
        assert figures.per_token.quantile(0.5) == pytest.approx((0.5 - 0.005) / 4, rel=0.01)
        assert figures.latency.above(0.9) == 10
        hours = store.cells(Operator(), DAY, NEXT, alias="acme-support")
        assert {cell.start for cell in hours} == {DAY + timedelta(hours=8)}
        assert {(cell.version, cell.server) for cell in hours} == {
            (OLD, "h0"), (NEW, ""), ("", ""),
        }  # fmt: skip
        quarters = store.cells(Operator(), DAY, NEXT, Grain.QUARTER, by=())
        assert [cell.start.minute for cell in quarters] == [0]
        assert [cell.alias for cell in store.last_day(Operator(), NOW)] == [
            "acme-support",
            "globex-dates",
        ]
        assert store.ingested_at == NOW
        assert [(each.gateway, each.rows) for each in store.gateways()] == [
            ("main", 105),
            ("second", 1),
        ]


def test_a_client_sees_its_own_requests_and_no_server(tmp_path: Path) -> None:
    logged(
        tmp_path,
        row(1, server="h0", unit="a" * 16),
        row(2, client="globex", alias="g", unit="b" * 16),
    )
    ingest(tmp_path, NOW)
    with UsageStore(tmp_path) as store:
        (own,) = store.cells(OfClient("acme"), DAY, NEXT)
        assert (own.client, own.server, own.figures.requests) == ("acme", "", 1)
        assert store.cells(OfClient("acme"), DAY, NEXT, client="globex") == ()
        assert store.cells(OfClient("acme"), DAY, NEXT, alias="g") == ()
        assert store.users(OfClient("acme"), DAY, NEXT) == {("acme", "acme-support"): 1}
        assert len(store.users(Operator(), DAY, NEXT)) == 2
        assert [cell.client for cell in store.last_day(OfClient("globex"), NOW)] == ["globex"]


def test_rows_count_once_over_rotation_copies_and_second_runs(tmp_path: Path) -> None:
    logged(tmp_path, *(row(number) for number in range(30)), rotate=3000)
    assert ingest(tmp_path, NOW).rows == 30
    assert ingest(tmp_path, NOW).rows == 0
    # A log that was removed is begun anew with the rows of its last moments.
    logged(tmp_path, row(28), row(29), row(30), b"{torn", row(31), rotate=3000)
    folder = tmp_path / "gateways/main"
    (newest,) = folder.glob("usage.jsonl")
    copy = folder / "copy-of-usage-0123.jsonl"
    copy.write_bytes(newest.read_bytes()[:200].rpartition(b"\n")[0])
    damaged = Counter({newest: 1})
    assert ingest(tmp_path, NOW) == Ingested(rows=2, duplicates=2, damaged=damaged)
    for grain in Grain:
        assert total(tmp_path, grain) == 32


def test_copies_from_other_machines_are_ingested_and_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "gateways/far"
    folder.mkdir(parents=True)
    copy = folder / "copy-of-usage-0123.jsonl"
    copy.write_bytes(row(1) + b"\n" + row(2)[:40])
    assert ingest(tmp_path, NOW).rows == 1
    copy.write_bytes(row(1) + b"\n" + row(2) + b"\n")
    assert ingest(tmp_path, NOW).rows == 1


def test_a_log_that_becomes_shorter_is_named_and_goes_on(tmp_path: Path) -> None:
    logged(tmp_path, row(1), row(2))
    ingest(tmp_path, NOW)
    log = tmp_path / "gateways/main/usage.jsonl"
    log.write_bytes(row(1) + b"\n")
    assert ingest(tmp_path, NOW).cut == [log]
    logged(tmp_path, row(3))
    assert ingest(tmp_path, NOW) == Ingested(rows=1)
    with UsageStore(tmp_path) as store:
        assert [(each.rows, each.cut) for each in store.gateways()] == [(3, 1)]


def test_odd_clocks_are_counted_and_shown(tmp_path: Path) -> None:
    ahead = row(1, time="2026-11-25T10:00:00.000+00:00")
    behind = row(4, time="2026-11-25T07:00:00.000+00:00")
    unzoned = row(3, time="2026-11-25T08:00:00")
    logged(tmp_path, ahead, row(2, latency_s=-1.0), unzoned, behind)
    done = ingest(tmp_path, NOW)
    assert (done.rows, done.damaged.total()) == (3, 1)
    with UsageStore(tmp_path) as store:
        (cell,) = store.cells(Operator(), DAY, NEXT, Grain.DAY, by=())
        assert (cell.figures.odd, cell.figures.latency.quantile(0)) == (2, 0.0)
        hours = store.cells(Operator(), DAY, NEXT, by=())
        assert [(c.start.hour, c.figures.requests) for c in hours] == [(7, 1), (8, 1), (10, 1)]
        assert [each.newest for each in store.gateways()] == [NOW]


def test_a_store_that_is_not_there_is_empty_and_one_of_a_later_release_is_refused(
    tmp_path: Path,
) -> None:
    assert total(tmp_path) == 0
    logged(tmp_path, row(1))
    ingest(tmp_path, NOW)
    with sqlite3.connect(tmp_path / FOLDER / STORE_FILE) as database:
        database.execute("PRAGMA user_version = 99")
    for use in (lambda: ingest(tmp_path, NOW), lambda: UsageStore(tmp_path)):
        with pytest.raises(FleetError) as caught:
            use()
        assert caught.value.diagnostics[0].code == "FC6063"


def test_a_damaged_store_says_what_to_do(tmp_path: Path) -> None:
    logged(tmp_path, row(1))
    ingest(tmp_path, NOW)
    (tmp_path / FOLDER / STORE_FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(FleetError) as caught:
        UsageStore(tmp_path)
    assert (caught.value.diagnostics[0].code, caught.value.diagnostics[0].hint[:8]) == (
        "FC6065",
        "Move the",
    )


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    logged(tmp_path, row(1))
    (tmp_path / FOLDER).mkdir()
    with locked_file(tmp_path / FOLDER / "ingest.lock"):
        # In another process, as it is met.
        code = (
            "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
            "from runtime.usage.ingest import ingest\n"
            "ingest(Path(sys.argv[1]), datetime.now(UTC))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], capture_output=True, check=False
        )
    assert b"Another run is ingesting usage" in done.stderr
