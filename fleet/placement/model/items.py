"""Items: the versions to place, their load and rules, and their number of replicas."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fleet.capacity import HOURS, USUAL_PROMPT_WEIGHT, LatencyTarget, Load, load_of
from fleet.names import base_of
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
    """Price of that server, an hour."""


@dataclass(frozen=True, slots=True)
class ReplicaSteps:
    """Places of a replica, the strongest first, prepared for thousands of questions."""

    limits: tuple[float, ...]
    """Limit of every place."""
    steps: tuple[tuple[float, float], ...]
    """Distinct limits above 0, falling, with the least price of a token per second there or at a
    stronger place."""

    @classmethod
    def of(cls, places: Iterable[ReplicaSlot]) -> Self:
        """Sort places; no place: nowhere."""
        strongest = sorted(places, key=lambda place: (-place.limit, place.price))
        steps: dict[float, float] = {}
        least = inf
        for slot in strongest:
            if slot.limit > 0:
                least = min(least, slot.price / slot.limit)
                steps[slot.limit] = least
        return cls(tuple(slot.limit for slot in strongest), tuple(steps.items()))

    def price(self, part: float) -> float:
        """Return the least price of a token per second where such a part of a load fits."""
        return min((price for limit, price in self.steps if limit >= part > 0), default=inf)


NOWHERE = ReplicaSteps((), ())


def replicas_for(
    declared: AdapterSpec, load: Load, places: ReplicaSteps, now: int = 0, slack: float = 1.0
) -> list[int]:
    """Return the numbers of servers that may hold an adapter, the best number first.

    The best number is the declared number of replicas, or more where those cannot carry the load.
    Every part of a load takes a slot, and the parts add up to the same load: so the fewest are
    best, unless weaker servers carry more for their price. The present number stays while it
    carries the load and is no waste, so that a small change of demand moves nothing. The further
    numbers are for a search that finds no place, or a cheaper place: of a load that has to be
    divided, the last is that of parts of which two fit on the strongest server. None is below the
    declared number.

    The `load` is that of all replicas together, `now` the number of replicas with traffic, `slack`
    the load that running servers may have, as a multiple of that of new servers.
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
    counts = [fewest, *(min(ceil(peak / limit), most) for limit in weaker)]
    if weaker:
        counts.sort(key=lambda count: (places.price(peak / count), count))
    keeps = fewest < now <= most and peak > WASTEFUL * limits[-1] * (now - 1)
    bears = least <= now < fewest and peak <= slack * limits[now - 1] * now
    if keeps or bears or now == fewest:
        counts.insert(0, now)
    ordered = list(dict.fromkeys(counts))
    halves = min(max(ceil(2 * peak / limits[0]), least), most) if fewest > least else ordered[0]
    if halves != ordered[0]:
        ordered = [*(count for count in ordered if count != halves), halves]
    return ordered


