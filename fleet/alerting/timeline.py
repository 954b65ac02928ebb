"""Finds the onset of a change for the worse, the loads that rose then, and the likeliest cause."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


SHOWN: Final = 0.01
"""Least score of a change that is listed."""
_LEAST_OUTSIDE: Final = 10
"""Least requests outside of a scope, to compare with."""
_USUAL: Final[Mapping[ChangeKind, float]] = {
    ChangeKind.VERSION: 1.0,
    ChangeKind.WEIGHTS: 1.0,
    ChangeKind.LOAD: 1.0,
    ChangeKind.OWN_LOAD: 0.9,
    ChangeKind.ENGINE: 0.9,
    ChangeKind.LIMIT: 0.8,
    ChangeKind.RESTART: 0.8,
    ChangeKind.MOVE: 0.7,
    ChangeKind.EVAL: 0.7,
}
"""How often a change of the kind makes an alias worse, where nothing else tells."""


@dataclass(frozen=True, slots=True)
class RankedChange:
    """A change with its score, 0 to 1: how well time, scope and strength fit."""

    change: AliasChange
    score: float


@dataclass(frozen=True, slots=True)
class WhyWorse:
    """The onset of an alias's change for the worse, figures on either side, and ranked changes.

    Without an onset, the figures are of the first and second half of the time.
    """

    alias: str
    measure: Measure
    onset: datetime | None
    before: UsageFigures
    after: UsageFigures
    causes: tuple[RankedChange, ...]
    """The best fit first; without an onset the newest first."""


def explain_worse(
    alias: str, cells: Iterable[UsageCell], changes: Iterable[AliasChange]
) -> WhyWorse:
    """Find the onset of an alias's change for the worse, and rank its likely causes.

    `cells`: live requests of the alias and of others on its servers, by alias, version, server.
    `changes`: from the ledger; changes of loads are found in the cells.
    """
    line = Timeline(alias, cells)
    onset = line.onset()
    if onset is None:
        half = len(line.starts) // 2
        before, after = line.figures(line.starts[:half]), line.figures(line.starts[half:])
        newest = sorted(changes, key=lambda change: change.at, reverse=True)
        causes = tuple(RankedChange(change, 0.0) for change in newest)
        return WhyWorse(alias, Measure.LATENCY, None, before, after, causes)
    ranked = [
        RankedChange(change, _score(line, onset, change))
        for change in (*changes, *line.loads(onset))
    ]
    ranked.sort(key=lambda cause: (-cause.score, cause.change.at, cause.change.subject))
    place, span = onset.place, onset.span
    return WhyWorse(
        alias,
        onset.measure,
        line.starts[place],
        line.figures(line.starts[max(0, place - span) : place]),
        line.figures(line.starts[place : place + span]),
        tuple(cause for cause in ranked if cause.score >= SHOWN),
    )


def _score(line: Timeline, onset: Onset, change: AliasChange) -> float:
    fit = _time_fit(line, onset, change) * _scope_fit(line, onset, change)
    return fit * _end_fit(line, onset, change) * change.strength * _USUAL[change.kind]


def _time_fit(line: Timeline, onset: Onset, change: AliasChange) -> float:
    """Return how well the time of a change fits: an effect follows its cause, and soon."""
    cells = (line.starts[onset.place] - change.at) / line.length
    return math.exp(-max(0.0, cells - 1) / 2) * math.exp(-2 * max(0.0, -cells - 1))


def _scope_fit(line: Timeline, onset: Onset, change: AliasChange) -> float:
    """Return how well the scope of a change fits: worse inside of it, and not outside."""
    if not change.versions and not change.servers:
        return 0.6
    _, place, span, measure = onset

    def inside(cell: UsageCell) -> bool:
        of_version = not change.versions or cell.version in change.versions
        return of_version and (not change.servers or cell.server in change.servers)

    before, _ = around(line.levels(measure), place, span)
    _, within = around(line.levels(measure, inside), place, span)
    _, outside = around(line.levels(measure, lambda cell: not inside(cell)), place, span)
    rise = within.mean - before.mean
    if within.n < _LEAST_OUTSIDE or rise <= 0:
        return 0.05
    if outside.n < _LEAST_OUTSIDE:
        return 0.8
    return max(0.1, 1.0 - max(0.0, outside.mean - before.mean) / rise)


def _end_fit(line: Timeline, onset: Onset, change: AliasChange) -> float:
    """Return how well the end of a change fits: the figure is better again after it."""
    if change.until is None:
        return 1.0
    begin = line.starts[onset.place]
    if change.until < begin:
        return 0.1
    series = line.levels(onset.measure)
    before, during = around(series, onset.place, onset.span)
    pairs = zip(line.starts, series, strict=True)
    after = summed(level for start, level in pairs if start > change.until + line.length)
    if after.n < LEAST:
        return 1.0
    return 1.0 if after.mean - before.mean < (during.mean - before.mean) / 2 else 0.2
