"""The usage store with many rows: made up, ingested, read; figures printed.

    make bench-watching                 # 10 million rows: 300 aliases, 30 days; 4.5 GB of disk
    .venv/bin/python -m tests.bench.watching --rows 200000

Ratios and times depend on the machine; sums and memory do not.
"""

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fleet.cost_policy import MICRO
from fleet.costing import ResidentTerms, Role, Terms
from fleet.history import CostTermsChanged
from fleet.usage import Grain, OfClient, Operator
from fleetctl.output import print_message
from runtime.ledger import open_ledger
from runtime.operations.costs import MonthBills
from runtime.usage.ingest import ingest
from runtime.usage.store import FOLDER, STORE_FILE, UsageStore
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import client, fleet, leases, server

BEGIN: Final = datetime(2026, 10, 1, tzinfo=UTC)
DAYS: Final = 30
DAY: Final = timedelta(days=1)
CLIENTS, ALIASES, SERVERS = 100, 300, 24
FILE_ROWS: Final = 150_000
"""Rows of a log before it is rotated, 64 MiB or so."""
REPEATS: Final = 20


def rows(count: int) -> Iterator[bytes]:
    """Yield rows in the order of time, with the fields and the size of a gateway's."""
    draw = random.Random(1)  # noqa: S311
    step = DAYS * 86400 / count
    latencies = [draw.lognormvariate(-0.5, 0.8) for _ in range(10_000)]
    for number in range(count):
        seconds = number * step
        day, rest = divmod(seconds, 86400)
        alias = int(ALIASES * draw.random() ** 2)
        latency, made = latencies[number % 10_000], 20 + number % 300
        yield (
            b'{"time":"2026-10-%02dT%02d:%02d:%02d.%03d+00:00","request_id":"%032x",'
            b'"client":"client%d","alias":"client%d-task%d","version":"client%d-task%d-llama-v1.0.0",'
            b'"server":"h%d-gpu0","path":"/v1/chat/completions","revision":1795644744,"status":200,'
            b'"latency_s":%.6f,"first_byte_s":%.6f,"input_tokens":%d,"output_tokens":%d,'
            b'"stream":true,"finish":"stop","format_ok":null,"purpose":"live","retries":0,'
            b'"unit":"%016x","counted":null,"cached_tokens":16,"waited_s":0.0,"trace_id":null}\n'
            % (
                day + 1, rest // 3600, rest // 60 % 60, rest % 60, rest * 1000 % 1000, number,
                alias % CLIENTS, alias % CLIENTS, alias, alias % CLIENTS, alias,
                (alias + number % 2) % SERVERS, latency, latency / 5, 200 + number % 900, made,
                hash((alias, number % 50_000)) & 0xFFFF_FFFF_FFFF_FFFF,
            )
        )  # fmt: skip


def write(state: Path, count: int) -> None:
    """Write the rows as rotated logs of a gateway."""
    folder = state / "gateways" / "main"
    folder.mkdir(parents=True)
    made, source = 0, rows(count)
    while made < count:
        part = min(FILE_ROWS, count - made)
        name = f"usage-{made:020}.jsonl" if made + part < count else "usage.jsonl"
        with (folder / name).open("wb") as log:
            log.writelines(next(source) for _ in range(part))
        made += part


