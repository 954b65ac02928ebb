"""Gather the facts of usage: the last day, the hours of a week, declared and observed demand."""

from calendar import day_name
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from typing import Final

from fleet.capacity import HOURS, hourly_rpm
from fleet.codec import plain
from fleet.names import client_of
from fleet.usage import Operator
from runtime.web.facts import Document, Heading
from runtime.web.gather import heading
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage import NO_USAGE, HourFacts, UsageFacts, WeekReading, hour_facts

FEW: Final = 20
"""Upper bound of aliases whose demand the page of usage shows; the page of demand shows all."""


@dataclass(frozen=True, slots=True)
class AliasDemand:
    """The demand of an alias by which the fleet is planned, and the demand of the last week."""

    alias: str
    client: str
    source: str
    """Of the planned demand: `declared`, `recorded` (by `demand record`) or `none`."""
    planned_peak_rpm: float | None
    """Requests a minute of the busiest hour; None: no demand is declared."""
    observed_peak_rpm: float
    of_planned_percent: float | None
    """Observed peak in percent of the planned peak; None: none is planned."""
    planned_rpm: tuple[float, ...] | None
    """By hour of the day, UTC."""
    observed_rpm: tuple[float, ...]
    """By hour of the day, UTC: the busiest of the last seven days."""


@dataclass(frozen=True, slots=True)
class UsagePage:
    """The page `/usage`: live requests."""

    heading: Heading
    total: UsageFacts
    """Of the last day, as hours and clients."""
    hours: tuple[HourFacts, ...]
    clients: tuple[Document, ...]
    """`UsageFacts` with the client's name."""
    week: tuple[Document, ...]
    """Requests of the last seven days by weekday and hour, UTC; empty: not known."""
    demand: tuple[AliasDemand, ...]
    """Of the aliases with the most requests beyond their planned demand; empty: not known."""


@dataclass(frozen=True, slots=True)
class DemandPage:
    """The page `/demand`."""

    heading: Heading
    demand: tuple[AliasDemand, ...]
    """Aliases with the most requests beyond their planned demand first; empty: not known."""


def demand_page(seen: FleetSnapshot, scope: Operator, now: datetime) -> DemandPage:
    """Return the planned and the observed demand of all aliases."""
    return DemandPage(heading(seen, scope, now), _demand(seen))


def usage_page(seen: FleetSnapshot, scope: Operator, now: datetime) -> UsagePage:
    """Return the facts of usage."""
    usage, week = seen.usage, seen.usage.week
    clients = sorted({*seen.fleet.clients, *usage.clients})
    return UsagePage(
        heading=heading(seen, scope, now),
        total=usage.total,
        hours=hour_facts(usage.since, usage.cells),
        clients=tuple(
            {"client": client, **plain(usage.clients.get(client, NO_USAGE))} for client in clients
        ),
        week=_weekdays(week) if week else (),
        demand=_demand(seen)[:FEW],
    )


def _weekdays(week: WeekReading) -> tuple[Document, ...]:
    rows = [[0] * HOURS for _ in day_name]
    for number, count in enumerate(week.requests):
        start = week.since + timedelta(hours=number)
        rows[start.weekday()][start.hour] = count
    names = zip(day_name, rows, strict=True)
    return tuple({"weekday": name, "requests": row} for name, row in names)


def _demand(seen: FleetSnapshot) -> tuple[AliasDemand, ...]:
    found, week = list[AliasDemand](), seen.usage.week
    if week is None:
        return ()
    for alias in {*seen.fleet.adapters, *week.busiest}:
        spec = seen.fleet.adapters.get(alias)
        demand = spec.demand if spec else None
        planned = hourly_rpm(demand) if demand else None
        observed = tuple(round(count / 60, 4) for count in week.busiest.get(alias, [0] * HOURS))
        source = "none" if demand is None else "recorded" if demand.observed else "declared"
        peak, top = max(planned) if planned else None, max(observed)
        part = round(100 * top / peak, 1) if peak else None
        its = AliasDemand(alias, client_of(alias), source, peak, top, part, planned, observed)
        found.append(its)
    found.sort(key=lambda its: (-_excess(its), its.alias))
    return tuple(found)


def _excess(its: AliasDemand) -> float:
    """Return the observed part of the planned peak: without limit where nothing is planned."""
    return (
        its.observed_peak_rpm / its.planned_peak_rpm
        if its.planned_peak_rpm
        else (inf if its.observed_peak_rpm else 0.0)
    )
