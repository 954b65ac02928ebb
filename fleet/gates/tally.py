"""Tallies: requests and bad requests of both sides, window by window."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from fleet.conditions import RATIOS, Gate

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
    """Requests of one side in one window, and how many of them were bad, by kind.

    Kinds: `errors format truncated slow_first_token slow_token slow_total`, and
    `late:<gate>` for those beyond a gate's own limit. Whether a request failed is always known;
    other kinds may not be, such as the form of an answer that has none declared.
    """

    requests: int = 0
    bad: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    of: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """By kind: requests that could be told to be good or bad; a kind left out was never told."""

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


def counts_of(gate: Gate, windows: Sequence[Window]) -> dict[str, tuple[float, ...]]:
    """Take out of the windows what this gate's rule needs; both sides as one where it asks."""
    kind = BAD.get(gate.metric) or SLOW.get(gate.metric) or late(gate.name)
    both = gate.metric == "baseline_ratio"

    def series(*sides: Sequence[Tally]) -> Iterator[tuple[str, tuple[float, ...]]]:
        for side, name in zip(sides, ("", "_stable"), strict=False):
            yield f"bad{name}", tuple(float(each.bad.get(kind, 0)) for each in side)
            yield f"requests{name}", tuple(float(each.total(kind)) for each in side)
            yield f"split{name}", tuple(float(each.requests) for each in side)

    canary, stable = [each.canary for each in windows], [each.stable for each in windows]
    made = dict(series(canary, stable))
    made["percent"] = tuple(float(-1 if each.percent is None else each.percent) for each in windows)
    if both:
        for name in ("bad", "requests"):
            pairs = zip(made[name], made[f"{name}_stable"], strict=True)
            made[name] = tuple(one + other for one, other in pairs)
    if gate.metric in RATIOS:
        made["late"] = tuple(float(each.bad.get(late(gate.name), 0)) for each in canary)
    return made
