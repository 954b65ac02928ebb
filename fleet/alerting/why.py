"""Ranks the changes around an alias by how well they fit the onset of its change for the worse."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleet.alerting.changes import AliasChange, ChangeKind
from fleet.alerting.timeline import LEAST, Measure, Onset, Timeline, around, summed
from fleet.usage import UsageCell, UsageFigures

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
