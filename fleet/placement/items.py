"""Items: the versions to place, their load and rules, and their number of replicas."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fleet.capacity import HOURS, USUAL_PROMPT_WEIGHT, Load, load_of
from fleet.hardware import HostSpec
from fleet.names import alias_of
from fleet.rollouts import AliasTarget, RolloutTargets
from fleet.spec import AdapterSpec, FleetSpec, Spread

WASTEFUL = 0.5
"""Lower bound of the part of the weakest server that a replica has to use to be kept."""


@dataclass(frozen=True, slots=True, order=True)
class ReplicaSlot:
    """A place where a replica could be, alone."""

    limit: float
    """Tokens per second that the best server there may carry."""
    price: float
    """Of that server, an hour."""


@dataclass(frozen=True, slots=True)
class ReplicaSteps:
    """Places of a replica, the strongest first, prepared for thousands of questions."""

    limits: tuple[float, ...]
    """Of each place."""
    steps: tuple[tuple[float, float], ...]
    """Each limit once, above 0 and falling, with the least price of a token per second there or at
    a stronger place."""

    @classmethod
    def of(cls, places: Iterable[ReplicaSlot]) -> Self:
        """Sort places; no place: nowhere."""
        found = sorted(places, key=lambda place: (-place.limit, place.price))
        steps: dict[float, float] = {}
        least = inf
        for slot in found:
            if slot.limit > 0:
                least = min(least, slot.price / slot.limit)
                steps[slot.limit] = least
        return cls(tuple(slot.limit for slot in found), tuple(steps.items()))

    def price(self, part: float) -> float:
        """Return the least that a token per second costs where such a part of a load fits."""
        return min((price for limit, price in self.steps if limit >= part > 0), default=inf)


NOWHERE = ReplicaSteps((), ())


def replicas_for(
    declared: AdapterSpec, load: Load, places: ReplicaSteps, now: int = 0, slack: float = 1.0
) -> list[int]:
    """Return how many servers may hold an adapter, the best number first.

    As many as declared, or more where they cannot carry it. Parts of a load take a slot each,
    and what they add up to stays the same: so the fewest, unless weaker servers carry more for
    their price. Those there are stay while they carry the load and are no waste, so that a small
    change of demand moves nothing. The others are for a search that finds no place, or a
    cheaper one.

    Args:
        declared: The adapter.
        load: What all its replicas are asked together.
        places: One for each place that a replica may have.
        now: Replicas that have its traffic.
        slack: What running servers may be asked for, as a multiple of what new ones may.
    """
    limits = places.limits
    least, peak, most = max(declared.replicas, 1), max(load.tokens), len(limits)
    if not most or not peak:
        return [least]
    fewest = next(
        (count for count in range(least, most + 1) if peak <= limits[count - 1] * count),
        max(least, most),  # too few all the same
    )
    weaker = [bucket for bucket, _ in places.steps if bucket < peak / fewest]
    found = [fewest, *(min(ceil(peak / limit), most) for limit in weaker)]
    if weaker:
        found.sort(key=lambda count: (places.price(peak / count), count))
    keeps = fewest < now <= most and peak > WASTEFUL * limits[-1] * (now - 1)
    bears = least <= now < fewest and peak <= slack * limits[now - 1] * now
    if keeps or bears or now == fewest:
        found.insert(0, now)
    return list(dict.fromkeys(found))


Ints = NDArray[np.int64]
RATE_UNIT = 10
"""Loads are decode-equivalent tokens per second times this, as integers: sums are exact."""
Places = Callable[[AdapterSpec, str, int], ReplicaSteps]
ACTIVE_UNIT = 1_000_000
"""Concurrencies are times this, as integers."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemLoad:
    """Load of an alias on each server that serves it, by hour, UTC."""

    tokens: Ints
    """In `RATE_UNIT`ths of a decode-equivalent token per second, shape `(24,)`."""
    active: Ints
    """Expected share of the time with a request in the batch, in `ACTIVE_UNIT`ths."""


