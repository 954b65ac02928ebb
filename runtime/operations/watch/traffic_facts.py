"""Read the traffic of aliases from the usage store for the rules of alerts and `why`."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.alerting import (
    HOURS_FOR,
    QUARTERS_FOR,
    Alert,
    AliasFacts,
    BaseForecast,
    ProjectedCost,
    WhyWorse,
    ahead,
    explain_worse,
    latency_baseline,
    ledger_changes,
    same_class,
)
from fleet.capacity import (
    DEMAND_FILE,
    HOURS,
    USER_DAYS,
    USUAL_PROMPT_WEIGHT,
    Recording,
    carried_on,
    record_demand,
    recorded_demand_text,
)
from fleet.costing import Bill, projection
from fleet.errors import ConfigError, FleetError, did_you_mean
from fleet.history import Entry
from fleet.names import client_of
from fleet.placement import ServerAccount, placement_accounts
from fleet.planning import USUAL
from fleet.resources import Route, State
from fleet.spec import AdapterSpec, DemandSpec, FleetSpec
from fleet.usage import Grain, Operator, UsageCell, UsageFigures
from runtime.files import write_text
from runtime.operations.change.planning import diagnose_fleet, place_fleet
from runtime.operations.watch.costs import MonthBills
from runtime.operations.watch.usage import WAIT_S, gather_usage_rows
from runtime.project.facts import read_recording
from runtime.project.load import declared_aliases
from runtime.usage.ingest import ingest
from runtime.usage.log import gateway_segments
from runtime.usage.store import UsageStore
from runtime.workspace import Call, Workspace

QUARTERS_KEPT = timedelta(hours=48)
"""Time for which the store has quarters; before that, hours."""
QUARTER = Grain.QUARTER.length
_Cells = Mapping[str, Sequence[UsageCell]]


def _start(now: datetime, grain: Grain) -> datetime:
    """Return the start of the cell that `now` lies in."""
    return now - timedelta(seconds=now.timestamp() % grain.length.total_seconds())


def _by_alias(cells: Iterable[UsageCell]) -> dict[str, list[UsageCell]]:
    found: dict[str, list[UsageCell]] = defaultdict(list)
    for cell in cells:
        found[cell.alias].append(cell)
    return found


@dataclass(slots=True)
class TrafficReader:
    """Reads the store at every look; keeps what changes by the hour."""

    _hour: datetime | None = None
    _hours: _Cells = field(default_factory=dict)
    _history: _Cells = field(default_factory=dict)

    def facts(
        self,
        store: UsageStore,
        fleet: FleetSpec,
        live: State,
        alerts: Sequence[Alert],
        now: datetime,
    ) -> list[AliasFacts]:
        """Return the traffic of every declared alias."""
        end, scope = _start(now, Grain.QUARTER), Operator()
        hour, one = _start(now, Grain.HOUR), Grain.HOUR.length
        quarters = _by_alias(
            store.cells(scope, end - QUARTERS_FOR, end, Grain.QUARTER, by=("alias",))
        )
        if hour != self._hour:
            self._hour = hour
            self._hours = _by_alias(store.cells(scope, hour - HOURS_FOR, hour, by=("alias",)))
            by = ("alias", "version")
            past = (store.cells(scope, at, at + one, by=by) for at in same_class(now))
            self._history = _by_alias(cell for cells in past for cell in cells)
        running = _by_alias(store.cells(scope, end, now, Grain.QUARTER, by=("alias",)))
        waits = store.cells(scope, end - QUARTER, end, Grain.QUARTER, by=("alias", "server"))
        waiting = {(c.server, c.alias) for c in waits if c.figures.waited.quantile(0.95)}
        routes = live.routes()
        found = []
        for alias, adapter in fleet.adapters.items():
            version, servers = _serving(routes.get(alias), str(adapter.name))
            sick = [(a.since, a.until or now) for a in alerts if a.subject == alias]
            history = self._history.get(alias, ())
            found.append(
                AliasFacts(
                    alias,
                    adapter.slo_s,
                    latency_baseline(history, version, sick, adapter.slo_s),
                    tuple(quarters.get(alias, ())),
                    tuple(self._hours.get(alias, ())),
                    servers,
                    tuple(s for s in servers if any(at == s and a != alias for at, a in waiting)),
                    adapter.aimed,
                    tuple(running.get(alias, ())),
                )
            )
        return found


def _serving(route: Route | None, declared: str) -> tuple[str, tuple[str, ...]]:
    """Return the version with the most traffic of a route, and all servers of the route."""
    if route is None:
        return declared, ()
    most = max(route.shares, key=lambda share: share.percent)
    servers = {name for share in route.shares if share.percent for name in share.servers}
    return most.adapter, tuple(sorted(servers))


def explain_alias(
    store: UsageStore,
    fleet: FleetSpec,
    entries: Sequence[Entry],
    alias: str,
    since: timedelta,
    now: datetime,
) -> WhyWorse:
    """Rank the changes around an alias in the time before now.

    Raises:
        FleetError: FC1223, the alias is not declared.
    """
    adapter = fleet.adapters.get(alias)
    if adapter is None:
        near = did_you_mean(alias, sorted(fleet.adapters))
        raise FleetError.of(
            "FC1223", "Unknown alias or client", f"`{alias}` is not declared.", hint=near
        )
    grain = Grain.QUARTER if since <= QUARTERS_KEPT else Grain.HOUR
    end = _start(now, grain)
    read = partial(
        store.cells, Operator(), end - since, end, grain, by=("alias", "version", "server")
    )
    own = read(alias=alias)
    servers = {cell.server for cell in own} - {""}
    beside = [
        cell
        for server in sorted(servers)
        for cell in read(server=server, sketches=False)
        if cell.alias != alias
    ]
    others = {cell.alias for cell in beside}
    sections = {"tiers": adapter.tier, "bases": adapter.name.base}
    changes = ledger_changes(entries, alias, sections, others, servers, end - since)
    return explain_worse(alias, [*own, *beside], [*changes])


WEEKS = 4
LEAST_DAYS = 5
"""Least days with requests of a week that counts: a week that began late would show growth."""
_SECONDS = Grain.HOUR.length.total_seconds()
_MINUTES = _SECONDS / 60
_MOST_CLIENTS = 3
_Hours = Mapping[datetime, Counter[str]]
"""Work in tokens by hour and alias."""


def record_observed(call: Call, days: int, folder: Path | None) -> tuple[Recording, int]:
    """Write the demand of the last days into the project; return it, and the damaged lines.

    `folder`: with usage logs; None: those of the gateways.

    Raises:
        FleetError: FC6043, no request was logged; or the store cannot be written or read.
    """
    logs = folder or call.state_dir / "gateways"
    known = declared_aliases(call.root, call.environment, call.variables)
    try:
        before = read_recording(call.root)
    except ConfigError:  # the file is written anew
        before = {}
    with TemporaryDirectory() as scratch:
        state_dir = Path(scratch) if folder else call.state_dir
        if folder:
            folders = (folder, *(path for path in folder.rglob("*") if path.is_dir()))
            found = [segment for path in folders for segment in gateway_segments(path)]
            ingest(state_dir, call.now(), logs=found)
        else:
            _, lacking = asyncio.run(gather_usage_rows(state_dir, call.now, WAIT_S))
            call.warn(*lacking)
        with UsageStore(state_dir) as store:
            gateways = store.gateways()
            newest = max((gateway.newest for gateway in gateways if gateway.newest), default=None)
            until = (newest or call.now()) + Grain.HOUR.length
            since = until - timedelta(days=days + 1)
            cells = store.cells(Operator(), since, until, by=("alias", "version"), sketches=False)
            month = until - timedelta(days=USER_DAYS)
            users = {
                alias: count
                for (alias,), count in store.users(Operator(), month, until, ("alias",)).items()
            }
        recorded = record_demand(
            (cell for cell in cells if cell.alias and cell.version), days, users
        )
        damaged = sum(gateway.damaged for gateway in gateways)
    if recorded is None:
        detail = f"No request was logged under `{logs}`."
        if damaged:
            detail += f" {damaged:,} {'line' if damaged == 1 else 'lines'} there cannot be read."
        hint = "Send requests to a gateway (fleetctl gateway start), or name a folder with --from."
        raise FleetError.of("FC6043", "No usage to record", detail, hint=hint)
    recording = carried_on(recorded, before, known)
    write_text(call.root / DEMAND_FILE, recorded_demand_text(recording))
    return recording, damaged


def projected_costs(workspace: Workspace) -> list[ProjectedCost]:
    """Return the projected cost of every client for the current month as a part of its fee.

    Raises:
        FleetError: no costs are recorded, or ledger or store cannot be read.
    """
    bills = MonthBills(workspace)
    return projected_shares(bills.bill(bills.month_of(bills.now)))


def projected_shares(bill: Bill) -> list[ProjectedCost]:
    """Return the projected costs of the month of a bill."""
    found = []
    for name, terms in bill.terms.clients.items():
        expected = projection(bill.cost, name, bill.before.get(name, {}))
        share = expected.expected / terms.fee if expected and terms.fee else None
        found.append(ProjectedCost(name, share))
    return found


def base_forecasts(
    workspace: Workspace, store: UsageStore, live: State, now: datetime
) -> list[BaseForecast]:
    """Return the forecast of every base whose servers' throughput is known.

    Raises:
        FleetError: no alias of the fleet can be placed.
    """
    placed = place_fleet(workspace, live, USUAL)
    rates = _throughput(placement_accounts(placed.fleet, placed.placement))
    end = now.replace(minute=0, second=0, microsecond=0)
    week = 7 * Grain.DAY.length
    cells = store.cells(Operator(), end - WEEKS * week, end, by=("alias",), sketches=False)
    weeks = [defaultdict[str, dict[datetime, Counter[str]]](dict) for _ in range(WEEKS)]
    for cell in cells:
        adapter = placed.fleet.adapters.get(cell.alias)
        if adapter and adapter.name.base in rates:
            number = WEEKS - 1 - (end - cell.start - Grain.HOUR.length) // week
            hours = weeks[number][adapter.name.base]
            hours.setdefault(cell.start, Counter())[cell.alias] += _work(cell.figures)
    found = []
    for base, rate in sorted(rates.items()):
        known = [
            hours
            for hours in (by_base.get(base, {}) for by_base in weeks)
            if len({start.date() for start in hours}) >= LEAST_DAYS
        ]
        if known:
            busiest = max(known[-1], key=lambda start: (known[-1][start].total(), start))
            parts = tuple(max(w.total() for w in hours.values()) / rate for hours in known)
            top = Counter[str]()
            for alias, work in known[-1][busiest].items():
                top[client_of(alias)] += work
            clients = tuple(name for name, _ in top.most_common(_MOST_CLIENTS))
            limit = placed.fleet.policy.utilization
            forecast = BaseForecast(base, busiest.hour, parts, limit, clients)
            value = ahead(parts)
            if value is not None and value > limit:
                own = [cell for cell in cells if cell.start >= end - week]
                growth = value / parts[-1]
                purchase = _purchase(workspace, live, base, own, growth)
                forecast = replace(forecast, purchase=purchase)
            found.append(forecast)
    return found


def _throughput(accounts: Mapping[str, ServerAccount]) -> dict[str, float]:
    """Return the tokens an hour that the servers of a base decode at their slowest hour."""
    rates, unknown = defaultdict[str, float](float), set[str]()
    for account in accounts.values():
        limit = min(account.limit, default=0.0)
        if isfinite(limit) and limit > 0:
            rates[account.base] += _SECONDS * limit / account.allowed
        else:
            unknown.add(account.base)
    return {base: rate for base, rate in rates.items() if base not in unknown}


def _work(figures: UsageFigures) -> int:
    return round(figures.output_tokens + USUAL_PROMPT_WEIGHT * figures.input_tokens)


def _purchase(
    workspace: Workspace, live: State, base: str, cells: list[UsageCell], growth: float
) -> str:
    """Return the cheapest change with which the fleet would carry the grown load of a base."""
    fleet = workspace.project.fleet()
    by_alias: dict[str, list[UsageCell]] = defaultdict(list)
    for cell in cells:
        by_alias[cell.alias].append(cell)
    grown = {
        alias: replace(adapter, demand=_grown(adapter, by_alias[alias], growth))
        if adapter.name.base == base and alias in by_alias
        else adapter
        for alias, adapter in fleet.adapters.items()
    }
    found = diagnose_fleet(workspace, replace(fleet, adapters=grown), live, USUAL)
    return found.remedies[0].text if found.remedies else ""


def _grown(adapter: AdapterSpec, cells: list[UsageCell], growth: float) -> DemandSpec:
    """Return the demand of the busiest day hours of a week, grown."""
    total = UsageFigures.sum_of(cell.figures for cell in cells)
    rpm = dict(_busiest(cells))
    return DemandSpec(
        peak_rpm=growth * max(rpm.values()),
        prompt_tokens=total.input_tokens // max(1, total.inputs),
        output_tokens=max(1, total.output_tokens // max(1, total.outputs)),
        observed=tuple(growth * rpm.get(hour, 0.0) for hour in range(HOURS)),
        faults=adapter.demand.faults if adapter.demand else None,
    )


def _busiest(cells: list[UsageCell]) -> Iterator[tuple[int, float]]:
    """Yield the requests per minute by hour of the day, the busiest day's last."""
    for cell in sorted(cells, key=lambda cell: cell.figures.requests):
        yield cell.start.hour, cell.figures.requests / _MINUTES
