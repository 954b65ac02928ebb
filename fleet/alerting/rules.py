"""Decides by rules which aliases, clients, bases, budgets and figures break a limit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import linear_regression
from typing import Final, Literal, NamedTuple

from fleet.alerting.alert import (
    LEAST_REQUESTS,
    Alert,
    AlertRule,
    LatencyBaseline,
    RuleFinding,
    Signal,
)
from fleet.costing import ALARM, CLEAR, WARN
from fleet.gates import wilson
from fleet.names import kind_of_address, name_in_address
from fleet.planning import DriftCause
from fleet.spec import FleetSpec
from fleet.traffic import LimitPolicy
from fleet.usage import Sketch, UsageCell

SLOWER: Final = 2.0
"""Multiple of the usual p95 above which a request is slow."""
CLEARS: Final = 1.5
"""Multiple of the usual p95 at which a slow alias is no longer slow."""
SLOW_SHARE: Final = 0.05
"""Part of the requests that may be above a p95, and late by a tier's promise."""
ERROR_SHARE: Final = 0.01
"""Part of the requests that may end with a status of 500 and above."""


class BurnPair(NamedTuple):
    """A pair of windows: both burn the budget at a multiple of its pace."""

    times: float
    long: timedelta
    short: timedelta


PAGES: Final = (
    BurnPair(14.4, timedelta(hours=1), timedelta(minutes=15)),
    BurnPair(6, timedelta(hours=6), timedelta(minutes=30)),
)
"""Source: Beyer et al. 2018, The Site Reliability Workbook, chapter 5, with quarters of an hour."""
TICKETS: Final = (
    BurnPair(3, timedelta(days=1), timedelta(hours=2)),
    BurnPair(1, timedelta(days=3), timedelta(hours=6)),
)
QUARTERS_FOR: Final = timedelta(hours=8)
"""Time before now for which rules need quarters; before that, hours."""
HOURS_FOR: Final = timedelta(days=3)

WAIT_SHARE: Final = 0.25
"""Part of the promised time that a request may wait for its turn."""


@dataclass(frozen=True, slots=True)
class AliasFacts:
    """The traffic of an alias; cells hold all versions and servers, the oldest first."""

    alias: str
    promise_s: float
    """Due p95: promised by the tier, or the aim of the latency class."""
    baseline: LatencyBaseline
    quarters: tuple[UsageCell, ...]
    """Closed quarters of `QUARTERS_FOR`."""
    hours: tuple[UsageCell, ...]
    """Closed hours of `HOURS_FOR`."""
    servers: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    """Its servers at which requests of other aliases waited in the newest quarter."""
    aimed: bool = True
    """Whether answers after `promise_s` are late; its tier may drop the aim of the class."""
    running: tuple[UsageCell, ...] = ()
    """The quarter that has begun, up to now: the windows of burn rates end in it."""


def alias_findings(
    facts: AliasFacts, pinned: LatencyBaseline | None, now: datetime
) -> Iterator[RuleFinding]:
    """Yield the findings of the rules on traffic on an alias.

    `pinned`: the baseline of the alert that is open; None: none is.
    """
    yield slow(facts, pinned or facts.baseline, now)
    yield starved(facts, now)
    both = (*facts.quarters, *facts.running), facts.hours
    late = [_late(cells, facts.promise_s, aimed=facts.aimed) for cells in both]
    failed = [_failed(cells) for cells in both]
    for counts, budget, rules in (
        (late, SLOW_SHARE, (AlertRule.PROMISE, AlertRule.PROMISE_BUDGET)),
        (failed, ERROR_SHARE, (AlertRule.ERRORS, AlertRule.ERRORS_BUDGET)),
    ):
        for rule, pairs in zip(rules, (PAGES, TICKETS), strict=True):
            yield burning(facts, rule, pairs, counts, budget, now)


