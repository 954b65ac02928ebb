"""Counts requests and bad requests of both versions, window by window."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from fleet.gates.own_control import BY_WINDOW, SUMS, ByUser
from fleet.policies import RATIOS, GateSpec

ERRORS = "errors"
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

    Kinds: `errors format truncated`, `late:<gate>` for those beyond a gate's own limit, and
    `alarm:<gate>` for those beyond its alarm. Whether a request failed is always known; other kinds
    may not be, such as the form of an answer that has none declared.
    """

    requests: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    of: Mapping[str, int] = field(default_factory=dict)
    """By kind: requests that could be told to be good or bad; a kind left out was never told."""
    users: Mapping[str, ByUser] | None = None
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


def alarming(gate: str) -> str:
    """Return the kind of requests beyond a gate's alarm."""
    return f"alarm:{gate}"


def kind_of(gate: GateSpec) -> str:
    """Return the kind of bad requests that a gate counts."""
    return BAD.get(gate.metric) or late(gate.name)


Made = dict[str, float | tuple[float, ...]]


def counts_of(gate: GateSpec, windows: Sequence[Window], kind: str = "") -> Made:
    """Take the counts that a gate's rule needs out of the windows; pooled where the rule asks.

    `kind` is of the bad requests; empty: the gate's own.
    """
    kind = kind or kind_of(gate)
    made: Made = {}
    for suffix in ("", "_stable"):
        side = [window.stable if suffix else window.canary for window in windows]
        made |= _side(side, kind, suffix)
        if gate.alarm is not None and gate.metric in RATIOS:
            made |= _by_user(side, alarming(gate.name), f"alarm_{{}}{suffix}")
        arrived = (tally.requests if tally.arrived is None else tally.arrived for tally in side)
        made[f"split{suffix}"] = tuple(map(float, arrived))
    made["percent"] = tuple(
        float(-1 if window.percent is None else window.percent) for window in windows
    )
    sides = [tally for window in windows for tally in (window.canary, window.stable)]
    unnamed = sum(tally.unnamed for tally in sides)
    if unnamed or any(tally.users is not None for tally in sides):
        made["unnamed"] = float(unnamed)
    return _pooled(made) if gate.metric == "baseline_ratio" else made


def _side(side: Sequence[Tally], kind: str, suffix: str) -> Made:
    made: Made = {
        f"bad{suffix}": tuple(float(tally.bad.get(kind, 0)) for tally in side),
        f"requests{suffix}": tuple(float(tally.total(kind)) for tally in side),
    }
    return made | _by_user(side, kind, f"{{}}{suffix}")


def _by_user(side: Sequence[Tally], kind: str, name: str) -> Made:
    """Return the counts by user; without users every request is a user's only one."""
    found = [
        ByUser(bad, of, of, of, bad, of) if tally.users is None else tally.users.get(kind, ByUser())
        for tally in side
        for bad, of in [(tally.bad.get(kind, 0), tally.total(kind))]
    ]
    made: Made = {
        name.format(count): tuple(round(float(getattr(sums, count)), 6) for sums in found)
        for count in BY_WINDOW
    }
    for count in SUMS:
        made[name.format(count)] = round(float(sum(getattr(sums, count) for sums in found)), 6)
    return made


def _pooled(made: Made) -> Made:
    """Add the old version's counts to the new version's, save for the split."""
    found = dict(made)
    for name, value in made.items():
        other = made.get(f"{name}_stable")
        if isinstance(value, tuple) and isinstance(other, tuple) and name != "split":
            found[name] = tuple(mine + its for mine, its in zip(value, other, strict=True))
        elif isinstance(value, float) and isinstance(other, float):
            found[name] = value + other
    return found
