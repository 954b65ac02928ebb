"""Simulated traffic of an alias, in quarters of an hour: healthy weeks and sick ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from fleet.alerting.alert import (
    Alert,
    AlertPhase,
    LatencyBaseline,
    advance,
    hour_class,
    latency_baseline,
)
from fleet.alerting.rules import SLOWER, AliasFacts, alias_findings
from fleet.usage import Sketch, UsageCell, UsageFigures, bucket_of

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
DAY, WEEK = 96, 672
"""Quarters."""
ALIAS, VERSION, SERVER = "acme-support", "acme-support-tiny-v1.0.0", "tiny-host-gpu0"
MEDIAN, SIGMA, PROMISE = 0.5, 0.5, 2.0
"""Seconds, and the spread of the logarithm; the p95 is 1.1 s on average."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sickness:
    """What is wrong from a quarter on: a factor for a part of the requests, and errors."""

    slower: float = 1.0
    part: float = 1.0
    errors: float = 0.003


def load_curve(quarters: Array) -> Array:
    """Return the load of quarters of a week: high by day, low at night, half at weekends."""
    hour = quarters % DAY / 4
    day = 0.3 + 1.4 * np.clip(np.sin((hour - 6) / 14 * np.pi), 0, None)
    return np.asarray(day * np.where(quarters % WEEK // DAY >= 5, 0.5, 1.0))


def wander(rng: np.random.Generator, count: int) -> Array:
    """Return factors that wander by 10 % over hours: other prompts, other neighbours."""
    steps, found = rng.normal(0, 0.1 * np.sqrt(1 - 0.9**2), count), np.empty(count)
    level = 0.0
    for place, step in enumerate(steps):
        level = 0.9 * level + step
        found[place] = level
    return np.exp(found)


def weeks(
    rng: np.random.Generator, rpm: float, count: int, begin: int = WEEK, sick: Sickness = Sickness()
) -> Iterator[UsageCell]:
    """Yield the quarters of `count` weeks; sick from quarter `begin` of the last week on."""
    quarters = np.arange(count * WEEK, dtype=float)
    loads = load_curve(quarters)
    factors = MEDIAN * wander(rng, len(quarters)) * (0.9 + 0.15 * loads)
    for place, (load, factor) in enumerate(zip(loads, factors, strict=True)):
        ill = place >= (count - 1) * WEEK + begin
        n = int(rng.poisson(15 * rpm * load))
        latencies = factor * np.exp(rng.normal(0, SIGMA, n))
        if ill:
            latencies = np.where(rng.random(n) < sick.part, sick.slower * latencies, latencies)
        errors = int(rng.binomial(n, sick.errors if ill else 0.003))
        figures = UsageFigures(requests=n, errors=errors, latency=sketch(latencies[errors:]))
        yield UsageCell(MONDAY + place * QUARTER, figures, alias=ALIAS, version=VERSION)


def sketch(latencies: Array) -> Sketch:
    if not len(latencies):
        return Sketch()
    step = np.log(1.01 / 0.99)
    buckets, counts = np.unique(np.ceil(np.log(latencies) / step).astype(int), return_counts=True)
    assert bucket_of(float(latencies[0])) == int(np.ceil(np.log(latencies[0]) / step))
    return Sketch(tuple(zip(buckets.tolist(), counts.tolist(), strict=True)))


def hours_of(quarters: list[UsageCell]) -> list[UsageCell]:
    """Return cells of whole hours."""
    groups = (quarters[place : place + 4] for place in range(0, len(quarters), 4))
    return [
        replace(group[0], figures=sum((cell.figures for cell in group), UsageFigures()))
        for group in groups
    ]


def baselines(hours: list[UsageCell]) -> dict[tuple[bool, int], LatencyBaseline]:
    """Return the baseline of every class of hours."""
    classes = {hour_class(cell.start) for cell in hours}
    return {
        kind: latency_baseline(
            [cell for cell in hours if hour_class(cell.start) == kind], VERSION, (), PROMISE
        )
        for kind in classes
    }


def looks(
    quarters: list[UsageCell],
    usual: Callable[[datetime], LatencyBaseline],
    hours: list[UsageCell],
    promise_s: float = PROMISE,
) -> Iterator[tuple[int, tuple[Alert, ...]]]:
    """Yield the alerts after a look at the end of every quarter."""
    alerts: tuple[Alert, ...] = ()
    for place in range(1, len(quarters) + 1):
        now = MONDAY + place * QUARTER + (quarters[0].start - MONDAY)
        recent = hours[max(0, place // 4 - 72) : place // 4]
        facts = AliasFacts(
            ALIAS, promise_s, usual(quarters[place - 1].start),
            tuple(quarters[max(0, place - 32) : place]), tuple(recent), (SERVER,),
        )  # fmt: skip
        pinned = next((a.baseline for a in alerts if a.rule == "slow" and a.until is None), None)
        alerts = advance(alerts, alias_findings(facts, pinned, now), now)
        yield place, alerts


def begun(alerts: tuple[Alert, ...], rule: str) -> int:
    """Return how many alerts of a rule have fired so far."""
    return sum(alert.rule == rule and alert.phase != AlertPhase.PENDING for alert in alerts)


def naive(cell: UsageCell, usual: LatencyBaseline) -> bool:
    """Say whether the p95 of a quarter is above twice the usual p95."""
    p95 = cell.figures.latency.quantile(0.95)
    return p95 is not None and p95 > SLOWER * usual.p95_s
