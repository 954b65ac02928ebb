"""The usage store with many rows: made up, ingested, read, and shown by the dashboard.

    make bench-watching                 # 10 million rows: 300 aliases, 30 days; 4.5 GB of disk
    .venv/bin/python -m tests.bench.watching --rows 200000

Ratios and times depend on the machine; sums and memory do not.
"""

import argparse
import asyncio
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import httpx

from fleet.costing import ClientTerms, ResidentTerms, Role, Terms
from fleet.history import CostTermsChanged
from fleet.policies import MICRO
from fleet.spec import FleetSpec
from fleet.usage import Grain, OfClient, Operator
from fleetctl.commands.dashboard import make_dashboard
from fleetctl.output import print_message
from fleetctl.wiring import open_workspace
from plans.dashboard import hosts
from runtime.ledger import open_ledger
from runtime.operations.watch.costs import MonthBills
from runtime.usage.ingest import ingest
from runtime.usage.store import UsageStore
from runtime.usage.tables import FOLDER, STORE_FILE
from runtime.web.access import Grant
from runtime.web.app import CLIENT_COOKIE, OPERATOR_COOKIE
from runtime.web.snapshot import SnapshotReader, read_fleet
from runtime.web.sources import CLIENT_PATHS, PATHS
from runtime.workspace import Workspace
from tests.fleet.costing.worlds import client, fleet, leases, server
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

BEGIN: Final = datetime(2026, 10, 1, tzinfo=UTC)
DAYS: Final = 30
DAY: Final = timedelta(days=1)
CLIENTS, ALIASES, SERVERS = 100, 300, 24
"""Of the fleet that `scaffold synthetic` writes; each alias is on two servers."""
FILE_ROWS: Final = 150_000
"""Rows of a log before it is rotated, 64 MiB or so."""
REPEATS: Final = 20


@dataclass(frozen=True)
class Made:
    """The names in the rows."""

    versions: tuple[tuple[str, str, str], ...]
    """Client, alias and version of every alias."""
    servers: tuple[str, ...]

    @classmethod
    def of(cls, fleet: FleetSpec) -> Self:
        """Return the names of a fleet: its aliases, and a server on each of its first devices."""
        versions = tuple(
            (adapter.name.client, alias, str(adapter.name))
            for alias, adapter in sorted(fleet.adapters.items())
        )
        devices = [
            f"{host}/{device.name}" for host, its in fleet.hosts.items() for device in its.devices
        ]
        return cls(versions, tuple(devices[:SERVERS]))

    def on(self, alias: int) -> tuple[str, str]:
        """Return the two servers of an alias."""
        return self.servers[alias % SERVERS], self.servers[(alias + 1) % SERVERS]


def rows(count: int, made: Made) -> Iterator[bytes]:
    """Yield rows in the order of time, with the fields and the size of a gateway's."""
    draw = random.Random(1)  # noqa: S311
    step = DAYS * 86400 / count
    latencies = [draw.lognormvariate(-0.5, 0.8) for _ in range(10_000)]
    for number in range(count):
        seconds = number * step
        day, rest = divmod(seconds, 86400)
        alias = int(ALIASES * draw.random() ** 2)
        client, name, version = made.versions[alias]
        latency, tokens = latencies[number % 10_000], 20 + number % 300
        yield (
            b'{"time":"2026-10-%02dT%02d:%02d:%02d.%03d+00:00","request_id":"%032x",'
            b'"client":"%b","alias":"%b","version":"%b",'
            b'"server":"%b","path":"/v1/chat/completions","revision":1795644744,"status":200,'
            b'"latency_s":%.6f,"first_byte_s":%.6f,"input_tokens":%d,"output_tokens":%d,'
            b'"stream":true,"finish":"stop","format_ok":null,"purpose":"live","retries":0,'
            b'"unit":"%016x","counted":null,"cached_tokens":16,"waited_s":0.0,"trace_id":null,"digest":"0123456789ab"}\n'
            % (
                day + 1, rest // 3600, rest // 60 % 60, rest % 60, rest * 1000 % 1000, number,
                client.encode(), name.encode(), version.encode(),
                made.on(alias)[number % 2].encode(), latency, latency / 5, 200 + number % 900,
                tokens,
                hash((alias, number % 50_000)) & 0xFFFF_FFFF_FFFF_FFFF,
            )
        )  # fmt: skip


def write(state: Path, count: int, made: Made) -> None:
    """Write the rows as rotated logs of a gateway."""
    folder = state / "gateways" / "main"
    folder.mkdir(parents=True)
    done, source = 0, rows(count, made)
    while done < count:
        part = min(FILE_ROWS, count - done)
        name = f"usage-{done:020}.jsonl" if done + part < count else "usage.jsonl"
        with (folder / name).open("wb") as log:
            log.writelines(next(source) for _ in range(part))
        done += part


