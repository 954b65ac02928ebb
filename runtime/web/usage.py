"""Read the usage of the last day for pages: new rows are ingested, then sums by hour are read."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from fleet.errors import FleetError
from fleet.usage import Grain, Operator, UsageCell, UsageFigures
from runtime.usage.ingest import ingest
from runtime.usage.store import UsageStore

HOURS: Final = 24
"""Hours of usage on pages, with the present hour."""


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


@dataclass(frozen=True, slots=True)
class HourFacts:
    """Figures of the live requests of an hour."""

    hour: str
    """Its start, ISO 8601, UTC."""
    requests: int
    errors: int
    p95_s: float | None


@dataclass(frozen=True, slots=True)
class UsageReading:
    """The live requests of the last day, by hour, client and alias."""

    since: datetime
    cells: tuple[UsageCell, ...]
    by_alias: Mapping[str, Sequence[UsageCell]]
    last_day: Mapping[str, UsageFacts]
    """By alias; aliases without a request are left out."""
    problem: str = ""
    """Why rows are lacking; empty: all rows of the gateways are in."""

    @classmethod
    def of(cls, since: datetime, cells: Sequence[UsageCell], problem: str = "") -> Self:
        """Return the reading of cells by hour, client and alias."""
        by_alias: dict[str, list[UsageCell]] = {}
        for cell in cells:
            by_alias.setdefault(cell.alias, []).append(cell)
        last_day = {alias: usage_facts(found) for alias, found in by_alias.items()}
        return cls(since, tuple(cells), by_alias, last_day, problem)

    def facts(self, alias: str) -> UsageFacts:
        """Return the figures of an alias."""
        return self.last_day.get(alias) or usage_facts(())

    def hours(self, alias: str) -> tuple[HourFacts, ...]:
        """Return the figures of an alias by hour."""
        return hour_facts(self.since, self.by_alias.get(alias, ()))


def read_usage(state_dir: Path, now: datetime) -> UsageReading:
    """Ingest new rows and return the last day; another process that ingests is not waited for."""
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
    except FleetError as error:
        return UsageReading.of(since, (), problem or error.diagnostics[0].detail)
    return UsageReading.of(since, cells, problem)


def summed(cells: Iterable[UsageCell]) -> UsageFigures:
    """Return the sum of cells."""
    return UsageFigures.sum_of(cell.figures for cell in cells)


def usage_facts(cells: Iterable[UsageCell]) -> UsageFacts:
    """Return the figures of cells together."""
    figures = summed(cells)
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
    hours = [since + timedelta(hours=number) for number in range(HOURS)]
    found = {hour: summed(cell for cell in cells if cell.start == hour) for hour in hours}
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
