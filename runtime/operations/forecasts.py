"""Forecast the busiest hour of the servers of a base, and the cost of clients for the month."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from math import isfinite

from fleet.alerting import BaseForecast, ProjectedCost, ahead
from fleet.capacity import HOURS, USUAL_PROMPT_WEIGHT
from fleet.costing import Bill, projection
from fleet.names import client_of
from fleet.placement import ServerAccount, placement_accounts
from fleet.planning import USUAL
from fleet.resources import State
from fleet.spec import AdapterSpec, DemandSpec
from fleet.usage import Grain, Operator, UsageCell, UsageFigures
from runtime.operations.costs import MonthBills
from runtime.operations.planning import diagnose_fleet, place_fleet
from runtime.usage.store import UsageStore
from runtime.workspace import Workspace

WEEKS = 4
LEAST_DAYS = 5
"""Least days with requests of a week that counts: a week that began late would show growth."""
_SECONDS = Grain.HOUR.length.total_seconds()
_MINUTES = _SECONDS / 60
_MOST_CLIENTS = 3
_Hours = Mapping[datetime, Counter[str]]
"""Work in tokens by hour and alias."""


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
    fleet = workspace.fleet()
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