NOTHING = ItemLoad(np.zeros(HOURS, dtype=np.int64), np.zeros(HOURS, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """An adapter version to place, on `replicas` servers that share no device."""

    adapter: str
    alias: str
    client: str
    base: str
    rank: int
    """0 where it is not known; such a version stays where it is."""
    replicas: int
    prior: tuple[str, ...]
    """Servers that its route names or that hold it, in order of preference."""
    load: ItemLoad
    """Load on each of its servers; versions of an alias on one server share it."""
    pin: str | None = None
    avoid: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    """Aliases and clients that it never shares a server with."""
    isolation_group: str = ""
    """Adapters of this group alone may share its servers; empty: the shared group."""
    groups: frozenset[str] = frozenset()
    """Its client and tier, for which hosts may be reserved."""
    spread: Spread = "device"
    cached: bool = False
    """It waits in host memory for a LoRA slot and has none of its own."""
    others: int = 0
    """Other numbers of replicas that may be tried."""
    answer: int = 0
    """Tokens of its usual answer; 0 where no demand is known."""
    promised_s: float = 0.0
    """Seconds within which 95 % of its answers are due."""

    @property
    def peak(self) -> int:
        """Load of the busiest hour."""
        return int(self.load.tokens.max())

    def may_be_on(self, host: HostSpec) -> bool:
        """Say whether a host may hold the version, by reservation and `avoid`."""
        return host_allows(host, self.groups, self.avoid)


def host_allows(host: HostSpec, groups: frozenset[str], avoid: frozenset[str]) -> bool:
    """Say whether a host is open to a client and tier, and not avoided."""
    reserved = host.reserved_for and groups.isdisjoint(host.reserved_for)
    return not reserved and host.name not in avoid


def pinned_to(pin: str | None, host: str) -> bool:
    """Say whether a pin, of a host or of a server, lets an adapter onto a host."""
    return pin is None or pin == host or f"-{host}-" in pin


def items_of(
    fleet: FleetSpec,
    targets: RolloutTargets,
    places: Places,
    unplaced: dict[str, str],
    failed: Mapping[str, int],
) -> Iterator[Item]:
    """Yield the versions to place; a version that cannot be loaded goes into `unplaced`.

    Args:
        fleet: The declarations.
        targets: The versions that every alias should have.
        places: Where an adapter of a base and rank could be; empty where that is nowhere, or
            nothing is known.
        unplaced: Takes what is not placed, with the reason.
        failed: By alias, how many numbers of replicas were tried and found no place.
    """
    slack = (1 + 1 / fleet.policy.utilization) / 2
    for target in targets.wanted.values():
        declared = fleet.adapters[target.alias]
        replicas, replica_load, others = 0, NOTHING, 0
        for adapter, _ in target.shares:
            facts = fleet.versions.get(adapter)
            loaded = targets.loaded.get(adapter, ())
            prior = tuple(dict.fromkeys((*targets.routed.get(adapter, ()), *loaded)))
            base = adapter.split("-", 3)[2]
            if replicas == 0:
                load = load_of(declared.demand, USUAL_PROMPT_WEIGHT, declared.slo_s)
                found = places(declared, base, facts.rank if facts else 0)
                choices = replicas_for(declared, load, found, _serving(target, targets), slack)
                others = len(choices) - 1
                replicas = choices[min(failed.get(target.alias, 0), others)]
                replica_load = _replica_load(load, replicas)
            copies = replicas
            if facts is None or base not in fleet.bases:
                if not prior:
                    unplaced[adapter] = (
                        "it is not in fleet.lock: fleetctl adapter add"
                        if base in fleet.bases
                        else f"its base `{base}` is not declared"
                    )
                    continue
                copies = min(copies, len(prior))
            yield Item(
                adapter, target.alias, declared.name.client, base, facts.rank if facts else 0,
                copies, prior, replica_load, declared.pin, frozenset(declared.avoid),
                frozenset(declared.apart), _isolation_group(declared),
                frozenset((declared.name.client, declared.tier)), declared.spread,
                declared.residency == "cached", others,
                declared.demand.output_tokens if declared.demand else 0, declared.slo_s,
            )  # fmt: skip


def _serving(alias: AliasTarget, targets: RolloutTargets) -> int:
    """Return the number of servers that serve an alias by its live route, or else that hold it."""
    names = [name for name, _ in alias.shares]
    routed = max((len(targets.routed.get(name, ())) for name in names), default=0)
    return routed or max((len(targets.loaded.get(name, ())) for name in names), default=0)


def conflicts(items: Mapping[str, Item]) -> dict[str, frozenset[str]]:
    """Return, by alias, the aliases that it must not share a server with, either way round."""
    clients: dict[str, set[str]] = {}
    for item in items.values():
        clients.setdefault(item.client, set()).add(item.alias)
    found: dict[str, set[str]] = {}
    for item in items.values():
        for other in item.apart:
            for alias in clients.get(other, {other}) - {item.alias}:
                found.setdefault(item.alias, set()).add(alias)
                found.setdefault(alias, set()).add(item.alias)
    return {alias: frozenset(others) for alias, others in found.items()}


def alias_conflict(conflicts: Mapping[str, frozenset[str]], item: Item, names: set[str]) -> bool:
    """Say whether any of the versions in `names` must stay apart from an item."""
    others = conflicts.get(item.alias, frozenset())
    return bool(others) and any(alias_of(name) in others for name in names)


def _isolation_group(declared: AdapterSpec) -> str:
    match declared.isolation:
        case "shared":
            return ""
        case "tier":
            return f"tier {declared.tier}"
        case "client":
            return f"client {declared.name.client}"


def _replica_load(load: Load, replicas: int) -> ItemLoad:
    """Return the load of one replica: the gateway spreads requests evenly."""
    if not max(load.tokens):
        return NOTHING
    tokens = np.array(load.tokens) * RATE_UNIT / replicas
    return ItemLoad(
        np.ceil(tokens - 1e-9).astype(np.int64),
        np.ceil(np.array(load.concurrency) * ACTIVE_UNIT - 1e-6).astype(np.int64),
    )


CERTAINTY = 2.33
"""Standard deviations above the mean of active cached adapters that slots are kept for (99 %)."""


def slots_for_cached(waiting: list[Item]) -> int:
    """Return the slots that adapters without slots of their own share.

    The number that is active at a time is a sum of independent events; its mean and variance
    add up, and a normal bound of `CERTAINTY` deviations covers the busiest hour.
    """
    if not waiting:
        return 0
    busy = np.array([item.load.active for item in waiting]) / ACTIVE_UNIT
    mean, variance = busy.sum(axis=0), (busy * (1 - busy)).sum(axis=0)
    return max(1, min(len(waiting), ceil(float((mean + CERTAINTY * np.sqrt(variance)).max()))))
