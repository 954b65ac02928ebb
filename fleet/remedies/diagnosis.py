"""What a diagnosis says. Data only."""

from dataclasses import dataclass

from fleet.placement.causes import Cause, Total, Trial


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change with which the fleet fits, found by planning with it."""

    text: str
    """Such as `1 more h100_80g`."""
    what_if: tuple[str, ...]
    """Changes for `fleetctl plan --what-if`; empty where none says it."""
    edit: str
    """What to write in the declarations."""
    place: str
    """`file:line:col` where; empty: nothing there yet."""
    added_per_hour: float | None
    """Beyond what is placed already; None where a price is not declared."""
    restarts: int
    """Servers that are restarted."""
    moves: int
    """Versions that leave a server they are on."""
    devices: int = 0
    """Devices to be bought for it."""


@dataclass(frozen=True, slots=True)
class Tightest:
    """What a fleet that fits runs out of first."""

    server: str
    resource: str
    """`throughput`, `slots` or `latency`."""
    used: float
    """Part of what it may take, 1 being all."""
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Whether a fleet fits; why not, and what would help, the cheapest first."""

    fleet: str
    fits: bool
    lacking: tuple[str, ...] = ()
    """Versions without a place, or with fewer replicas than asked, sorted."""
    causes: tuple[Cause, ...] = ()
    trials: tuple[Trial, ...] = ()
    totals: tuple[Total, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    tried: int = 0
    """Changes that were planned with, those that do not help included."""
    tightest: tuple[Tightest, ...] = ()
    """By resource, the fullest first."""
