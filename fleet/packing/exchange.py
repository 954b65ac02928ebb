"""Exchange a few servers for a cheaper mix that holds the same adapters, again and again."""

import numpy as np
from numpy.typing import NDArray

from fleet.packing.construct import downgraded
from fleet.packing.mixes import cheaper_mixes
from fleet.packing.problem import Group, Ints, Rack
from fleet.packing.tabu import MixedRepair

CORE = 4
"""Most servers exchanged at once."""
ITEMS = 400
"""About how many items are rearranged at once, over the exchanged servers and some others."""
PICKY = 1.0
"""How far down the list of promising mixes is looked, on average."""


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
        work = MixedRepair(part, mix, home, chance)
        moves -= work.run(moves, patience * (1 + tried), chance)
        if work.done:
            rack = replaced(group, rack, chosen, members, mix, work.seats)
            full = fullness(group, rack)
            tries.clear()
    return rack


OVERHEAD = 12
"""What drawing and seating costs, in moves."""


SORTED = 0.3
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


def seated(group: Group, rack: Rack, mix: Ints) -> Ints | None:
    """Seat all items on servers of the mix, with little overload; None if replicas clash."""
    free = list(range(len(mix)))
    seat = np.full(len(rack.gpus), -1, dtype=np.int64)
    for server in np.argsort(-group.price[rack.gpus], kind="stable").tolist():
        same = next((each for each in free if mix[each] == rack.gpus[server]), None)
        if same is not None:
            seat[server] = same
            free.remove(same)
    home = seat[rack.home]
    bins = len(mix)
    load = np.zeros((bins, group.loads.shape[1]), dtype=np.int64)
    placed = home >= 0
    np.add.at(load, home[placed], group.loads[placed])
    count = np.bincount(home[placed], minlength=bins)
    rank = np.zeros(bins, dtype=np.int64)
    np.maximum.at(rank, home[placed], group.rank[placed])
    rest = (~placed).nonzero()[0]
    for item in rest[np.lexsort((-group.loads[rest].sum(axis=1), -group.rank[rest]))].tolist():
        top = np.maximum(rank, group.rank[item])
        limit = group.capacity[mix, top, np.minimum(count + 1, group.most)]
        score = (load + group.loads[item]).max(axis=1) / np.maximum(limit, 1)
        mates = home[group.owner == group.owner[item]]
        score[mates[mates >= 0]] = np.inf
        chosen = int(score.argmin())
        if score[chosen] == np.inf:
            return None
        home[item] = chosen
        load[chosen] += group.loads[item]
        rank[chosen] = top[chosen]
        count[chosen] += 1
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
