"""Takes the usual p95 of an alias from its healthy hours of the same class."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleet.usage import Grain, Sketch, UsageCell

WEEK: Final = timedelta(days=7)
LEAST_HISTORY: Final = WEEK
"""Least time of healthy requests from which a baseline is taken."""
HISTORY: Final = 4 * WEEK
"""Time that a baseline looks back."""
LEAST_REQUESTS: Final = 50
"""Least answered requests of a window, and of a baseline's class of hours."""
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class LatencyBaseline:
    """The usual p95 of an alias in a class of hours."""

    p95_s: float
    days: float = 0.0
    """Days of healthy hours behind the figure; 0: the promise stands in for it."""


def hour_class(start: datetime) -> tuple[bool, int]:
    """Return the class of an hour: on a weekend or not, and the hour of the day, UTC."""
    return start.weekday() >= _SATURDAY, start.hour


def same_class(now: datetime) -> list[datetime]:
    """Return the starts of the hours of the class of `now` in the time of a baseline."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    days = (hour - timedelta(days=day) for day in range(1, HISTORY.days + 1))
    return [start for start in days if hour_class(start) == hour_class(hour)]


def latency_baseline(
    cells: Sequence[UsageCell],
    version: str,
    sick: Sequence[tuple[datetime, datetime]],
    promise_s: float,
) -> LatencyBaseline:
    """Return the baseline of an alias from cells of the same class of hours.

    Hours of another version than `version`, and hours in which the alias had an alert (`sick`),
    are left out. Where less than a week of hours is left, the promise is the baseline.
    """
    healthy = [
        cell
        for cell in cells
        if cell.version == version
        and not any(cell.start < until and since < _end(cell) for since, until in sick)
    ]
    latency = sum((cell.figures.latency for cell in healthy), Sketch())
    days = {cell.start for cell in healthy}
    span = max(days) - min(days) + timedelta(days=1) if days else timedelta()
    p95 = latency.quantile(0.95)
    if p95 is None or span < LEAST_HISTORY or latency.count < LEAST_REQUESTS:
        return LatencyBaseline(promise_s)
    return LatencyBaseline(p95, span / timedelta(days=1))


def _end(cell: UsageCell) -> datetime:
    return cell.start + Grain.HOUR.length
