"""Counts requests and bad requests of both versions, window by window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from fleet.gates.design_effect import Clustered, series
from fleet.rollout_policy import RATIOS, GateSpec

ERRORS = "errors"
SLOW: Mapping[str, str] = MappingProxyType(
    {
        "p95_ratio": "slow_total",
        "neighbour_ratio": "slow_total",
        "first_token_ratio": "slow_first_token",
        "token_time_ratio": "slow_token",
    }
)
"""By metric: what counts as slow, above the old version's pinned 95th percentile."""
BAD: Mapping[str, str] = MappingProxyType(
    {
        "error_rate_rise": ERRORS,
        "error_rate": ERRORS,
        "format_drop": "format",
        "truncation_rise": "truncated",
    }
)
"""By metric: the kind of bad request it counts."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The requests of a side in a window, and the number of bad requests by kind.

    Kinds: `errors format truncated slow_first_token slow_token slow_total`, and
    `late:<gate>` for those beyond a gate's own limit. Whether a request failed is always known;
    other kinds may not be, such as the form of an answer that has none declared.
    """

    requests: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    of: Mapping[str, int] = field(default_factory=dict)
    """By kind: requests that could be told to be good or bad; a kind left out was never told."""
    users: Mapping[str, Clustered] | None = None
    """By kind: the same by user; None: no request of the stage names one."""
    arrived: int | None = None
    """Draws of the split: new users, and requests without a user; None: as `requests`."""
    unnamed: int = 0
    """Requests without a user although the split goes by user; every such request is a unit."""

    def total(self, kind: str) -> int:
        """Return the requests among which a kind was counted."""
        return self.requests if kind == ERRORS else self.of.get(kind, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """Counts of both sides between two moments, in which the shares did not change."""

    start: datetime
    end: datetime
    canary: Tally
    stable: Tally
    percent: int | None = None
    """The share that the new version should have had; None: not to be checked."""


def late(gate: str) -> str:
    """Return the kind of requests beyond a gate's own limit."""
    return f"late:{gate}"


def counts_of(
    gate: GateSpec, windows: Sequence[Window], kind: str = ""
) -> dict[str, float | tuple[float, ...]]:
    """Take the counts that a gate's rule needs out of the windows; pooled where the rule asks.

    `kind` is of the bad requests; empty: the metric's own.
    """
    kind = kind or BAD.get(gate.metric) or SLOW.get(gate.metric) or late(gate.name)
    canary, stable = [window.canary for window in windows], [window.stable for window in windows]
    sides = ((canary, ""), (stable, "_stable"))
    made: dict[str, float | tuple[float, ...]] = {}
    for side, suffix in sides:
        made[f"bad{suffix}"] = tuple(float(tally.bad.get(kind, 0)) for tally in side)
        made[f"requests{suffix}"] = tuple(float(tally.total(kind)) for tally in side)
        arrived = (tally.requests if tally.arrived is None else tally.arrived for tally in side)
        made[f"split{suffix}"] = tuple(map(float, arrived))
    made["percent"] = tuple(
        float(-1 if window.percent is None else window.percent) for window in windows
    )
    by_user = any(tally.users is not None for tally in (*canary, *stable))
    kinds = [(kind, "")] if by_user else []
    if gate.metric in RATIOS:
        kinds += [(late(gate.name), "late")] if by_user else []
        for side, suffix in sides:
            beyond = (tally.bad.get(late(gate.name), 0) for tally in side)
            made[f"late{suffix}"] = tuple(map(float, beyond))
    for counted, prefix in kinds:
        for side, suffix in sides:
            users = [tally.users or {} for tally in side]
            made.update(series(users, counted, suffix, prefix))
    unnamed = sum(tally.unnamed for tally in (*canary, *stable))
    if by_user or unnamed:
        made["unnamed"] = float(unnamed)
    return _pooled(made) if gate.metric == "baseline_ratio" else made


def _pooled(made: Mapping[str, float | tuple[float, ...]]) -> dict[str, float | tuple[float, ...]]:
    """Add the old version's counts to the new version's, save for the split."""
    found = dict(made)
    for name, value in made.items():
        other = made.get(f"{name}_stable")
        if isinstance(value, tuple) and isinstance(other, tuple) and name != "split":
            found[name] = tuple(mine + its for mine, its in zip(value, other, strict=True))
        elif isinstance(value, float) and isinstance(other, float):
            found[name] = value + other
    return found
