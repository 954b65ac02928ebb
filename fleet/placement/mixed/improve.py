"""Exchange a few servers for a cheaper mix that holds the same adapters, again and again."""

from itertools import combinations_with_replacement

import numpy as np

from fleet.placement.mixed.construct import downgraded
from fleet.placement.mixed.group import Group, Ints, Rack
from fleet.placement.mixed.repair import MixedRepair

LARGEST = 4
"""Most servers taken apart at once."""


def improve(group: Group, rack: Rack, moves: int, attempt: int, seed: int, floor: int) -> Rack:
    """Search until the moves are used up or the price is down to `floor`.

    Args:
        group: What is packed.
        rack: A valid rack to start from.
        moves: Moves of repair in all.
        attempt: Moves spent on one mix before it is given up.
        seed: Start of the chance.
        floor: A lower bound of the price.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    while moves > 0 and rack.price(group) > floor:
        size = min(len(rack.gpus), 1 + int(chance.integers(LARGEST)))
        chosen = np.sort(chance.permutation(len(rack.gpus))[:size])
        members = np.isin(rack.home, chosen).nonzero()[0]
        part = Group(
            group.loads[members],
            group.rank[members],
            group.owner[members],
            group.capacity,
            group.price,
        )
        inner = Rack(rack.gpus[chosen], np.searchsorted(chosen, rack.home[members]))
        moves -= attempt // 8
        mixes = cheaper_mixes(part, inner)
        if not mixes:
            if size == len(rack.gpus):
                break
            continue
        mix = mixes[min(int(chance.exponential(1.5)), len(mixes) - 1)]
        home = seated(part, inner, mix)
        if home is None:
            continue
        work = MixedRepair(part, mix, home)
        moves -= work.run(attempt, chance)
        if work.done:
            rack = replaced(group, rack, chosen, members, mix, work.home[: len(members)])
    return rack


def cheaper_mixes(group: Group, rack: Rack) -> list[Ints]:
    """Return mixes of GPU types below the rack's price, dearest first, that might do."""
    price = rack.price(group)
    peak = int(group.loads.sum(axis=0).max())
    items = len(group.rank)
    replicas = int(np.unique(group.owner, return_counts=True)[1].max())
    lowest = int(group.rank.min())
    found: list[tuple[int, float, tuple[int, ...]]] = []
    for size in range(max(1, replicas), len(rack.gpus) + 2):
        share = min(items // size, group.most)
        for mix in combinations_with_replacement(range(len(group.price)), size):
            cost = int(group.price[list(mix)].sum())
            if cost >= price:
                continue
            room = group.capacity[list(mix), lowest, 1].sum()
            typical = group.capacity[list(mix), lowest, share].sum()
            if room < peak:
                continue
            found.append((-cost, -float(typical), mix))
    return [np.array(mix) for _, _, mix in sorted(found)]


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