def peak_mib() -> float:
    """Return the most memory that the process had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(name: str, read: Callable[[], object]) -> None:
    """Print how long a reading takes: the median and the 95th percentile of some, CPU seconds."""
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        read()
        taken.append(time.process_time() - began)
    taken.sort()
    print(f"{name:46}{taken[REPEATS // 2] * 1e3:>9.0f} ms{taken[-2] * 1e3:>9.0f} ms")


class WorkspaceAtEnd(Workspace):
    """A workspace at the end of the rows."""

    def now(self) -> datetime:
        return BEGIN + timedelta(days=DAYS)


def report_month(state: Path) -> None:
    """Print how long the bill of the month takes, from cells and recorded terms."""
    names = [f"h{number}-gpu0" for number in range(SERVERS)]
    residents = {
        name: [
            ResidentTerms(f"client{alias % CLIENTS}-task{alias}-llama-v1.0.0", Role.STABLE, 1, 100,
                          (1000,) * 24)
            for alias in range(ALIASES)
            if number in {alias % SERVERS, (alias + 1) % SERVERS}
        ]
        for number, name in enumerate(names)
    }  # fmt: skip
    terms = Terms(
        fleet(),
        leases(2_490_000, *names),
        {n: server(*residents[n], devices=(n,), capacity=5_000_000) for n in names},
        {f"client{number}": client(3000 * MICRO) for number in range(CLIENTS)},
    )
    ledger = open_ledger(state, "bench", "bench", lambda: BEGIN)
    ledger.append([CostTermsChanged(terms.documents())])
    nothing: Any = None
    workspace = WorkspaceAtEnd(state, None, {}, state, print_message, nothing, nothing)
    began, wall = time.process_time(), time.monotonic()
    cost = MonthBills(workspace).bill("2026-10").cost
    used, wall = time.process_time() - began, time.monotonic() - wall
    assert sum(line.micro for line in cost.lines) == cost.leased == SERVERS * DAYS * 24 * 2_490_000
    print(f"month report ({CLIENTS} clients, {SERVERS} servers): {used:.1f} s of CPU, {wall:.1f} s")


def main() -> None:
    """Write, ingest and read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the logs go (default: a scratch folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        measure(Path(name), given.rows)


def measure(state: Path, count: int) -> None:
    """Print the figures of a state folder with that many rows."""
    write(state, count)
    size = sum(path.stat().st_size for path in state.rglob("*.jsonl"))
    print(f"{count:,} rows, {size / count:.0f} bytes each, {ALIASES} aliases, {DAYS} days")
    now = BEGIN + timedelta(days=DAYS)
    began, wall, before = time.process_time(), time.monotonic(), peak_mib()
    done = ingest(state, now)
    used, wall = time.process_time() - began, time.monotonic() - wall
    store = (state / FOLDER / STORE_FILE).stat().st_size
    print(f"ingest: {done.rows / used:,.0f} rows a CPU second, {done.rows / wall:,.0f} a second")
    print(f"        peak memory {peak_mib():.0f} MiB ({before:.0f} before), duplicates "
          f"{done.duplicates}, damaged {done.damaged.total()}")  # fmt: skip
    print(f"store:  {store / 2**20:.0f} MiB")
    assert done.rows == count
    with UsageStore(state) as found:
        operator, until = Operator(), now
        whole = found.cells(operator, BEGIN, until, Grain.DAY, (), by_cell=False)
        assert [cell.figures.requests for cell in whole] == [count]
        days = [BEGIN + timedelta(days=day) for day in range(DAYS)]
        cells = sum(len(found.cells(operator, day, day + DAY, sketches=False)) for day in days)
        print(f"        {cells:,} cells of an hour")
        report_month(state)
        print(f"{'CPU of a reading, as pages read':46}{'median':>12}{'p95':>12}")
        week = until - timedelta(days=7)
        client, alias = OfClient("client7"), "client7-task7"
        timed("all aliases, 24 hours", lambda: found.last_day(operator, until - timedelta(hours=1)))
        timed("a client's month by day", lambda: found.cells(client, BEGIN, until, Grain.DAY))
        timed("a client's month by hour", lambda: found.cells(client, BEGIN, until, by=("alias",)))
        timed("an alias by hour, a week", lambda: found.cells(operator, week, until, alias=alias))
        timed(
            "all clients, month",
            lambda: found.cells(operator, BEGIN, until, Grain.DAY, ("client",), by_cell=False),
        )
        timed("users of the month", lambda: found.users(operator, BEGIN, until))
        began = time.process_time()
        for day in days:  # as a bill is made: a day's cells at a time are in memory
            found.cells(operator, day, day + DAY, by=("client", "server"), sketches=False)
        taken = time.process_time() - began
        print(f"{'counts of the month by client, server, hour':46}{taken * 1e3:>9.0f} ms")
    print(f"peak memory with all readings {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
