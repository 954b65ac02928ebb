"""Ingestion and compaction that are killed at any moment: no row is lost, none counts twice."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from fleet.usage import COUNTS, Operator
from runtime.usage.ingest import ingest
from runtime.usage.parquet import compact
from runtime.usage.store import UsageStore
from runtime.usage.tables import FOLDER
from tests.recount import recount
from tests.runtime.usage import ingest_server
from tests.runtime.usage.test_parquet import NEW, OLD, logged, row

DAY = datetime(2026, 11, 25, tzinfo=UTC)
NOW = DAY + timedelta(days=100)  # logs are past their time, and are removed
STATUSES = (200, 200, 200, 200, 429, 404, 499, 503)


def made_up(number: int, draw: random.Random) -> bytes:
    tokens = draw.choice([None, draw.randrange(500)])
    return row(
        number,
        time=(DAY + timedelta(seconds=7 * number)).isoformat(timespec="milliseconds"),
        client=draw.choice(["acme", "globex"]),
        version=draw.choice([OLD, NEW, ""]),
        server=draw.choice(["h0", "h1", ""]),
        status=draw.choice(STATUSES),
        latency_s=draw.lognormvariate(0, 1),
        first_byte_s=draw.choice([None, 0.1]),
        stream=draw.choice([True, False]),
        input_tokens=tokens,
        output_tokens=draw.choice([None, 7]),
    )


@pytest.mark.parametrize("kills", [8, pytest.param(200, marks=pytest.mark.long)])
def test_sums_are_those_of_the_rows_however_often_ingestion_is_killed(
    tmp_path: Path, kills: int
) -> None:
    draw, number = random.Random(kills), 0  # noqa: S311
    kept = tmp_path / "kept"  # the same rows, in logs that nothing removes
    command = [sys.executable, "-m", ingest_server.__name__, str(tmp_path), NOW.isoformat()]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None  # noqa: PT018
        for _ in range(kills):
            for gateway in ("main", "spare"):
                rows = [made_up(number + more, draw) for more in range(draw.randrange(1, 30))]
                number += len(rows)
                logged(kept, *rows, gateway=gateway)
                twins = rows[-2:] if draw.random() < 0.3 else []
                logged(tmp_path, *rows, *twins, gateway=gateway, rotate=4000)
            server.stdin.write("\n")
            server.stdin.flush()
            child = int(server.stdout.readline())
            time.sleep(draw.uniform(0, 0.1))  # the moment of the kill, before, in or after the work
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        server.stdin.close()
    ingest(tmp_path, NOW)
    compact(tmp_path, NOW)
    with UsageStore(tmp_path) as store:
        by = ("client", "alias", "version")
        cells = store.cells(Operator(), DAY, DAY + timedelta(days=1), by=by)
        (newest, _) = store.gateways()
    found = [
        {"hour": f"{cell.start:%Y-%m-%dT%H}", **{name: getattr(cell, name) for name in by}}
        | {name: getattr(cell.figures, name) for name in COUNTS}
        for cell in cells
    ]
    wanted = recount(kept)
    assert sum(each["requests"] for each in wanted) == number
    assert [{name: each[name] for name in each if name in found[0]} for each in wanted] == [
        {name: each[name] for name in each if name in wanted[0]} for each in found
    ]
    for cell, each in zip(cells, wanted, strict=True):
        for share in (50, 95, 99):
            exact = each[f"latency_p{share}_s"]
            value = cell.figures.latency.quantile(share / 100)
            assert value == (exact if exact is None else pytest.approx(exact, rel=0.0101))
    with duckdb.connect() as database:
        parts = f"read_parquet('{tmp_path / FOLDER}/*.parquet')"
        query = f"SELECT count(DISTINCT request_id) FROM {parts}"  # noqa: S608
        assert database.execute(query).fetchall() == [(number,)]
    assert newest.cut == 0
