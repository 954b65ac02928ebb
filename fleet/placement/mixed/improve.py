"""Exchange a few servers for a cheaper mix that holds the same adapters, again and again."""

from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from fleet.placement.mixed.construct import downgraded
from fleet.placement.mixed.group import Group, Ints, Rack
from fleet.placement.mixed.repair import MixedRepair

CORE = 4
"""Most servers exchanged at once."""
ITEMS = 200
"""About how many items are rearranged at once, over the exchanged servers and some others."""
PICKY = 1.0
"""How far down the list of promising mixes is looked, on average."""
HEADROOM = 0.97
"""A mix whose estimated capacity is below this share of the load is not tried."""


def improve(group: Group, rack: Rack, moves: int, patience: int, seed: int, floor: int) -> Rack:
    """Search until the moves are used up or the price is down to `floor`.

    Args:
        group: What is packed.
        rack: A valid rack to start from.
        moves: Moves of repair in all.
        patience: Moves without progress after which a mix is given up.
        seed: Start of the chance.
        floor: A lower bound of the price.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    tries: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    full = fullness(group, rack)
    while moves > 0 and rack.price(group) > floor:
        moves -= OVERHEAD
        chosen, core = _drawn(group, full, chance)
        members = np.isin(rack.home, chosen).nonzero()[0]
        part = group.part(members)
        inner = Rack(rack.gpus[chosen], positions(chosen, rack.home[members]))
        mixes = cheaper_mixes(part, inner.gpus, core)
        if not len(mixes):
            if core == len(rack.gpus) <= CORE:
                break
            continue
        mix = mixes[min(int(chance.exponential(PICKY)), len(mixes) - 1)]
        key = (tuple(chosen.tolist()), tuple(mix.tolist()))
        tried = tries.get(key, 0)
        tries[key] = tried + 1
        home = seated(part, inner, mix)
        if home is None:
            continue
        work = MixedRepair(part, mix, home)
        moves -= work.run(moves, patience * (1 + tried), chance)
        if work.done:
            rack = replaced(group, rack, chosen, members, mix, work.home[: len(members)])
            full = fullness(group, rack)
            tries.clear()
    return rack


OVERHEAD = 12
"""What drawing and seating costs, in moves."""


SORTED = 0.7
"""How often servers with room are drawn together; else any."""


def fullness(group: Group, rack: Rack) -> NDArray[np.float64]:
    """Return the part of each server's capacity that its busiest hour takes."""
    bins = len(rack.gpus)
    load = np.zeros((bins, group.loads.shape[1]), dtype=np.int64)
    np.add.at(load, rack.home, group.loads)
    rank = np.zeros(bins, dtype=np.int64)
    np.maximum.at(rank, rack.home, group.rank)
    limit = group.capacity[rack.gpus, rank, np.bincount(rack.home, minlength=bins)]
    return np.asarray(load.max(axis=1) / np.maximum(limit, 1))


def _drawn(
    group: Group, full: NDArray[np.float64], chance: np.random.Generator
) -> tuple[Ints, int]:
    """Draw servers to be rearranged, and how many of them, from the last, to exchange."""
    bins = len(full)
    core = min(bins, 1 + int(chance.integers(CORE)))
    most = max(core, round(ITEMS * bins / len(group.rank)))
    size = core if most <= core else core + int(chance.integers(most - core + 1))
    size = min(bins, size)
    if chance.random() >= SORTED:
        return chance.permutation(bins)[:size], core
    key = full + float(full.std()) * chance.random(bins)
    return chance.permutation(np.argsort(key, kind="stable")[:size]), core


def positions(chosen: Ints, home: Ints) -> Ints:
    """Return where each server stands among the chosen ones."""
    order = np.argsort(chosen)
    return order[np.searchsorted(chosen, home, sorter=order)]


@lru_cache(maxsize=64)
def multisets(types: int, size: int) -> Ints:
    """Return all multisets of GPU types of a size, one a row."""
    rows = list(combinations_with_replacement(range(types), size))
    return np.array(rows, dtype=np.int64).reshape(len(rows), size)