def slow(facts: AliasFacts, baseline: LatencyBaseline, now: datetime) -> RuleFinding:
    """Judge the latency of an alias by the two newest windows against its baseline.

    A window is the fewest quarters with `LEAST_REQUESTS` answers. Slow: in both more than 5 % of
    the requests surely take over twice the usual p95; by definition 5 % take over the usual p95.
    """
    newest, *older = _windows(facts.quarters) or [(now, Sketch())]
    command = f"fleetctl why {facts.alias}"
    p95, limit = newest[1].quantile(0.95), SLOWER * baseline.p95_s
    begun = older[0][0] if older else newest[0]
    detail = "" if baseline.days else "its due time stands in for a baseline: less than a week"
    alert = Alert(
        AlertRule.SLOW, facts.alias, p95, limit, begun, command, detail=detail,
        servers=facts.servers, baseline=baseline,
    )  # fmt: skip
    if p95 is None:
        return RuleFinding(Signal.UNKNOWN, alert)
    surely = [wilson(w.above(limit), w.count)[0] > SLOW_SHARE for _, w in (newest, *older)]
    if surely[0]:
        return RuleFinding(Signal.FIRING if all(surely) and older else Signal.PENDING, alert)
    above = newest[1].above(CLEARS * baseline.p95_s)
    clear = above <= SLOW_SHARE * newest[1].count
    return RuleFinding(Signal.CLEAR if clear else Signal.BETWEEN, alert)


def starved(facts: AliasFacts, now: datetime) -> RuleFinding:
    """Judge the time that requests of the newest quarter waited for their turn."""
    waited = facts.quarters[-1].figures.waited if facts.quarters else Sketch()
    since = facts.quarters[-1].start if facts.quarters else now
    p95, limit = waited.quantile(0.95), WAIT_SHARE * facts.promise_s
    command = f"fleetctl why {facts.alias}"
    full = f"full, for others wait there too: {', '.join(facts.full)}"
    alert = Alert(
        AlertRule.STARVED, facts.alias, p95, limit, since, command, servers=facts.servers,
        detail=full if facts.full else "no other alias waits at its servers",
    )  # fmt: skip
    if p95 is None or waited.count < LEAST_REQUESTS:
        return RuleFinding(Signal.UNKNOWN, alert)
    clear = Signal.CLEAR if p95 <= limit / SLOWER else Signal.BETWEEN
    return RuleFinding(Signal.FIRING if p95 > limit else clear, alert)


_Counts = Sequence[tuple[datetime, int, int]]
"""Start, requests and bad requests of cells."""


def burning(
    facts: AliasFacts,
    rule: AlertRule,
    pairs: Iterable[BurnPair],
    counts: Sequence[_Counts],
    budget: float,
    now: datetime,
) -> RuleFinding:
    """Judge how fast bad requests use up a budget: in a long window surely, in a short one still.

    A window has the cells that began in it. So the last 15 minutes have the running quarter at
    least, and an outage that is over is out of every window by the window's length.

    `counts`: of quarters, and of hours for windows that quarters do not cover.
    """
    signals, value, limit, since = list[Signal](), None, budget, now
    for pair in pairs:
        most = pair.times * budget
        n, bad = _within(counts, pair.long, now)
        n_short, bad_short = _within(counts, pair.short, now)
        if not n_short:
            signals.append(Signal.UNKNOWN)
        elif bad_short < most * n_short:
            signals.append(Signal.CLEAR)
        elif n >= LEAST_REQUESTS and wilson(bad, n)[0] > most:
            signals.append(Signal.FIRING)
            if value is None or most > limit:
                value, limit, since = bad / n, most, now - pair.long
        else:
            signals.append(Signal.BETWEEN)
    order = [Signal.FIRING, Signal.BETWEEN, Signal.UNKNOWN, Signal.CLEAR]
    signal = min(signals, key=order.index)
    alert = Alert(
        rule, facts.alias, value, limit, since, f"fleetctl why {facts.alias}",
        urgent=rule in {AlertRule.PROMISE, AlertRule.ERRORS}, servers=facts.servers,
    )  # fmt: skip
    return RuleFinding(signal, alert)


def _windows(quarters: Sequence[UsageCell]) -> list[tuple[datetime, Sketch]]:
    """Return start and latencies of the two newest windows, the newest first."""
    found, latency = list[tuple[datetime, Sketch]](), Sketch()
    for cell in reversed(quarters):
        latency += cell.figures.latency
        if latency.count >= LEAST_REQUESTS:
            found.append((cell.start, latency))
            latency = Sketch()
        if len(found) > 1:
            break
    return found


def _failed(cells: Sequence[UsageCell]) -> _Counts:
    rows = ((cell.start, cell.figures) for cell in cells)
    return [(start, figures.requests - figures.refused, figures.errors) for start, figures in rows]


def _late(cells: Sequence[UsageCell], limit_s: float, *, aimed: bool) -> _Counts:
    return [
        (cell.start, cell.figures.latency.count, cell.figures.latency.above(limit_s) * aimed)
        for cell in cells
    ]


