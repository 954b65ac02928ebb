"""Defines the consequences of a plan beyond its steps: rollouts, terms, restarts, late answers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A declared value that differs from the last apply, beside the resources."""

    path: str
    """Dotted path in the declarations, such as `hosts.box1.python`."""
    before: str | None
    """The value at the last apply, secrets as references; None: the default."""
    after: str | None  # the value in force after the apply; None: the default
    acts: bool = False
    """Whether the value names a program, an address, a path or a flag that commands use."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Likely ends of a rollout whose version is no worse than the old version; parts of 1."""

    promoted: float
    """Chance that all gates pass by themselves."""
    held: float
    """Chance that a gate cannot tell, so that a person decides."""
    failed: float
    """Chance that a gate fails by mistake."""


@dataclass(frozen=True, slots=True)
class RolloutAhead:
    """The stages of a rollout that follow the apply without another review."""

    version: str
    """Full name of the new version."""
    stable: str
    """Full name of the version that had the traffic before; empty: none had."""
    percent: int
    """Share right after the apply."""
    weights: tuple[int, ...]
    """Shares that follow, ascending; 100 is the last."""
    bake_s: float
    """Lower bound of the time at a share with traffic, in seconds."""
    begins: bool
    """Whether the plan begins the rollout, and does not merely carry the rollout on."""
    golden: tuple[str, ...] = ()
    """Gates on golden sets that have to pass before the next share."""
    gated: bool = False
    """Whether the rollout has gates at all."""
    closed: tuple[str, ...] = ()
    """Parts of the week in which no share rises, as declared."""
    back_out_s: float = 1.0
    """Usual seconds of a rollback while the rollout goes on."""
    chances: Chances | None = None
    """None: unknown, or no gate is left."""
    longest_s: float = 0.0
    """Seconds at a share without a verdict after which people decide."""
    needed: int | None = None
    """Requests of the new version, about, with which its live gates can tell at its next share;
    None: unknown, or no gate asks for any."""
    needed_s: float | None = None
    """Seconds until these requests are expected, by recorded or declared demand."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """Consequences of a plan for an alias that its steps alone do not show."""

    client: str  # name of the client
    alias: str  # name of the alias
    rollout: RolloutAhead | None = None
    settings: tuple[SettingChange, ...] = ()
    """Declared values that hold for the alias and change: of its tier, rollout, gates, devices."""
    servers: tuple[str, ...] = ()
    """Servers that answer for the alias and are to restart, or to be replaced by an upgrade."""


BoundBasis = Literal["resources", "configurations", "whole servers"]
"""How a lower bound of the price is found: by sums of resources, by all shapes of servers, or also
by whole numbers of servers on the declared devices."""


@dataclass(frozen=True, slots=True)
class LateAliases:
    """Aliases whose answers are expected later than their p95, by the law of throughput."""

    judged: int  # aliases whose answers have an expected time
    promised: tuple[str, ...] = ()
    """Late aliases whose tier promises the p95, sorted."""
    aimed: tuple[str, ...] = ()
    """Late aliases for which the p95 is the aim of their latency class alone, sorted."""


@dataclass(frozen=True, slots=True)
class LossOutlook:
    """Whether every promise is kept after the loss of any single device."""

    kept: bool | None  # null: not known without a search, see `diagnose --loss`
    place: str = ""  # device whose loss breaks most, such as `box1/gpu0`; empty: none is known
    unserved: tuple[str, ...] = ()
    """Aliases with a version that no server holds then, sorted; empty also where sums tell."""
    fewer: tuple[str, ...] = ()  # aliases that have fewer replicas then, sorted
    late: tuple[str, ...] = ()  # aliases whose answers come later than promised then, sorted
