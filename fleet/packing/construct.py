"""A first rack: adapters in order of rank and load, each to the open server that suits it best."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Group, Ints, Rack

WHOLE = 600
"""Up to this many items every way of filling is tried on all of them; else the likely ways on a
sample, and the best of them on all."""
GROWTH = (2.0, 1e3)
"""How much the growth of a server's busiest hour counts beside the likeness of its free space."""


def construct(group: Group) -> Rack:
    """Return the cheapest of several greedy racks, each server downgraded as far as it goes.

    Every item fits some GPU type alone.
    """
    types = range(len(group.price))
    number = len(group.rank)
    if number <= WHOLE:
        racks = [_filled(group, *way) for way in product(types, range(2), GROWTH)]
        return min(racks, key=lambda rack: rack.price(group))
    total = group.loads.sum(axis=1)
    order = np.lexsort((total, group.rank))
    part = group.part(np.sort(order[:: -(-number // (WHOLE // 2))]))
    alone = group.loads.max(axis=1) <= group.capacity[:, group.rank, 1]
    useful = [gpu for gpu in types if alone[gpu].any()]
    ways = [(gpu, 0, growth) for gpu in useful for growth in GROWTH]
    return _filled(group, *min(ways, key=lambda way: (_filled(part, *way).price(part), way)))


def _filled(group: Group, gpu: int, by_total: int, growth: float) -> Rack:
    total = group.loads.sum(axis=1)
    key = -total if by_total else -group.loads.max(axis=1)
    return fill(group, gpu, np.lexsort((total, key, -group.rank)), growth)


def fill(group: Group, gpu: int, order: Ints, growth: float) -> Rack:
    """Open servers of one type, or of a larger one for an item that does not fit it alone."""
    items, hours = group.loads.shape
    load = np.zeros((items, hours), dtype=np.int64)
    peak = np.zeros(items, dtype=np.int64)
    rank = np.zeros(items, dtype=np.int64)
    count = np.zeros(items, dtype=np.int64)
    gpus = np.zeros(items, dtype=np.int64)
    home = np.full(items, -1, dtype=np.int64)
    hosts: dict[int, list[int]] = {}
    opened = 0
    for item in order.tolist():
        weight = group.loads[item]
        top = np.maximum(rank[:opened], group.rank[item])
        limit = group.capacity[gpus[:opened], top, np.minimum(count[:opened] + 1, group.most)]
        after = (load[:opened] + weight).max(axis=1)
        room = (count[:opened] < group.most) & (after <= limit)
        mates = hosts.setdefault(int(group.owner[item]), [])
        room[mates] = False
        fitting = room.nonzero()[0]
        if len(fitting):
            # Raising a server's rank costs capacity: that is charged in both.
            old = np.maximum(group.capacity[gpus[fitting], rank[fitting], count[fitting]], 1)
            grown = after[fitting] / limit[fitting] - peak[fitting] / old
            free = limit[fitting, None] - load[fitting]
            score = _likeness(free, weight) * (limit[fitting] / old) ** 2 - growth * grown
            chosen = int(fitting[int(score.argmax())])
        else:
            chosen = opened
            opened += 1
            alone = np.array([item])
            cheapest = group.cheapest(alone)
            assert cheapest is not None
            gpus[chosen] = gpu if group.fits(gpu, alone) else cheapest
        load[chosen] += weight
        peak[chosen] = load[chosen].max()
        rank[chosen] = max(rank[chosen], group.rank[item])
        count[chosen] += 1
        home[item] = chosen
        mates.append(chosen)
    return downgraded(group, Rack(gpus[:opened].copy(), home))


def _likeness(free: Ints, weight: Ints) -> NDArray[np.float64]:
    """Return the cosine between a load and the free space of servers."""
    room, load = free.astype(np.float64), weight.astype(np.float64)
    length = np.sqrt((room * room).sum(axis=1) + 1) * np.sqrt(float(load @ load) + 1)
    return np.asarray((room @ load) / length)


def downgraded(group: Group, rack: Rack) -> Rack:
    """Give every server the cheapest GPU type that holds its items, and drop empty servers."""
    bins = len(rack.gpus)
    load = np.zeros((bins, group.loads.shape[1]), dtype=np.int64)
    np.add.at(load, rack.home, group.loads)
    rank = np.zeros(bins, dtype=np.int64)
    np.maximum.at(rank, rack.home, group.rank)
    count = np.bincount(rack.home, minlength=bins)
    limit = group.capacity[:, rank, np.minimum(count, group.most)]
    fits = (load.max(axis=1) <= limit) & (count <= group.most)
    cheap = np.argsort(group.price, kind="stable")
    gpus = np.where(fits.any(axis=0), cheap[fits[cheap].argmax(axis=0)], rack.gpus)
    kept = count.nonzero()[0]
    return Rack(gpus[kept], np.searchsorted(kept, rack.home))