def _within(counts: Sequence[_Counts], span: timedelta, now: datetime) -> tuple[int, int]:
    """Return requests and bad requests of the last `span`."""
    quarters, hours = counts
    rows = [row for row in (quarters if span <= QUARTERS_FOR else hours) if row[0] >= now - span]
    return sum(n for _, n, _ in rows), sum(bad for _, _, bad in rows)


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


Holder = tuple[Literal["client", "alias"], str]
"""The holder of a budget: its kind and name."""
Kind = Literal["requests", "tokens"]
WARN_AT: Final = 0.8
"""Part of a budget above which an alert stands."""
_LEAST_S: Final = 86_400.0
"""Lower bound of the time since the month's begin at which a pace is told. Unit: seconds."""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, UTC."""

    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The requests or tokens of the month beside their declared bound."""

    holder: Holder
    kind: Kind
    used: int
    limit: int
    is_hard: bool

    @property
    def share(self) -> float:
        """The part that is used; above 1: more than the bound."""
        return self.used / self.limit

    def ends_at(self, month: Month, now: datetime) -> datetime | None:
        """Return when the bound is reached at the pace of the month so far.

        None: not before the month's end, or the month is younger than a day.
        """
        so_far = now - month.begin
        if self.used >= self.limit or not self.used or so_far.total_seconds() < _LEAST_S:
            return None
        reached = month.begin + so_far / self.share
        return reached if reached < month.end else None


def counted(cells: Iterable[UsageCell]) -> dict[Holder, tuple[int, int]]:
    """Return answered requests and tokens by client and by alias, of cells with these two names.

    Requests that were refused, were wrong or met an error of a server do not count; their tokens
    do, as in bills.
    """
    sums: dict[Holder, tuple[int, int]] = {}
    for cell in cells:
        figures = cell.figures
        tokens = figures.input_tokens + figures.output_tokens
        holders: tuple[Holder, ...] = ("client", cell.client), ("alias", cell.alias)
        for holder in holders:
            requests, before = sums.get(holder, (0, 0))
            sums[holder] = requests + figures.answered, before + tokens
    return sums


def budgets_of(fleet: FleetSpec) -> dict[Holder, LimitPolicy]:
    """Return the limits of the clients and aliases that have a bound of a month, by name."""
    limits: dict[Holder, LimitPolicy] = {
        ("client", name): client.limits for name, client in fleet.clients.items()
    }
    limits |= {("alias", alias): adapter.limits for alias, adapter in fleet.adapters.items()}
    return {
        holder: its
        for holder, its in sorted(limits.items(), key=lambda item: item[0][1])
        if (its.requests_per_month, its.tokens_per_month) != (None, None)
    }


def budget_uses(
    budgets: Mapping[Holder, LimitPolicy], used: Mapping[Holder, tuple[int, int]]
) -> tuple[BudgetUse, ...]:
    """Return the use of all bounds, by name.

    Args:
        budgets: As of `budgets_of`.
        used: As of `counted`.
    """
    found = []
    for holder, limits in budgets.items():
        requests, tokens = used.get(holder, (0, 0))
        kinds: tuple[tuple[Kind, int, int | None], ...] = (
            ("requests", requests, limits.requests_per_month),
            ("tokens", tokens, limits.tokens_per_month),
        )
        found += [
            BudgetUse(holder, kind, number, bound, limits.is_hard)
            for kind, number, bound in kinds
            if bound is not None
        ]
    return tuple(found)


def budget_findings(
    uses: Iterable[BudgetUse], month: Month, now: datetime
) -> Iterator[RuleFinding]:
    """Yield the findings on budgets: above 80 %, and used up."""
    worst: dict[Holder, BudgetUse] = {}
    for use in uses:
        if use.holder not in worst or use.share > worst[use.holder].share:
            worst[use.holder] = use
    for use in worst.values():
        detail = f"{use.used:,} of {use.limit:,} {use.kind}"
        refused = f"requests are refused until {month.end:%Y-%m-%d %H:%M} UTC"
        if use.share >= 1 and use.is_hard:
            detail += f"; {refused}"
        elif reached := use.ends_at(month, now):
            detail += f"; at this pace all of them on {reached:%Y-%m-%d}"
            detail += ", and then requests are refused" if use.is_hard else ""
        for rule, limit in ((AlertRule.BUDGET_USED_UP, 1.0), (AlertRule.BUDGET, WARN_AT)):
            alert = Alert(
                rule, use.holder[1], use.share, limit, now, "fleetctl cost budgets", detail=detail,
                urgent=use.is_hard and limit == 1,
            )  # fmt: skip
            yield RuleFinding(Signal.FIRING if use.share >= limit else Signal.CLEAR, alert)
