"""Takes down how a version fared before its rollout: times and users, pinned when it begins."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.gates.own_control import Usual, usual_of
from fleet.gates.rows import SERVER_FAULT, UsageRow, is_counted, kinds, limits_of, times_of
from fleet.rollout_policy import GateSpec

LEAST_ROWS = 20
"""Requests below which a 95th percentile is not pinned."""
HOUR = timedelta(hours=1)


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

    @property
    def times(self) -> dict[str, float | None]:
        """The 95th percentiles by measure."""
        return {"total": self.total, "first_token": self.first_token, "token": self.token}


UNKNOWN = Baseline()


def baseline(rows: Iterable[UsageRow]) -> Baseline:
    """Return the 95th percentiles of answered requests, pinned when a rollout begins."""
    found: dict[str, list[float]] = defaultdict(list)
    requests = 0
    for row in rows:
        if is_counted(row) and row["status"] < SERVER_FAULT:
            requests += 1
            for name, seconds in times_of(row).items():
                found[name].append(seconds)
    total, first, token = (
        _p95(found[name]) if len(found[name]) >= LEAST_ROWS else None
        for name in ("total", "first_token", "token")
    )
    return Baseline(total, first, token, requests)


def with_usual(
    known: Baseline, rows: Iterable[UsageRow], gates: Sequence[GateSpec], start: datetime
) -> Baseline:
    """Return a baseline with the usual bad requests of users, by the weeks before.

    Args:
        known: The percentiles, against which late requests are told.
        rows: Of the version, from before the rollout; in any order.
        gates: Live gates whose kinds of bad requests are asked for.
        start: Begin of the rollout.
    """
    limits = limits_of(gates, known.times)
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
    usual = {kind: usual_of(found) for kind, found in told.items()}
    return replace(known, usual=usual, hourly=requests / hours if hours > 1 else 0.0)


def _p95(values: Sequence[float]) -> float:
    """Return the 95th percentile: the smallest value that 95 % do not exceed."""
    ordered = sorted(values)
    return ordered[-(-95 * len(ordered) // 100) - 1]
