"""How peers place adapters, as far as their sources and manuals say; one function each.

All get more than they ask for: per base the kind of device that carries most for its price, and as
many of them as the rule wants. Their servers start with the rank of the base's largest adapter, as
nobody chooses ranks by server there.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from fleet.capacity.demand import HOURS, Load
from fleet.capacity.server import (
    NO_REQUEST_MIX,
    RequestMix,
    ServerShape,
    Throughput,
    least_bytes,
    request_mix_of,
    throughput_of,
)
from fleet.hardware import BaseSpec, DeviceSpec
from fleet.placement.model.accounts import replica_load
from fleet.placement.model.server_types import every_server_type
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm.lora_slots import SLOTS, rank_bucket

AIBRIX_ADAPTERS = 10
"""Adapters that AIBrix's bin-packing scheduler takes for a pod's capacity, whatever they are.

Source: aibrix `pkg/controller/modeladapter/scheduling/binpack.go`, a constant of August 2026.
"""
HASHED_SLOTS = 32
"""Slots of each server where adapters are hashed, and where they are packed by their peaks."""
NO_STARVING = 0.9
"""Part of the slots that adapters expected in flight may take where others wait for them."""


@dataclass(slots=True)
class Pod:
    """A server of a peer's placement, or of ours."""

    name: str
    shape: ServerShape
    adapters: list[str] = field(default_factory=list)
    """Aliases."""
    price: float = 0.0


Rule = Callable[["Site", Sequence[Pod]], list[Pod]]
"""From one base's adapters and the pods there were to the pods there are."""


@dataclass(frozen=True, slots=True)
class Site:
    """One base with its adapters, and the kind of server that it is given."""

    base: BaseSpec
    adapters: tuple[AdapterSpec, ...]
    """By alias."""
    device: DeviceSpec
    cards: int
    price: float
    rank: int
    habits: RequestMix
    utilization: float

    def shape(self, slots: int) -> ServerShape:
        """Return a server with so many slots."""
        return ServerShape(self.base, self.device, self.cards, 1, slots, self.rank, shared=False)

    def fits(self, slots: int) -> bool:
        """Say whether a server with so many slots starts."""
        shape = self.shape(slots)
        return least_bytes(shape) <= int(self.device.memory_bytes * shape.memory_share)

    def carries(self, slots: int) -> Throughput:
        """Return what a server with so many slots may carry at the fleet's utilisation."""
        return throughput_of(self.shape(slots), self.habits, (), self.utilization)

    def load(self, adapter: AdapterSpec, replicas: int | None = None) -> Load:
        """Return what each replica of an adapter is asked."""
        return replica_load(adapter, replicas or adapter.replicas)

    def pod(self, number: int, slots: int) -> Pod:
        """Return an empty server."""
        return Pod(f"{self.base.name}-{number:03}", self.shape(slots), price=self.price)


