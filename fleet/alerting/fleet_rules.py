"""Decides by rules on costs, capacity, data and outages which subjects break a limit."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import linear_regression
from typing import Final

from fleet.alerting.alert import Alert, AlertRule, RuleFinding, Signal
from fleet.costing import ALARM, CLEAR, WARN
from fleet.names import kind_of_address, name_in_address
from fleet.planning import DriftCause

AHEAD_WEEKS: Final = 2
CAPACITY_CLEARS: Final = 0.95
NAMED: Final = 5
"""Upper bound of the aliases that an alert of an outage names."""


@dataclass(frozen=True, slots=True)
class ProjectedCost:
    """The projected cost of a client for the month as a part of its fee."""

    client: str
    share: float | None
    """None: no fee is declared, or the month is too young for a projection."""


@dataclass(frozen=True, slots=True)
class BaseForecast:
    """The busiest hour of the servers of a base, week by week."""

    base: str
    hour: int
    """Hour of the day, UTC."""
    weeks: tuple[float, ...]
    """Utilisation of the busiest hour, the oldest week first, 1: all of the servers' work."""
    limit: float
    clients: tuple[str, ...] = ()
    """Clients of the most work in that hour, the most first."""
    purchase: str = ""
    """The cheapest purchase with which the forecast fits; empty: not known."""


@dataclass(frozen=True, slots=True)
class DataFault:
    """A fault of the figures themselves."""

    subject: str
    """Name of a gateway, or of a store."""
    detail: str
    value: float
    limit: float
    command: str


def fleet_findings(
    costs: Iterable[ProjectedCost],
    forecasts: Iterable[BaseForecast],
    faults: Iterable[DataFault],
    outages: Iterable[DriftCause],
    now: datetime,
) -> Iterator[RuleFinding]:
    """Yield the findings of the rules on costs, capacity, data and outages."""
    for cost in costs:
        yield from _cost(cost, now)
    for forecast in forecasts:
        yield _capacity(forecast, now)
    for fault in faults:
        yield RuleFinding(
            Signal.FIRING,
            Alert(AlertRule.DATA, fault.subject, fault.value, fault.limit, now, fault.command,
                  detail=fault.detail, urgent=False),
        )  # fmt: skip
    for outage in outages:
        if outage.outage is not None:
            addresses = {outage.subject, *outage.addresses}
            servers = (name_in_address(a) for a in addresses if kind_of_address(a) == "server")
            named = outage.unanswered or ()
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            who = f"; without an answer: {', '.join(named[:NAMED])}{more}" if named else ""
            yield RuleFinding(
                Signal.FIRING,
                Alert(AlertRule.OUTAGE, outage.subject, None, None, outage.since or now,
                      outage.command, detail=f"{outage.summary}{who}",
                      servers=tuple(sorted(servers))),
            )  # fmt: skip


def _cost(cost: ProjectedCost, now: datetime) -> Iterator[RuleFinding]:
    command = f"fleetctl cost report --client {cost.client}"
    for rule, limit, clears in (
        (AlertRule.COST, ALARM / 100, CLEAR / 100),
        (AlertRule.COST_WARNING, WARN / 100, WARN / 100),
    ):
        alert = Alert(rule, cost.client, cost.share, limit, now, command, urgent=False)
        if cost.share is None:
            signal = Signal.UNKNOWN
        elif cost.share > limit:
            signal = Signal.FIRING
        else:
            signal = Signal.BETWEEN if cost.share > clears else Signal.CLEAR
        yield RuleFinding(signal, alert)


def ahead(weeks: Sequence[float]) -> float | None:
    """Return the value two weeks after the last, on the line through weeks; None: too few."""
    if len(weeks) <= AHEAD_WEEKS:
        return None
    line = linear_regression(range(len(weeks)), weeks)
    return line.intercept + line.slope * (len(weeks) - 1 + AHEAD_WEEKS)


def _capacity(forecast: BaseForecast, now: datetime) -> RuleFinding:
    """Judge the busiest hour of a base two weeks ahead, by the line through the last weeks."""
    value = ahead(forecast.weeks)
    busy = f"at {forecast.hour:02}:00 UTC, most of it by {', '.join(forecast.clients)}"
    detail = f"{busy}; {forecast.purchase}" if forecast.purchase else busy
    alert = Alert(
        AlertRule.CAPACITY, forecast.base, value, forecast.limit, now, "fleetctl diagnose",
        detail=detail, urgent=False,
    )  # fmt: skip
    if value is None:
        return RuleFinding(Signal.UNKNOWN, alert)
    clear = value <= CAPACITY_CLEARS * forecast.limit
    low = Signal.CLEAR if clear else Signal.BETWEEN
    return RuleFinding(Signal.FIRING if value > forecast.limit else low, alert)