def cheaper_mixes(group: Group, gpus: Ints, core: int) -> list[Ints]:
    """Return cheaper GPU types for these servers, the most promising first.

    Only the last `core` types differ.
    """
    stay, gone = gpus[: len(gpus) - core], gpus[len(gpus) - core :]
    budget = int(group.price[gone].sum())
    peak = int(group.loads.sum(axis=0).max())
    replicas = int(np.unique(group.owner, return_counts=True)[1].max())
    ranks = np.sort(group.rank)
    found: list[tuple[float, Ints]] = []
    for size in range(core + 2):
        if len(stay) + size < max(1, replicas):
            continue
        rows = multisets(len(group.price), size)
        rows = rows[group.price[rows].sum(axis=1) < budget]
        if not len(rows):
            continue
        rows = np.concatenate([np.broadcast_to(stay, (len(rows), len(stay))), rows], axis=1)
        hopeful = carried(group, rows, int(ranks[0])) >= HEADROOM * peak
        rows = rows[hopeful]
        room = carried(group, rows, int(ranks[len(ranks) * 3 // 4]))
        found += [(-float(left), row) for left, row in zip(room, rows, strict=True)]
    found.sort(key=lambda each: (each[0], each[1].tolist()))
    return [row for _, row in found]


def carried(group: Group, mixes: Ints, rank: int) -> Ints:
    """Estimate what each mix carries at a highest rank, items shared out by capacity."""
    number = len(group.rank)
    count = np.full(mixes.shape, min(number // max(1, mixes.shape[1]), group.most))
    for _ in range(2):
        room = group.capacity[mixes, rank, count]
        share = room / np.maximum(room.sum(axis=1, keepdims=True), 1)
        count = np.minimum((share * number).astype(np.int64), group.most)
    return np.asarray(group.capacity[mixes, rank, count].sum(axis=1))


def seated(group: Group, rack: Rack, mix: Ints) -> Ints | None:
    """Seat all items on servers of the mix, with little overload; None if replicas clash."""
    free = list(range(len(mix)))
    home = np.full(len(group.rank), -1, dtype=np.int64)
    order = np.argsort(-group.price[rack.gpus], kind="stable")
    for server in order.tolist():
        same = [each for each in free if mix[each] == rack.gpus[server]]
        if same:
            home[rack.home == server] = same[0]
            free.remove(same[0])
    bins = len(mix)
    load = np.zeros((bins, group.loads.shape[1]), dtype=np.int64)
    placed = home >= 0
    np.add.at(load, home[placed], group.loads[placed])
    count = np.bincount(home[placed], minlength=bins)
    rank = np.zeros(bins, dtype=np.int64)
    np.maximum.at(rank, home[placed], group.rank[placed])
    hosts: dict[int, set[int]] = {}
    for item in placed.nonzero()[0].tolist():
        hosts.setdefault(int(group.owner[item]), set()).add(int(home[item]))
    rest = (~placed).nonzero()[0]
    for item in rest[np.lexsort((-group.loads[rest].sum(axis=1), -group.rank[rest]))].tolist():
        top = np.maximum(rank, group.rank[item])
        limit = group.capacity[mix, top, np.minimum(count + 1, group.most)]
        fill = (load + group.loads[item]) / np.maximum(limit, 1)[:, None]
        score = fill.max(axis=1)
        mates = hosts.setdefault(int(group.owner[item]), set())
        score[sorted(mates)] = np.inf
        chosen = int(score.argmin())
        if chosen in mates:
            return None
        home[item] = chosen
        load[chosen] += group.loads[item]
        rank[chosen] = top[chosen]
        count[chosen] += 1
        mates.add(chosen)
    return home


def replaced(group: Group, rack: Rack, chosen: Ints, members: Ints, mix: Ints, inner: Ints) -> Rack:
    """Return the rack with the chosen servers exchanged for the mix."""
    stay = np.setdiff1d(np.arange(len(rack.gpus)), chosen)
    home = np.empty_like(rack.home)
    others = np.ones(len(home), dtype=bool)
    others[members] = False
    home[others] = np.searchsorted(stay, rack.home[others])
    home[members] = inner + len(stay)
    return downgraded(group, Rack(np.concatenate([rack.gpus[stay], mix]), home))
