"""From declarations to the fleet: defaults and tiers merged, every reference checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from fleet import declarations as yaml
from fleet import declared
from fleet.crosscheck import Names, check
from fleet.declared import BaseShape, Fleet
from fleet.errors import Diagnostic
from fleet.lock import Lock
from fleet.names import AdapterName, Version
from fleet.overlay import Tree
from fleet.problems import Finding
from fleet.units import version_hint


@dataclass(frozen=True, slots=True)
class Facts:
    """What resolving needs to know from outside the declarations."""

    lock: Lock = field(default_factory=Lock)
    zones: frozenset[str] = frozenset()
    """Names of all known time zones; empty: unknown, and not checked."""
    fingerprints: Mapping[str, str | None] = field(default_factory=dict)
    """Secret reference to fingerprint; None: not readable here."""
    shapes: Mapping[str, BaseShape] = field(default_factory=dict)
    """Dimensions by base, read from the library."""
    absent: frozenset[str] = frozenset()
    """Golden sets that are declared and do not exist."""


def resolve(given: yaml.Declarations, tree: Tree, facts: Facts) -> tuple[Fleet, list[Finding]]:
    """Merge defaults and check what the declarations mean together.

    Args:
        given: The declarations, of the right shape.
        tree: The values and places that they come from.
        facts: What is known from outside.

    Returns:
        The fleet, and all findings; with an error among them the fleet is not to be used.
    """
    names = Names.of(tree.value, given)
    findings = list(check(given, names, facts.lock, facts.zones, facts.absent))
    findings += _shared_secrets(given, facts.fingerprints)
    fleet = Fleet(
        name=given.fleet,
        clients=_sorted((n, _client(n, each, given, facts)) for n, each in given.clients.items()),
        tiers=_sorted((n, _tier(n, each)) for n, each in _tiers(given).items()),
        bases=_sorted((n, _base(n, each, facts)) for n, each in given.bases.items()),
        hosts=_sorted((n, _host(n, each)) for n, each in given.hosts.items()),
        adapters=_sorted(_adapters(given)),
        rollouts=_sorted((n, _rollout(n, each)) for n, each in _rollouts(given).items()),
        gates=_sorted((n, _gate(n, each)) for n, each in given.gates.items()),
        gateways=_sorted((n, _gateway(n, each)) for n, each in given.gateways.items()),
        keep_versions=given.defaults.keep_versions,
        versions=_sorted((name, entry.facts) for name, entry in facts.lock.adapters.items()),
        origins=tree,
        renames=_sorted(_renames(given)),
        warnings=tuple(each.detail for each in findings if each.severity == "warning"),
    )
    return fleet, findings


def diagnostics(findings: Iterable[Finding], tree: Tree) -> tuple[Diagnostic, ...]:
    """Give findings their places and source lines, sorted by place.

    A line that holds a secret is never quoted.
    """
    found = list(findings)
    secret = {
        (place.file, place.line)
        for each in found
        if each.code == "FC1110" and (place := tree.place(each.path))
    }
    made = [_diagnostic(each, tree, secret) for each in found]
    return tuple(sorted(made, key=_by_place))


def _by_place(each: Diagnostic) -> tuple[str, int, int, str, str]:
    place = each.place
    spot = (place.file, place.line, place.column) if place else ("", 0, 0)
    return (*spot, each.code, each.detail)


def _diagnostic(each: Finding, tree: Tree, secret: set[tuple[str, int]]) -> Diagnostic:
    detail, hint = each.detail, each.hint
    place = tree.place(each.path, of_key=each.at == "key")
    if each.code == "FC1103":  # the number as written can only be read from the source
        number = float(detail)
        line = tree.sources.line(place) if place else ""
        written = line[place.column - 1 :].split(" #")[0].rstrip(" ,}") if place else detail
        reads = int(number) if "." not in detail else detail
        detail = f"You wrote {written}, YAML reads it as the number {reads}; quote it."
        hint = version_hint(written)
    also = tuple(
        (label, spot) for label, path in each.also if (spot := tree.place(path, of_key=True))
    )
    made = tree.diagnostic(
        each.code,
        each.path,
        detail,
        of_key=each.at == "key",
        hint=hint,
        command=each.command,
        also=also,
        severity=each.severity,
    )
    if place and (place.file, place.line) in secret:
        return replace(made, source="")
    return made


def _sorted(items: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    return MappingProxyType(dict(sorted(items, key=lambda item: item[0])))


def _tiers(given: yaml.Declarations) -> dict[str, yaml.Tier]:
    return {"standard": yaml.Tier(), **given.tiers}


def _rollouts(given: yaml.Declarations) -> dict[str, yaml.Rollout]:
    return {"standard": yaml.Rollout(), **given.rollouts}


def _tier(name: str, each: yaml.Tier) -> declared.Tier:
    return declared.Tier(name, each.replicas, each.retrain_every)


def _rollout(name: str, each: yaml.Rollout) -> declared.Rollout:
    return declared.Rollout(name, each.weights, each.bake, each.retain, each.gates)


def _gate(name: str, each: yaml.Gate) -> declared.Gate:
    return declared.Gate(name, each.metric, each.max.number, each.max.unit)


def _gateway(name: str, each: yaml.Gateway) -> declared.Gateway:
    return declared.Gateway(name, each.listen, each.admin or "")


def _client(
    name: str, each: yaml.Client, given: yaml.Declarations, facts: Facts
) -> declared.Client:
    keys = tuple(
        declared.ClientKey(key, reference, facts.fingerprints.get(reference))
        for key, reference in sorted(each.keys.items())
    )
    return declared.Client(name, each.tier or given.defaults.tier, each.monthly_fee, keys)


def _base(name: str, each: yaml.Base, facts: Facts) -> declared.Base:
    locked = facts.lock.bases.get(name)
    return declared.Base(
        name=name,
        model=each.model,
        dtype=each.dtype,
        max_model_len=each.max_model_len,
        kv_cache_bytes=each.kv_cache,
        min_kv_tokens=each.min_kv_tokens,
        slots=each.max_loras,
        max_lora_rank=each.max_lora_rank,
        extra=tuple(sorted(_flag(flag, value) for flag, value in each.flags.items())),
        shape=facts.shapes.get(name) or (locked.shape if locked else None),
    )


def _flag(name: str, value: str | float | bool) -> tuple[str, str]:  # noqa: FBT001 (a YAML value)
    if isinstance(value, bool):
        return (name if value else f"no-{name}"), ""
    return name, str(value)


def _host(name: str, each: yaml.Host) -> declared.Host:
    devices = tuple(
        declared.Device(
            device,
            its.kind,
            its.memory,
            its.price_per_hour,
            its.port or each.port + position,
        )
        for position, (device, its) in enumerate(each.devices.items())
    )
    attached = tuple(
        declared.AttachedServer(
            server, its.url, its.base, its.max_loras, its.max_lora_rank, its.price_per_hour
        )
        for server, its in sorted(each.servers.items())
    )
    paths = tuple(sorted(each.paths.items(), key=lambda pair: (-len(pair[0]), pair[0])))
    return declared.Host(
        name, each.engine, devices, attached, each.python or "", paths, each.address
    )


def _adapters(given: yaml.Declarations) -> Iterable[tuple[str, declared.Adapter]]:
    tiers, defaults = _tiers(given), given.defaults
    for client_name, client in given.clients.items():
        tier = tiers.get(client.tier or defaults.tier)
        replicas = tier.replicas if tier else 1
        for task, each in client.adapters.items():
            name = AdapterName(client_name, task, each.base, Version.parse(each.version))
            yield (
                name.alias,
                declared.Adapter(
                    name=name,
                    rollout=each.rollout or defaults.rollout,
                    demand=_demand(each.demand) if each.demand else None,
                    latency=each.latency or defaults.latency,
                    replicas=each.replicas or replicas,
                    pin=each.pin,
                    golden=each.golden,
                    smoke=each.smoke,
                ),
            )


def _demand(each: yaml.Demand) -> declared.Demand:
    return declared.Demand(
        each.peak_rpm,
        each.hours,
        each.timezone,
        each.batch,
        each.prompt_tokens,
        each.output_tokens,
    )


def _renames(given: yaml.Declarations) -> Iterable[tuple[str, str]]:
    for client_name, client in given.clients.items():
        for task, each in client.adapters.items():
            if each.formerly:
                yield f"{client_name}-{task}", each.formerly


def _shared_secrets(
    given: yaml.Declarations, fingerprints: Mapping[str, str | None]
) -> Iterable[Finding]:
    seen: dict[str, tuple[str | int, ...]] = {}
    for client_name, client in sorted(given.clients.items()):
        for key, reference in sorted(client.keys.items()):
            path = ("clients", client_name, "keys", key)
            identity = fingerprints.get(reference) or reference
            if identity in seen:
                other = seen[identity]
                detail = (
                    f"`{client_name}/{key}` and `{other[1]}/{other[3]}` have the same secret, so "
                    "a gateway cannot tell who calls."
                )
                yield Finding(
                    "FC1213",
                    path,
                    detail,
                    hint="Give each key its own secret.",
                    command=f"fleetctl key create {client_name}/{key}",
                    also=(("the other key at", other),),
                )
            else:
                seen[identity] = path