def peak_mib() -> float:
    """Return the most memory that the process had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_pages(workspace: Workspace, version: tuple[str, str, str]) -> None:
    """Print the wall seconds of every page, asked of the application in this process."""
    reader = SnapshotReader(lambda before: read_fleet(workspace, hosts, before))
    pages = make_dashboard(workspace, reader)
    application = pages.application()
    client, alias, _ = version
    until = workspace.now() + DAY
    cookies = {
        name: pages.signer.make("session", Grant(scope, "bench", until))
        for name, scope in ((OPERATOR_COOKIE, Operator()), (CLIENT_COOKIE, OfClient(client)))
    }
    header = {"cookie": "; ".join(f"{name}={text}" for name, text in cookies.items())}
    asker = httpx.AsyncClient(
        transport=httpx.ASGITransport(application), base_url="http://127.0.0.1:8090", timeout=600
    )

    async def ask_all() -> None:
        async with application.router.lifespan_context(application):
            began = time.monotonic()
            await asker.get("/cost", headers=header)
            print(f"first page after the start: {time.monotonic() - began:.1f} s")
            print(f"{'page':46}{'median':>12}{'p95':>12}")
            (panel, *_), *_ = [
                group["panels"] for row in (await reader.latest()).hosts for group in row["groups"]
            ]
            names = {"client_account": client, "server": panel["server"]}
            for page, (path, _) in {**PATHS, **CLIENT_PATHS}.items():
                place = path.replace("{client}", client)
                place = place.replace("{name}", names.get(page, alias))
                taken = []
                for _ in range(REPEATS):
                    began = time.monotonic()
                    answer = await asker.get(place, headers=header)
                    taken.append(time.monotonic() - began)
                taken.sort()
                shown = f"{place} ({answer.status_code})"
                print(f"{shown:46}{taken[REPEATS // 2] * 1e3:>9.0f} ms{taken[-2] * 1e3:>9.0f} ms")

    asyncio.run(ask_all())


def promised(name: str, made: Made) -> ClientTerms:
    """Return the terms of a client, with a promise for each of its aliases."""
    limits = {alias: 1500 for client, alias, _ in made.versions if client == name}
    return replace(client(3000 * MICRO), promises=limits)


class WorkspaceAtEnd(Workspace):
    """A workspace at the end of the rows."""

    def now(self) -> datetime:
        return BEGIN + timedelta(days=DAYS) - timedelta(seconds=1)


def record_terms(workspace: Workspace, made: Made) -> None:
    """Write prices, servers and fees of the month into the ledger."""
    residents = {
        name: [
            ResidentTerms(version, Role.STABLE, 1, 100, (1000,) * 24)
            for alias, (_, _, version) in enumerate(made.versions)
            if name in made.on(alias)
        ]
        for name in made.servers
    }
    terms = Terms(
        fleet(),
        leases(2_490_000, *made.servers),
        {n: server(*residents[n], devices=(n,), capacity=5_000_000) for n in made.servers},
        {name: promised(name, made) for name, _, _ in made.versions},
    )
    ledger = open_ledger(workspace.state_dir, "bench", "bench", lambda: BEGIN)
    ledger.append([CostTermsChanged(terms.documents())])


def report_month(workspace: Workspace) -> None:
    """Print how long the bill of the month takes, from cells and recorded terms."""
    began, wall = time.process_time(), time.monotonic()
    cost = MonthBills(workspace).bill("2026-10").cost
    used, wall = time.process_time() - began, time.monotonic() - wall
    hours = DAYS * 24 - 1
    assert sum(line.micro for line in cost.lines) == cost.leased == SERVERS * hours * 2_490_000
    promises = [its for figures in cost.clients.values() for its in figures.promises.values()]
    assert sum(its.kept for its in promises) <= sum(its.judged for its in promises) > 0
    print(f"month report ({CLIENTS} clients, {SERVERS} servers): {used:.1f} s of CPU, {wall:.1f} s")


def main() -> None:
    """Write, ingest and read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the logs go (default: a scratch folder)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        root = Path(name) / "project"
        call(
            Project(Path(name), ()), "scaffold", "synthetic", "--clients", str(CLIENTS),
            "--adapters", str(ALIASES), "--gpus", str(SERVERS), str(root),
        )  # fmt: skip
        its = open_workspace(root, None, {}, root / ".fleetctl")
        measure(
            WorkspaceAtEnd(
                its.root, its.environment, its.variables, its.state_dir, print_message,
                its.render_notice, its.make_envoys,
            ),
            given.rows,
        )  # fmt: skip


def measure(workspace: Workspace, count: int) -> None:
    """Print the figures of a project with that many rows."""
    state, made = workspace.state_dir, Made.of(workspace.project.fleet())
    write(state, count, made)
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
    record_terms(workspace, made)
    report_month(workspace)
    time_pages(workspace, made.versions[7])
    print(f"peak memory with all pages {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
