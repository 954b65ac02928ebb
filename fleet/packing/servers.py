"""Pack adapters with hourly loads on the cheapest servers, a base on servers of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.packing.bounds import lower_bound
from fleet.packing.construct import WHOLE, construct
from fleet.packing.problem import Effort, Instance, Ints, Packing, Status
from fleet.packing.proofs import aggregate_bound, cheaper, is_small
from fleet.packing.search import Coarse, Thorough, exchange, recreate, recreate_parts
from fleet.packing.solver import available

MOVES: dict[Effort, tuple[int, int]] = {
    "fast": (15, 4_000),
    "balanced": (400, 50_000),
    "proof": (400, 150_000),
}
"""Moves of the search per server: the first number, and a part of the second that falls with the
number of servers, to a half at `HALF` servers."""
HALF = 20
LEAST_MOVES = 400
"""Lower bound of the moves of the search."""
FEW = 3_000
"""Moves that pay for any number of servers, at most `BY_ITEM` per item."""
BY_ITEM = 120
PAIRED = 8
"""Upper bound of the moves per pair of items: more would only repeat exchanges."""
RECREATED = 150
"""Items that are placed again after the search, per item; from effort `balanced` on."""
LARGE = 13_000
"""Moves that instances of more than `WHOLE` items are squeezed with: a part of these that grows
with their servers, a half of it at `LARGE_HALF`. At effort `fast` nothing follows."""
LARGE_HALF = 100


@dataclass(frozen=True, slots=True)
class Replica:
    """A copy of an adapter, to be placed."""

    adapter: int
    base: int
    rank: int
    """Index into the capacity table's ranks."""
    loads: tuple[int, ...]
    """Loads by hour, in the capacity table's unit."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Types of servers: price, and capacity by base."""

    bases: tuple[str, ...]
    gpus: tuple[str, ...]
    price: tuple[int, ...]
    """Prices of the GPU types, dollars an hour times `PRICE_UNIT`."""
    capacity: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    """`[base][gpu][highest rank index][number of adapters]`."""


@dataclass(frozen=True, slots=True)
class PackedServer:
    """A server and its replicas."""

    base: str
    gpu: str
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServerPacking:
    """Servers that hold every replica."""

    servers: tuple[PackedServer, ...]
    price: int
    """Sum of prices, dollars an hour times `PRICE_UNIT`."""
    bound: int
    """Lower bound of the price."""

    @property
    def status(self) -> Status:
        """Say whether the packing is proved to be the cheapest."""
        return "optimal" if self.price == self.bound else "feasible"


def pack_servers(
    replicas: Sequence[Replica], catalog: Catalog, *, effort: Effort = "balanced"
) -> ServerPacking:
    """Place every replica on the cheapest servers that the search finds.

    Replicas of the same adapter go to different servers; the number of servers has no limit. Effort
    `proof` proves small instances with HiGHS where the extra `proof` is installed. Deterministic:
    shuffled replicas cost the same, because they are sorted first.

    Raises:
        ValueError: A replica fits no GPU type even alone.
    """
    servers: list[PackedServer] = []
    price = floor = 0
    for base, members, instance in instances_of(replicas, catalog):
        packing, low = pack(instance, effort)
        price += packing.price(instance)
        floor += low
        for server, gpu in enumerate(packing.gpus.tolist()):
            items = tuple(sorted(members[packing.assignment == server].tolist()))
            servers.append(PackedServer(catalog.bases[base], catalog.gpus[gpu], items))
    return ServerPacking(tuple(servers), price, floor)


def instances_of(
    replicas: Sequence[Replica], catalog: Catalog
) -> Iterator[tuple[int, Ints, Instance]]:
    """Yield the instances of the bases with replicas, with the base and the replicas' indices.

    Raises:
        ValueError: A replica fits no GPU type even alone.
    """
    owners: dict[int, int] = {}
    order = sorted(
        range(len(replicas)),
        key=lambda i: (replicas[i].base, replicas[i].rank, replicas[i].loads, replicas[i].adapter),
    )
    for index in order:
        owners.setdefault(replicas[index].adapter, len(owners))
    for base in range(len(catalog.bases)):
        members = np.array([i for i in order if replicas[i].base == base], dtype=np.int64)
        chosen = [replicas[index] for index in members.tolist()]
        if not chosen:
            continue
        instance = Instance(
            np.array([replica.loads for replica in chosen], dtype=np.int64),
            np.array([replica.rank for replica in chosen], dtype=np.int64),
            np.array([owners[replica.adapter] for replica in chosen], dtype=np.int64),
            np.array(catalog.capacity[base], dtype=np.int64),
            np.array(catalog.price, dtype=np.int64),
        )
        alone = instance.loads.max(axis=1, initial=0) <= instance.capacity[:, instance.rank, 1]
        for index in members[~alone.any(axis=0)].tolist():
            raise ValueError(f"item {index} fits no GPU type, even alone on a server")
        yield base, members, instance


def pack(instance: Instance, effort: Effort) -> tuple[Packing, int]:
    """Pack the items of a base; return the packing and a lower bound of the price.

    Items are left out only where a stock has no servers for them.
    """
    floor = lower_bound(instance)
    first = construct(instance)
    placed = (first.assignment >= 0).nonzero()[0]
    if len(placed) == len(instance.rank):
        return _searched(instance, first, floor, effort)
    placed_packing, _ = _searched(
        instance.part(placed), Packing(first.gpus, first.assignment[placed]), 0, effort
    )
    first.assignment[placed] = placed_packing.assignment
    return Packing(placed_packing.gpus, first.assignment), floor


def _searched(
    instance: Instance, packing: Packing, floor: int, effort: Effort
) -> tuple[Packing, int]:
    by_server, more = MOVES[effort]
    servers, items = len(packing.gpus), len(instance.rank)
    if items > WHOLE:
        moves = servers * LARGE // (servers + LARGE_HALF)
        packing = exchange(instance, packing, moves, floor, Coarse(instance))
        packing = recreate_parts(instance, packing)
        if effort == "fast":
            return packing, floor
    least = max(LEAST_MOVES, min(FEW, BY_ITEM * items))
    moves = max(least, servers * by_server + servers * more // (servers + HALF))
    moves = min(moves, PAIRED * items**2)
    packing = exchange(instance, packing, moves, floor, Thorough(instance))
    if effort != "fast" and items <= WHOLE:
        packing = recreate(instance, packing, RECREATED * items, floor)
    if effort == "proof" and packing.price(instance) > floor and available():
        return _proved(instance, packing, max(floor, aggregate_bound(instance)))
    return packing, floor


def _proved(instance: Instance, packing: Packing, floor: int) -> tuple[Packing, int]:
    while packing.price(instance) > floor and is_small(instance, packing):
        floor, better = cheaper(instance, packing, floor)
        if better is None:
            break
        items = (np.flatnonzero(better.assignment == at) for at in range(len(better.gpus)))
        if not all(map(instance.fits, better.gpus.tolist(), items)):
            break
        packing = better
    return packing, floor
