"""Finds the onset of a change for the worse in cells of usage, and loads that rose then."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from fleet.alerting.changes import AliasChange, ChangeKind
from fleet.capacity import USUAL_PROMPT_WEIGHT
from fleet.usage import Grain, UsageCell, UsageFigures

SPANS: Final = (3, 8)
"""Cells on either side of an onset that are compared; the short span finds what ends soon."""
SURE: Final = 5.0
"""Least rise, in standard errors, of a figure or a load; below, none is told."""
LEAST: Final = 20
"""Least requests on either side of an onset."""
LOAD_RISE: Final = 1.3
"""Least ratio of a load after and before, to count as a change."""


class Measure(StrEnum):
    """The figure of an alias that became worse."""

    LATENCY = "latency"
    ERRORS = "errors"
    REFUSED = "refused"


class Level(NamedTuple):
    """Count, sum and sum of squares of values; levels add up by field."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """The mean value; 0 without values."""
        return self.total / self.n if self.n else 0.0


class Onset(NamedTuple):
    """The beginning of a change for the worse; the greatest distance is the surest."""

    distance: float
    place: int
    """Number of the first cell after the change."""
    span: int
    measure: Measure


class Timeline:
    """The cells of an alias and its neighbours by start."""

    def __init__(self, alias: str, cells: Iterable[UsageCell]) -> None:
        """Sort the cells by alias and start."""
        self.alias, self.cells = alias, tuple(cells)
        self.own: dict[datetime, list[UsageCell]] = defaultdict(list)
        for cell in self.cells:
            if cell.alias == alias:
                self.own[cell.start].append(cell)
        self.starts = sorted({cell.start for cell in self.cells})
        self.servers = {cell.server for group in self.own.values() for cell in group} - {""}
        pairs = zip(self.starts, self.starts[1:], strict=False)
        self.length = min((b - a for a, b in pairs), default=Grain.QUARTER.length)

    def levels(
        self, measure: Measure, chosen: Callable[[UsageCell], bool] = lambda _: True
    ) -> list[Level]:
        """Return the level of a measure by start, of the alias's chosen cells."""
        return [
            summed(
                _level(measure, cell.figures) for cell in self.own.get(start, ()) if chosen(cell)
            )
            for start in self.starts
        ]

    def figures(self, starts: Iterable[datetime]) -> UsageFigures:
        """Return the figures of the alias in cells."""
        groups = (self.own.get(start, ()) for start in starts)
        return UsageFigures.sum_of(cell.figures for group in groups for cell in group)

    def onset(self) -> Onset | None:
        """Return the surest change for the worse; None: none is sure."""
        best: Onset | None = None
        for measure in Measure:
            series = self.levels(measure)
            for place in range(1, len(self.starts)):
                for span in SPANS:
                    distance = _distance(*around(series, place, span))
                    if distance >= SURE and (best is None or distance > best.distance):
                        best = Onset(distance, place, span, measure)
        return best

    def loads(self, onset: Onset) -> Iterator[AliasChange]:
        """Yield the loads that rose around an onset on the alias's servers, its own too."""
        work: dict[str, dict[datetime, float]] = defaultdict(lambda: defaultdict(float))
        counts: dict[str, dict[datetime, float]] = defaultdict(lambda: defaultdict(float))
        on: dict[str, set[str]] = defaultdict(set)
        for cell in self.cells:
            if cell.server in self.servers:
                work[cell.alias][cell.start] += _work(cell.figures)
                counts[cell.alias][cell.start] += cell.figures.requests
                on[cell.alias].add(cell.server)
        places = range(max(1, onset.place - onset.span), min(len(self.starts), onset.place + 3))
        for alias, requests in counts.items():
            sides = {place: self._sides(requests, place, onset.span) for place in places}
            place = max(places, key=lambda place: _poisson_distance(*sides[place]))
            before, after = map(_mean, sides[place])
            if _poisson_distance(*sides[place]) < SURE or after < LOAD_RISE * before:
                continue
            low, high = map(_mean, self._sides(work[alias], place, onset.span))
            total = sum(_mean(self._sides(work[name], place, onset.span)[1]) for name in work)
            minutes = self.length / timedelta(minutes=1)
            yield AliasChange(
                ChangeKind.OWN_LOAD if alias == self.alias else ChangeKind.LOAD,
                self.starts[place],
                alias,
                f"{before / minutes:.3g}",
                f"{after / minutes:.3g}",
                servers=tuple(sorted(on[alias])),
                strength=min(1.0, max(0.0, 2 * (high - low) / total)) if total else 0.0,
            )

    def _sides(
        self, values: Mapping[datetime, float], place: int, span: int
    ) -> tuple[list[float], list[float]]:
        series = [values.get(start, 0.0) for start in self.starts]
        return series[max(0, place - span) : place], series[place : place + span]


def _level(measure: Measure, figures: UsageFigures) -> Level:
    match measure:
        case Measure.LATENCY:
            pairs = figures.latency.buckets
            n, total = sum(count for _, count in pairs), sum(b * count for b, count in pairs)
            return Level(n, total, sum(b * b * count for b, count in pairs))
        case Measure.ERRORS:
            return Level(figures.requests, figures.errors, figures.errors)
        case Measure.REFUSED:
            return Level(figures.requests, figures.refused, figures.refused)


def summed(levels: Iterable[Level]) -> Level:
    """Return the sum of levels."""
    return Level(*map(sum, zip(Level(), *levels, strict=True)))


def around(series: Sequence[Level], place: int, span: int) -> tuple[Level, Level]:
    """Return the levels before and after the begin of a cell."""
    return summed(series[max(0, place - span) : place]), summed(series[place : place + span])


def _distance(before: Level, after: Level) -> float:
    """Return the rise of the mean in standard errors."""
    if min(before.n, after.n) < LEAST:
        return 0.0
    squares = sum(level.squares - level.n * level.mean**2 for level in (before, after))
    spread = max(squares / (before.n + after.n), 1e-4)
    return (after.mean - before.mean) / math.sqrt(spread * (1 / before.n + 1 / after.n))


def _poisson_distance(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the rise of counts in standard errors."""
    spread = sum(max(sum(side), 1.0) / len(side) ** 2 for side in (before, after))
    return (_mean(after) - _mean(before)) / math.sqrt(spread)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _work(figures: UsageFigures) -> float:
    tokens = figures.output_tokens + USUAL_PROMPT_WEIGHT * figures.input_tokens
    return tokens or float(figures.requests)