Ints = NDArray[np.int64]
RATE_UNIT = 10
"""Loads are decode-equivalent tokens per second times this, as integers: sums are exact."""
ACTIVE_UNIT = 1_000_000
"""Concurrencies are times this, as integers."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemLoad:
    """Load of an alias on a server, by hour, UTC."""

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
    """0 where not known, or where the version must stay: such a version stays where it is."""
    replicas: int
    prior: tuple[str, ...]
    """Servers in the route or with the version loaded, in order of preference."""
    load: ItemLoad
    """Load on a server; versions of an alias on a server share the load."""
    pin: str | None = None
    avoid: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    """Aliases and clients that never share a server with the version."""
    isolation_group: str = ""
    """Group whose versions alone may share servers with the version; empty: the shared group."""
    groups: frozenset[str] = frozenset()
    """Client and tier of the version, for which hosts may be reserved."""
    spread: Spread = "device"
    cached: bool = False
    """True where the version waits in host memory for a LoRA slot and has none of its own."""
    retries: int = 0
    """Other numbers of replicas that may be tried."""
    answer: int = 0
    """Tokens of the usual answer; 0 where no demand is known."""
    promised_s: float = 0.0
    """Seconds within which 95 % of the answers are due: promised, or the aim of the class."""
    promise: LatencyTarget | None = None
    """Promised latency; None: nothing is promised."""
    stays: bool = False
    """Whether no server may be left, as the client is set aside."""

    @property
    def is_held(self) -> bool:
        """Whether nothing may move the version to another server."""
        return self.stays or self.pin is not None

    @property
    def peak(self) -> int:
        """Load of the busiest hour."""
        return int(self.load.tokens.max())


class ReplicaPlaces(Protocol):
    """The places that replicas of adapters could have, and the promises of answers there."""

    def steps(self, declared: AdapterSpec, base: str, rank: int) -> ReplicaSteps:
        """Return the places on servers of a base; empty: no place, or nothing is known."""

    def promise(self, declared: AdapterSpec, base: str) -> LatencyTarget | None:
        """Return the promise of an adapter on a base."""


def items_of(
    fleet: FleetSpec,
    targets: RolloutTargets,
    places: ReplicaPlaces,
    unplaced: dict[str, str],
    failed: Mapping[str, int],
    *,
    afresh: bool = False,
    staying: Collection[str] = (),
) -> Iterator[Item]:
    """Yield the versions to place; a version that cannot be loaded goes into `unplaced`.

    `failed` counts, by alias, the numbers of replicas that were tried and found no place.
    `afresh`: the present number of replicas does not matter. Versions in `staying` leave no server
    of theirs.
    """
    slack = (1 + 1 / fleet.policy.utilization) / 2
    for target in targets.wanted.values():
        declared = fleet.adapters[target.alias]
        replicas, replica_load, other_choices = 0, NOTHING, 0
        client, tier = declared.name.client, declared.tier
        stays = client in fleet.set_aside
        priors = {name: _prior(name, targets) for name, _ in target.shares}
        least = max((len(priors[name]) for name in priors if name in staying), default=0)
        groups = {"shared": "", "tier": f"tier {tier}", "client": f"client {client}"}
        for adapter, _ in target.shares:
            facts = fleet.versions.get(adapter)
            prior = priors[adapter]
            base = base_of(adapter)
            if replicas == 0:
                load = load_of(declared.demand, USUAL_PROMPT_WEIGHT, declared.slo_s)
                limits = places.steps(declared, base, facts.rank if facts else 0)
                now = 0 if afresh and not stays else _serving(target, targets)
                choices = replicas_for(declared, load, limits, now, slack) if not stays else [now]
                other_choices = len(choices) - 1
                replicas = max(choices[min(failed.get(target.alias, 0), other_choices)], least)
                replica_load = item_load(declared, replicas)
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
            if stays:
                copies = len(prior)
            yield Item(
                adapter, target.alias, client, base, facts.rank if facts and not stays else 0,
                copies, prior, replica_load, declared.pin, frozenset(declared.avoid),
                frozenset(declared.apart), groups[declared.isolation],
                frozenset((client, tier)), declared.spread,
                declared.residency == "cached", other_choices,
                declared.demand.output_tokens if declared.demand else 0,
                declared.slo_s if declared.aimed else inf,
                places.promise(declared, base), stays,
            )  # fmt: skip


def _prior(adapter: str, targets: RolloutTargets) -> tuple[str, ...]:
    """Return the servers of a version, those of its route first."""
    loaded = targets.loaded.get(adapter, ())
    return tuple(dict.fromkeys((*targets.routed.get(adapter, ()), *loaded)))


def _serving(alias: AliasTarget, targets: RolloutTargets) -> int:
    """Return the number of servers in an alias's live route, else of those with its versions."""
    names = [name for name, _ in alias.shares]
    routed = max((len(targets.routed.get(name, ())) for name in names), default=0)
    return routed or max((len(targets.loaded.get(name, ())) for name in names), default=0)


def item_load(declared: AdapterSpec, replicas: int) -> ItemLoad:
    """Return the load of a replica: the gateway spreads requests evenly."""
    number = max(declared.replicas, replicas, 1)
    load = load_of(declared.demand, USUAL_PROMPT_WEIGHT, declared.slo_s, number)
    if not max(load.tokens):
        return NOTHING
    return ItemLoad(
        np.ceil(np.array(load.tokens) * RATE_UNIT - 1e-9).astype(np.int64),
        np.ceil(np.array(load.concurrency) * ACTIVE_UNIT - 1e-6).astype(np.int64),
    )


CERTAINTY = 2.33
"""Standard deviations above the mean of active cached adapters that slots are kept for (99 %)."""


def slots_for_cached(waiting: list[Item]) -> int:
    """Return the slots that adapters without slots of their own share.

    The number of adapters that are active at a time is a sum of independent events; its mean and
    variance add up, and a normal bound of `CERTAINTY` deviations covers the busiest hour.
    """
    if not waiting:
        return 0
    busy = np.array([item.load.active for item in waiting]) / ACTIVE_UNIT
    mean, variance = busy.sum(axis=0), (busy * (1 - busy)).sum(axis=0)
    return max(1, min(len(waiting), ceil(float((mean + CERTAINTY * np.sqrt(variance)).max()))))