def sites(fleet: FleetSpec) -> list[Site]:
    """Return every base that has adapters, each with the kind that carries most for its price."""
    by_base: dict[str, list[AdapterSpec]] = defaultdict(list)
    for _, each in sorted(fleet.adapters.items()):
        by_base[each.name.base].append(each)
    habits = request_mix_of(fleet.adapters.values())
    found = []
    for name, adapters in sorted(by_base.items()):
        base = fleet.bases[name]
        largest = max(fleet.versions[str(each.name)].rank for each in adapters)
        rank = rank_bucket(largest) or largest
        choices = [
            Site(base, tuple(adapters), kind.device, kind.tensor_parallel, kind.price, rank,
                 habits.get(name, NO_REQUEST_MIX), fleet.policy.utilization)
            for kind in every_server_type(fleet, base) if kind.parts == 1
        ]  # fmt: skip
        fitting = next(
            several for slots in (HASHED_SLOTS, HASHED_SLOTS // 2, AIBRIX_ADAPTERS, 1)
            if (several := [each for each in choices if each.fits(slots)])
        )  # fmt: skip
        found.append(min(fitting, key=_price_of_throughput))
    return found


def _price_of_throughput(site: Site) -> float:
    limit = site.carries(slots_of(site)).limit
    return site.price / limit if limit else inf


def ten_per_pod(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """AIBrix: into the fullest pod that has fewer than ten adapters; nothing ever moves."""
    pods = _kept(site, before)
    for adapter in site.adapters:
        held = [each for each in pods if adapter.alias in each.adapters]
        for _ in range(adapter.replicas - len(held)):
            room = [
                each for each in pods
                if len(each.adapters) < AIBRIX_ADAPTERS and adapter.alias not in each.adapters
            ]  # fmt: skip
            if not room:
                room = [site.pod(len(pods), AIBRIX_ADAPTERS)]
                pods += room
            max(room, key=lambda each: (len(each.adapters), each.name)).adapters.append(
                adapter.alias
            )
    return pods


def all_on_all(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """production-stack: every adapter of a base on every pod; as many pods as the load needs.

    With the number of slots that needs the fewest; adapters that are idle take none (cached).
    """
    del before
    fitting = [each for each in SLOTS if site.fits(each)]
    count, slots = min((_everywhere(site, each), each) for each in fitting)
    pods = [site.pod(each, slots) for each in range(count)]
    for pod in pods:
        pod.adapters = [each.alias for each in site.adapters]
    return pods


def _everywhere(site: Site, slots: int) -> int:
    """Return the fewest servers that carry the load with all adapters on each."""
    limit = site.carries(slots)
    room = min(slots, len(site.adapters)) * (1.0 if slots >= len(site.adapters) else NO_STARVING)
    for count in range(1, len(site.adapters) + 1):
        loads = [site.load(each, count) for each in site.adapters]
        if all(_within(loads, hour, limit, room) for hour in range(HOURS)):
            return count
    return len(site.adapters)


def _within(loads: Sequence[Load], hour: int, limit: Throughput, room: float) -> bool:
    tokens = sum(each.tokens[hour] for each in loads)
    active = sum(each.concurrency[hour] for each in loads)
    return tokens <= limit.at(active) and active <= room


def first_fit(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """By peak: into the first server that has a slot and carries the sum of all daily peaks."""
    del before
    slots = slots_of(site)
    limit = site.carries(slots)
    pods: list[Pod] = []
    peaks: list[tuple[float, float]] = []
    for adapter in site.adapters:
        load = site.load(adapter)
        asked = (max(load.tokens), max(load.concurrency))
        for _ in range(adapter.replicas):
            for at, pod in enumerate(pods):
                tokens, active = (sum(each) for each in zip(peaks[at], asked, strict=True))
                room = len(pod.adapters) < slots and adapter.alias not in pod.adapters
                if room and tokens <= limit.at(active):
                    break
            else:
                at = len(pods)
                pods.append(site.pod(at, slots))
                peaks.append((0.0, 0.0))
            pods[at].adapters.append(adapter.alias)
            peaks[at] = (peaks[at][0] + asked[0], peaks[at][1] + asked[1])
    return pods


def _kept(site: Site, before: Sequence[Pod]) -> list[Pod]:
    """Return the pods there were, without the adapters that are gone."""
    wanted = {each.alias for each in site.adapters}
    mine = [each for each in before if each.shape.base.name == site.base.name]
    return [
        replace(each, adapters=[alias for alias in each.adapters if alias in wanted])
        for each in mine
    ]


def slots_of(site: Site) -> int:
    """Return the most slots of a server, up to `HASHED_SLOTS`, with which the base starts."""
    return next(each for each in reversed(SLOTS) if each <= HASHED_SLOTS and site.fits(each))


def enough(site: Site, slots: int) -> int:
    """Return the fewest servers that carry all load in every hour if it were spread evenly."""
    limit = site.carries(slots)
    loads = [site.load(each, 1) for each in site.adapters]
    totals = [
        (sum(each.tokens[hour] for each in loads), sum(each.concurrency[hour] for each in loads))
        for hour in range(HOURS)
    ]
    count = 1
    while any(tokens / count > limit.at(active / count) for tokens, active in totals):
        count += 1
    return count
