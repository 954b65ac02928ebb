"""Takes down how a version fared before its rollout: times and users, pinned when it begins."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from fleet.gates.counts import alarming, kind_of
from fleet.gates.own_control import CONSTANTS, Beliefs, Usual, usual_of
from fleet.gates.rows import (
    SERVER_FAULT,
    LatenessLimits,
    UsageRow,
    is_counted,
    kinds,
    limits_of,
    times_of,
    whole_tokens,
)
from fleet.policies import GateSpec

LEAST_ROWS = 20
"""Requests below which a 95th percentile is not pinned."""
HOUR = timedelta(hours=1)
BEFORE = timedelta(days=7)
"""Length of the time before a rollout from which the old version's usual times are taken."""
MEASURES = ("total", "first_token", "token", "whole")


@dataclass(frozen=True, slots=True)
class Baseline:
    """A version before its rollout: 95th percentiles in seconds (None: not known), and users."""

    total: float | None = None
    first_token: float | None = None
    token: float | None = None
    requests: int = 0
    """Behind the percentiles."""
    usual: Mapping[str, Usual] = field(default_factory=dict)
    """By kind of bad requests; empty: not asked for."""
    hourly: float = 0.0
    """Requests an hour, nights and weekends included."""

    whole: float | None = None
    """95th percentile of answers that were not streamed, by token. Unit: seconds."""
    whole_tokens: float = 0.0
    """Median of the tokens of such answers; shorter ones are judged as if they had so many."""

    def limits(self, gates: Sequence[GateSpec]) -> LatenessLimits:
        """Return the times beyond which requests are late, by gates."""
        times = {name: getattr(self, name) for name in MEASURES}
        return limits_of(gates, times, self.whole_tokens)


UNKNOWN = Baseline()


def baseline(rows: Iterable[UsageRow]) -> Baseline:
    """Return the 95th percentiles of answered requests, pinned when a rollout begins."""
    answered = [row for row in rows if is_counted(row) and row["status"] < SERVER_FAULT]
    tokens = sorted(filter(None, map(whole_tokens, answered)))
    usual_tokens = float(tokens[len(tokens) // 2]) if tokens else 0.0
    found: dict[str, list[float]] = defaultdict(list)
    for row in answered:
        for name, seconds in times_of(row, usual_tokens).items():
            found[name].append(seconds)
    total, first, token, whole = (
        _p95(found[name]) if len(found[name]) >= LEAST_ROWS else None for name in MEASURES
    )
    return Baseline(total, first, token, len(answered), whole=whole, whole_tokens=usual_tokens)


def baselines(
    rows: Iterable[UsageRow], serving: Mapping[str, str], start: datetime
) -> Iterator[tuple[str, Baseline]]:
    """Yield aliases and their usual times before the rollout, of the version that counts.

    `serving`: that version, by alias.
    """
    before: dict[str, list[UsageRow]] = {}
    for row in rows:
        alias = str(row.get("alias"))
        if serving.get(alias, row.get("version")) != row.get("version"):
            continue
        if start - BEFORE <= datetime.fromisoformat(row["time"]) < start:
            before.setdefault(alias, []).append(row)
    for alias, found in before.items():
        yield alias, baseline(found)


def with_usual(
    known: Baseline,
    rows: Iterable[UsageRow],
    gates: Sequence[GateSpec],
    start: datetime,
    believed: Mapping[str, Beliefs] = MappingProxyType({}),
) -> Baseline:
    """Return a baseline with the usual bad requests of users, by the weeks before.

    Args:
        known: The percentiles, against which late requests are told.
        rows: Of the version, from before the rollout; in any order.
        gates: Live gates whose kinds of bad requests are asked for.
        start: Begin of the rollout.
        believed: By metric, of users of whom little was seen; a metric left out: the constants.
    """
    limits = known.limits(gates)
    told: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)
    first, requests = start, 0
    for row in rows:
        if not is_counted(row):
            continue
        requests += 1
        moment = datetime.fromisoformat(row["time"])
        first, day = min(first, moment), (start - moment).days
        for kind, bad in kinds(row, limits):
            told[kind].append((str(row.get("unit") or ""), day, bad))
    hours = (start - first) / HOUR
    beliefs = {
        kind: believed[gate.metric]
        for gate in gates
        if gate.metric in believed
        for kind in (kind_of(gate), alarming(gate.name))
    }
    usual = {kind: Usual.assumed(belief) for kind, belief in beliefs.items()}
    usual |= {kind: usual_of(found, beliefs.get(kind, CONSTANTS)) for kind, found in told.items()}
    return replace(known, usual=usual, hourly=requests / hours if hours > 1 else 0.0)


def _p95(values: Sequence[float]) -> float:
    """Return the 95th percentile: the smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]
