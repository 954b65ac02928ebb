"""Read the usage of the last day and week for pages, after new rows have been ingested."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from fleet.errors import FleetError
from fleet.usage import Grain, Operator, Sketch, UsageCell, UsageFigures
from runtime.usage.ingest import ingest
from runtime.usage.row import LIVE
from runtime.usage.store import UsageStore

HOURS: Final = 24
"""Hours of usage on pages, with the present hour."""
WEEK_HOURS: Final = 7 * HOURS
WEEK_KEPT: Final = timedelta(minutes=1)
"""Time for which a week is shown again without counting anew: a large fleet has 100,000 cells."""


@dataclass(frozen=True, slots=True)
class UsageFacts:
    """Figures of live requests. Times are seconds; None: no request gives one."""

    requests: int
    errors: int
    refused: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    first_token_p95_s: float | None
    input_tokens: int
    output_tokens: int
    tokens_unknown: int
    """Requests of which a token count is not known."""


NO_USAGE: Final = UsageFacts(0, 0, 0, None, None, None, None, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class HourFacts:
    """Figures of the live requests of an hour."""

    hour: str
    """Its start, ISO 8601, UTC."""
    requests: int
    errors: int
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class WeekReading:
    """The live requests of the last seven days, the present hour among them."""

    at: datetime
    since: datetime
    requests: tuple[int, ...]
    """By hour from `since` on."""
    busiest: Mapping[str, Sequence[int]]
    """By alias: requests of the hours of the day, UTC, each on its busiest day. Requests that came
    as far as a version, as `demand record` counts them."""


@dataclass(frozen=True, slots=True)
class UsageReading:
    """The live requests of the last day, by hour, client and alias."""

    since: datetime
    cells: tuple[UsageCell, ...]
    """With the sketch of latencies alone: pages show no other by hour, and memory is dear."""
    by_alias: Mapping[str, Sequence[UsageCell]]
    last_day: Mapping[str, UsageFacts]
    """By alias; aliases without a request are left out."""
    clients: Mapping[str, UsageFacts]
    """By client; clients without a request are left out."""
    total: UsageFacts
    problem: str = ""
    """Why rows are lacking; empty: all rows of the gateways are in."""
    week: WeekReading | None = None
    """None: not read."""

    @classmethod
    def of(cls, since: datetime, cells: Sequence[UsageCell], problem: str = "") -> Self:
        """Return the reading of cells by hour, client and alias."""
        by_alias: defaultdict[str, list[UsageCell]] = defaultdict(list)
        parts: defaultdict[tuple[str, str], list[UsageFigures]] = defaultdict(list)
        kept = tuple(map(_with_latency_alone, cells))
        for cell, thin in zip(cells, kept, strict=True):
            by_alias[cell.alias].append(thin)
            parts[cell.client, cell.alias].append(cell.figures)
        sums = {key: UsageFigures.sum_of(found) for key, found in parts.items()}
        clients: defaultdict[str, list[UsageFigures]] = defaultdict(list)
        aliases: defaultdict[str, list[UsageFigures]] = defaultdict(list)
        for (client, alias), its in sums.items():
            clients[client].append(its)
            aliases[alias].append(its)
        return cls(
            since,
            kept,
            by_alias,
            {alias: facts_of(found) for alias, found in aliases.items()},
            {client: facts_of(found) for client, found in clients.items()},
            facts_of(sums.values()),
            problem,
        )

    def facts(self, alias: str) -> UsageFacts:
        """Return the figures of an alias."""
        return self.last_day.get(alias) or NO_USAGE

    def hours(self, alias: str) -> tuple[HourFacts, ...]:
        """Return the figures of an alias by hour."""
        return hour_facts(self.since, self.by_alias.get(alias, ()))


def read_usage(state_dir: Path, now: datetime, before: UsageReading | None = None) -> UsageReading:
    """Ingest new rows and return the last day; another process that ingests is not waited for.

    `before`: the reading before, whose week is kept for a minute.
    """
    until = now.replace(minute=0, second=0, microsecond=0) + Grain.HOUR.length
    since, problem = until - timedelta(hours=HOURS), ""
    try:
        ingest(state_dir, now)
    except (FleetError, OSError) as error:
        problem = str(error)
        if isinstance(error, FleetError):
            first = error.diagnostics[0]
            problem = "" if first.code == "FC6066" else f"{first.summary}: {first.detail}"
    try:
        with closing(UsageStore(state_dir)) as store:
            cells = store.cells(Operator(), since, until, by=("client", "alias"))
            week = before.week if before else None
            if week is None or not timedelta() <= now - week.at < WEEK_KEPT:
                week = _read_week(store, now, until)
    except FleetError as error:
        return UsageReading.of(since, (), problem or error.diagnostics[0].detail)
    return replace(UsageReading.of(since, cells, problem), week=week)


def _read_week(store: UsageStore, now: datetime, until: datetime) -> WeekReading:
    """Return the requests of the seven days that end with a full hour."""
    since = until - timedelta(hours=WEEK_HOURS)
    first, requests = int(since.timestamp()) // 3600, [0] * WEEK_HOURS
    busiest: defaultdict[str, list[int]] = defaultdict(lambda: [0] * HOURS)
    for start, its in store.counts(Operator(), since, until, ("requests",)):
        of_hour: Counter[str] = Counter()
        for (_, alias, version, _, purpose), count in its:
            if purpose == LIVE:
                requests[start - first] += count
                of_hour[alias if version else ""] += count
        for alias, count in of_hour.items():
            busiest[alias][start % HOURS] = max(busiest[alias][start % HOURS], count)
    busiest.pop("", None)
    return WeekReading(now, since, tuple(requests), busiest)


def _with_latency_alone(cell: UsageCell) -> UsageCell:
    none = Sketch()
    figures = replace(cell.figures, first_token=none, per_token=none, waited=none)
    return replace(cell, figures=figures)


def usage_facts(cells: Iterable[UsageCell]) -> UsageFacts:
    """Return the figures of cells together."""
    return facts_of(cell.figures for cell in cells)


def facts_of(parts: Iterable[UsageFigures]) -> UsageFacts:
    """Return figures together."""
    figures = UsageFigures.sum_of(parts)
    return UsageFacts(
        requests=figures.requests,
        errors=figures.errors,
        refused=figures.refused,
        p50_s=_rounded(figures.latency.quantile(0.5)),
        p95_s=_rounded(figures.latency.quantile(0.95)),
        p99_s=_rounded(figures.latency.quantile(0.99)),
        first_token_p95_s=_rounded(figures.first_token.quantile(0.95)),
        input_tokens=figures.input_tokens,
        output_tokens=figures.output_tokens,
        tokens_unknown=figures.unknown,
    )


def hour_facts(since: datetime, cells: Sequence[UsageCell]) -> tuple[HourFacts, ...]:
    """Return the figures of cells by hour; hours without a request are there, too."""
    by_hour: defaultdict[datetime, list[UsageFigures]] = defaultdict(list)
    for cell in cells:
        by_hour[cell.start].append(cell.figures)
    hours = (since + timedelta(hours=number) for number in range(HOURS))
    found = {hour: UsageFigures.sum_of(by_hour[hour]) for hour in hours}
    return tuple(
        HourFacts(
            hour.isoformat(timespec="minutes"),
            figures.requests,
            figures.errors,
            _rounded(figures.latency.quantile(0.95)),
        )
        for hour, figures in found.items()
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
