"""Defines candidates, advice and diagnosis: changes to try, and their results. Data only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fleet.hardware import BaseSpec, HostSpec
from fleet.names import alias_of
from fleet.placement import Attempt, PlacementCause, TotalNeed
from fleet.spec import AdapterSpec, FleetSpec

SpecChange = Callable[[FleetSpec], FleetSpec]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One change to be tried."""

    text: str
    edit: str
    path: tuple[str, ...]
    """Dotted path of what is edited, for its place in the files."""
    change: SpecChange | None = None
    """None: made by `what_if`."""
    what_if: tuple[str, ...] = ()
    devices: int = 0
    """Devices that are bought."""
    priced: bool = True
    """False where what it costs is not known."""


Candidates = tuple[Candidate, ...]
"""Ever larger changes of one kind: the first that works is enough."""


def aliases_of(fleet: FleetSpec, cause: PlacementCause) -> list[AdapterSpec]:
    """Return the adapters that a cause keeps out, by alias."""
    names = sorted({alias_of(adapter) for adapter in cause.adapters})
    return [fleet.adapters[name] for name in names if name in fleet.adapters]


def path_of(adapter: AdapterSpec) -> tuple[str, ...]:
    """Return where an adapter is declared."""
    return ("clients", adapter.name.client, "adapters", adapter.name.task)


def listed(adapters: Sequence[AdapterSpec], shown: int = 3) -> str:
    """Return the aliases, beyond a few only how many more there are."""
    names = ", ".join(adapter.alias for adapter in adapters[:shown])
    rest = len(adapters) - shown
    return f"{names} and {rest} more" if rest > 0 else names


def with_adapters(adapters: Sequence[AdapterSpec], **fields: object) -> SpecChange:
    """Return the change that gives adapters these fields."""
    changed = {adapter.alias: replace(adapter, **fields) for adapter in adapters}  # type: ignore[arg-type]
    return lambda fleet: replace(fleet, adapters={**fleet.adapters, **changed})


def with_host(host: HostSpec) -> SpecChange:
    """Return the change that replaces the host of the same name."""
    return lambda fleet: replace(fleet, hosts={**fleet.hosts, host.name: host})


def with_base(base: BaseSpec) -> SpecChange:
    """Return the change that replaces the base of the same name."""
    return lambda fleet: replace(fleet, bases={**fleet.bases, base.name: base})


@dataclass(frozen=True, slots=True)
class Advice:
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
    causes: tuple[PlacementCause, ...] = ()
    trials: tuple[Attempt, ...] = ()
    totals: tuple[TotalNeed, ...] = ()
    remedies: tuple[Advice, ...] = ()
    tried: int = 0
    """Changes that were planned with, those that do not help included."""
    tightest: tuple[Tightest, ...] = ()
    """By resource, the fullest first."""
