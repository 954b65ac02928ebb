"""Defines candidates, advice and diagnosis: changes to try, and their results. Data only."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fleet.hardware import SHEETS, BaseSpec, HostSpec
from fleet.names import alias_of
from fleet.placement import Attempt, PlacementCause, TotalNeed
from fleet.spec import AdapterSpec, FleetSpec

SpecChange = Callable[[FleetSpec], FleetSpec]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change to be tried."""

    text: str
    edit: str
    path: tuple[str, ...]
    """Dotted path of the edited field, for its place in the files."""
    change: SpecChange | None = None
    """None: made by `what_if`."""
    what_if: tuple[str, ...] = ()
    devices: int = 0
    """Devices that are bought."""
    priced: bool = True
    """False where the price is not known."""


Candidates = tuple[Candidate, ...]
"""Ever larger changes of the same kind: the first that works is enough."""


def aliases_of(fleet: FleetSpec, cause: PlacementCause) -> list[AdapterSpec]:
    """Return the adapters that a cause keeps out, by alias."""
    names = sorted({alias_of(adapter) for adapter in cause.adapters})
    return [fleet.adapters[name] for name in names if name in fleet.adapters]


def with_another(
    fleet: FleetSpec, cause: PlacementCause, field: str, value: str
) -> tuple[list[AdapterSpec], ...]:
    """Return the unplaced adapters, and all of their base, with another value of a field."""
    of_base = [adapter for adapter in fleet.adapters.values() if adapter.name.base == cause.base]
    return tuple(
        [adapter for adapter in adapters if getattr(adapter, field) != value]
        for adapters in (aliases_of(fleet, cause), of_base)
    )


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
    return with_changed(replace(adapter, **fields) for adapter in adapters)  # type: ignore[arg-type]


def for_adapters(
    adapters: Sequence[AdapterSpec], text: str, edit: str, rule: str, value: object
) -> Candidates:
    """Return the candidate that gives adapters another value of a rule; none for no adapters."""
    if not adapters:
        return ()
    path, change = (*path_of(adapters[0]), rule), with_adapters(adapters, **{rule: value})
    return (Candidate(f"{text} for {listed(adapters)}", edit, path, change),)


def with_changed(adapters: Iterable[AdapterSpec]) -> SpecChange:
    """Return the change that replaces the adapters of the same aliases."""
    changed = {adapter.alias: adapter for adapter in adapters}
    return lambda fleet: replace(fleet, adapters={**fleet.adapters, **changed})


def with_fields(kind: str, spec: Any, **fields: object) -> SpecChange:
    """Return the change that gives a host of `hosts`, or a base of `bases`, these fields."""
    changed = {spec.name: replace(spec, **fields)}

    def change(fleet: FleetSpec) -> FleetSpec:
        specs: dict[str, Any] = {kind: {**getattr(fleet, kind), **changed}}
        return replace(fleet, **specs)

    return change


def with_member(host: HostSpec, kind: str, member: Any, **fields: object) -> SpecChange:
    """Return the change that gives a host's device or attached server these fields."""
    changed = replace(member, **fields)
    members = (changed if other is member else other for other in getattr(host, kind))
    return with_fields("hosts", host, **{kind: tuple(members)})


def base_flag(base: BaseSpec, flag: str, value: int, now: object, hint: str = "") -> Candidate:
    """Return the candidate that starts servers of a base with another value of a flag."""
    return Candidate(
        f"{flag} {value} on base {base.name}",
        f"`{flag}: {value}` (now {now}){hint}",
        ("bases", base.name, flag),
        what_if=(f"base {base.name} {flag} {value}",),
    )


def new_kinds(
    fleet: FleetSpec, field: str, least: float, adjective: str, hint: str = ""
) -> Candidates:
    """Return a device of every undeclared kind whose data sheet exceeds `least`, smallest first.

    Their prices are unknown.
    """
    declared = {device.kind for host in fleet.hosts.values() for device in host.devices}
    sheets = sorted((getattr(sheet, field), kind) for kind, sheet in SHEETS.items())
    return tuple(
        Candidate(
            f"a {adjective} device, such as 1 {kind}",
            f"declare a device of kind `{kind}` with its price{hint}",
            ("hosts",),
            what_if=(f"gpu {kind} +1 at 0",),
            devices=1,
            priced=False,
        )
        for figure, kind in sheets
        if figure > least and kind not in declared
    )


@dataclass(frozen=True, slots=True)
class Advice:
    """A change with which the fleet was planned and fits."""

    text: str
    """Such as `1 more h100_80g`."""
    what_if: tuple[str, ...]
    """Changes for `fleetctl plan --what-if`; empty where no what-if text says the change."""
    edit: str
    """Text to write in the declarations."""
    place: str
    """`file:line:col` where; empty: nothing there yet."""
    added_per_hour: float | None
    """Price beyond that of the placed servers; None where a price is not declared."""
    restarts: int
    """Servers that are restarted."""
    moves: int
    """Versions that leave a server they are on."""
    devices: int = 0
    """Devices to be bought."""


@dataclass(frozen=True, slots=True)
class Tightest:
    """The server that has the least left of a resource, in a fleet that fits."""

    server: str
    resource: str
    """`throughput`, `slots` or `latency`."""
    used: float
    """Used part of the resource; 1 is all that the server may use."""
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Causes for which a fleet does not fit, and advice, the cheapest first."""

    fleet: str
    fits: bool
    lacking: tuple[str, ...] = ()
    """Versions without a place, or with fewer replicas than asked, sorted."""
    causes: tuple[PlacementCause, ...] = ()
    trials: tuple[Attempt, ...] = ()
    totals: tuple[TotalNeed, ...] = ()
    remedies: tuple[Advice, ...] = ()
    tried: int = 0
    """Number of changes that were planned with, those that do not help included."""
    tightest: tuple[Tightest, ...] = ()
    """By resource, the fullest first."""
