"""The plain packer of fleets: adapters with hourly loads on the cheapest servers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.packing.bounds import bound as lower_bound
from fleet.packing.construct import WHOLE, construct
from fleet.packing.exchange import improve
from fleet.packing.problem import PRICE_UNIT, Group, Ints, Rack
from fleet.packing.squeeze import squeeze
from fleet.packing.vectors import Effort, Status

MOVES: dict[Effort, tuple[int, int]] = {
    "fast": (15, 4_000),
    "balanced": (400, 50_000),
    "proof": (400, 150_000),
}
"""Moves of the search for each server: the first, and a part of the second that falls with their
number, to a half at `HALF` servers."""
HALF = 20
LEAST_MOVES = 400
FEW = 3_000
"""Moves that are worth it however few the servers, at most `BY_ITEM` for each item."""
BY_ITEM = 40
PAIRED = 8
"""Moves for each pair of items: more would only repeat the exchanges of a few."""
LARGE = 13_000
"""Moves that groups of more than `WHOLE` items are squeezed with: a part of these that grows with
their servers, a half of it at `LARGE_HALF`. At effort `fast` nothing follows."""
LARGE_HALF = 100
PATIENCE = 40
"""Moves without progress after which a mix of servers is given up."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of an adapter, to be placed."""

    adapter: int
    base: int
    rank: int
    """Index into the capacity table's ranks."""
    loads: tuple[int, ...]
    """Load in each hour, in the capacity table's unit."""


@dataclass(frozen=True, slots=True)
class Market:
    """What can be bought, and what it carries."""

    bases: tuple[str, ...]
    gpus: tuple[str, ...]
    price: tuple[int, ...]
    """Of each GPU type, dollars an hour times `PRICE_UNIT`."""
    capacity: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    """`[base][gpu][highest rank index][number of adapters]`."""


@dataclass(frozen=True, slots=True)
class PackedServer:
    """A server and what it holds."""

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
    """No packing costs less."""
    status: Status


def pack_servers(
    replicas: Sequence[Replica],
    market: Market,
    *,
    effort: Effort = "balanced",
    seed: int = 0,
) -> ServerPacking:
    """Place every replica on the cheapest servers that the search finds.

    Deterministic: shuffled replicas cost the same, because they are sorted first.

    Args:
        replicas: Replicas of one adapter go to different servers.
        market: As many servers of each type as wanted.
        effort: `fast`, `balanced`, or `proof`, which proves small groups with HiGHS where the
            extra `proof` is installed.
        seed: Another seed may find another packing.

    Raises:
        ValueError: A replica fits no GPU type even alone.
    """
    servers: list[PackedServer] = []
    price = floor = 0
    for base, members, group in groups(replicas, market):
        rack, low = pack_group(group, effort, seed)
        price += rack.price(group)
        floor += low
        for server, gpu in enumerate(rack.gpus.tolist()):
            held = members[rack.home == server]
            servers.append(
                PackedServer(market.bases[base], market.gpus[gpu], tuple(sorted(held.tolist())))
            )
    status: Status = "optimal" if price == floor else "feasible"
    return ServerPacking(tuple(servers), price, floor, status)


def groups(replicas: Sequence[Replica], market: Market) -> Iterator[tuple[int, Ints, Group]]:
    owners: dict[int, int] = {}
    order = sorted(
        range(len(replicas)),
        key=lambda i: (replicas[i].base, replicas[i].rank, replicas[i].loads, replicas[i].adapter),
    )
    for index in order:
        owners.setdefault(replicas[index].adapter, len(owners))
    for base in range(len(market.bases)):
        members = np.array([i for i in order if replicas[i].base == base], dtype=np.int64)
        if not len(members):
            continue
        chosen = [replicas[index] for index in members.tolist()]
        group = Group(
            np.array([each.loads for each in chosen], dtype=np.int64),
            np.array([each.rank for each in chosen], dtype=np.int64),
            np.array([owners[each.adapter] for each in chosen], dtype=np.int64),
            np.array(market.capacity[base], dtype=np.int64),
            np.array(market.price, dtype=np.int64),
        )
        alone = group.loads.max(axis=1, initial=0) <= group.capacity[:, group.rank, 1]
        for index in members[~alone.any(axis=0)].tolist():
            raise ValueError(f"item {index} fits no GPU type, even alone on a server")
        yield base, members, group


def pack_group(group: Group, effort: Effort, seed: int) -> tuple[Rack, int]:
    floor = lower_bound(group)
    rack = construct(group)
    each, more = MOVES[effort]
    servers = len(rack.gpus)
    if len(group.rank) > WHOLE:
        rack = squeeze(group, rack, servers * LARGE // (servers + LARGE_HALF), seed, floor)
        if effort == "fast":
            return rack, floor
    least = max(LEAST_MOVES, min(FEW, BY_ITEM * len(group.rank)))
    moves = max(least, servers * each + servers * more // (servers + HALF))
    moves = min(moves, PAIRED * len(group.rank) ** 2)
    rack = improve(group, rack, moves, PATIENCE, seed, floor)
    if effort == "proof":
        return _proved(group, rack, floor)
    return rack, floor


def _proved(group: Group, rack: Rack, floor: int) -> tuple[Rack, int]:
    from fleet.packing.solver import available  # noqa: PLC0415 (only for proofs)

    if rack.price(group) == floor or not available():
        return rack, floor
    from fleet.packing.proofs import aggregate, cheaper, within_reach  # noqa: PLC0415

    floor = max(floor, aggregate(group))
    while rack.price(group) > floor and within_reach(group, rack):
        floor, better = cheaper(group, rack, floor)
        if better is None or not _valid(group, better):
            break
        rack = better
    return rack, floor


def _valid(group: Group, rack: Rack) -> bool:
    return all(
        group.fits(gpu, (rack.home == server).nonzero()[0])
        for server, gpu in enumerate(rack.gpus.tolist())
    )


__all__ = ["PRICE_UNIT", "Market", "PackedServer", "Replica", "ServerPacking", "pack_servers"]
