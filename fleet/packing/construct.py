"""Construct a first packing greedily: items by size, onto the server or bin that suits best.

Item-centric first-fit decreasing with cosine scores, after Panigrahy et al. 2011 and Mommessin,
Erlebach and Shakhlevich 2024. `construct` fills servers of several types, `construct_bins` equal
bins.
"""

from itertools import product

import numpy as np

from fleet.packing.problem import Instance, Ints, Packing, Reals

WHOLE = 600
"""Upper bound of the items on which every way of filling is tried. Above, the likely ways are
tried on a sample, and the best of them on all items."""
GROWTH = (2.0, 1e3)
"""Weights of the growth of a server's busiest hour against the cosine of load and free space."""


def construct(instance: Instance) -> Packing:
    """Return the cheapest of several greedy packings.

    Every item has to fit some type of server alone.
    """
    types = range(len(instance.price))
    number = len(instance.rank)
    if number <= WHOLE:
        packings = [_filled(instance, *way) for way in product(types, range(2), GROWTH)]
        return min(packings, key=lambda packing: packing.price(instance))
    total = instance.loads.sum(axis=1)
    order = np.lexsort((total, instance.rank))
    part = instance.part(np.sort(order[:: -(-number // (WHOLE // 2))]))
    alone = instance.loads.max(axis=1) <= instance.capacity[:, instance.rank, 1]
    useful = [gpu for gpu in types if alone[gpu].any()]
    ways = [(gpu, 0, growth) for gpu in useful for growth in GROWTH]
    return _filled(instance, *min(ways, key=lambda way: (_filled(part, *way).price(part), way)))


def _filled(instance: Instance, gpu: int, by_total: int, growth: float) -> Packing:
    total = instance.loads.sum(axis=1)
    key = -total if by_total else -instance.loads.max(axis=1)
    return _fill(instance, gpu, np.lexsort((total, key, -instance.rank)), growth)


def _fill(instance: Instance, gpu: int, order: Ints, growth: float) -> Packing:
    """Place items in an order; open servers of a type, or the cheapest for larger items."""
    items, hours = instance.loads.shape
    load = np.zeros((items, hours), dtype=np.int64)
    peak, rank, count, gpus = np.zeros((4, items), dtype=np.int64)
    assignment = np.full(items, -1, dtype=np.int64)
    servers_of: dict[int, list[int]] = {}
    opened = 0
    for item in order.tolist():
        weight = instance.loads[item]
        top = np.maximum(rank[:opened], instance.rank[item])
        limit = instance.capacity[gpus[:opened], top, np.minimum(count[:opened] + 1, instance.most)]
        after = (load[:opened] + weight).max(axis=1)
        fits = (count[:opened] < instance.most) & (after <= limit)
        excluded = servers_of.setdefault(int(instance.owner[item]), [])
        fits[excluded] = False
        fitting = fits.nonzero()[0]
        if len(fitting):
            # Raising a server's rank costs capacity: that is charged in both.
            old = np.maximum(instance.capacity[gpus[fitting], rank[fitting], count[fitting]], 1)
            grown = after[fitting] / limit[fitting] - peak[fitting] / old
            free = limit[fitting, None] - load[fitting]
            score = _cosine(free, weight) * (limit[fitting] / old) ** 2 - growth * grown
            chosen = int(fitting[int(score.argmax())])
        else:
            chosen = opened
            opened += 1
            alone = np.array([item])
            cheapest = instance.cheapest(alone)
            assert cheapest is not None
            gpus[chosen] = gpu if instance.fits(gpu, alone) else cheapest
        load[chosen] += weight
        peak[chosen] = load[chosen].max()
        rank[chosen] = max(rank[chosen], instance.rank[item])
        count[chosen] += 1
        assignment[item] = chosen
        excluded.append(chosen)
    return downgraded(instance, Packing(gpus[:opened].copy(), assignment))


def _cosine(free: Ints, weight: Ints) -> Reals:
    left, load = free.astype(np.float64), weight.astype(np.float64)
    length = np.sqrt((left * left).sum(axis=1) + 1) * np.sqrt(float(load @ load) + 1)
    return np.asarray((left @ load) / length)


def downgraded(instance: Instance, packing: Packing) -> Packing:
    """Give every server the cheapest type that holds its items, and drop empty servers."""
    load, rank, count = packing.totals(instance)
    limit = instance.capacity[:, rank, np.minimum(count, instance.most)]
    fits = (load.max(axis=1) <= limit) & (count <= instance.most)
    by_price = np.argsort(instance.price, kind="stable")
    gpus = np.where(fits.any(axis=0), by_price[fits[by_price].argmax(axis=0)], packing.gpus)
    kept = count.nonzero()[0]
    return Packing(gpus[kept], np.searchsorted(kept, packing.assignment))


def construct_bins(sizes: Ints, capacity: Ints) -> Ints:
    """Return the bins of the items in the best of several greedy packings.

    Bins count from 0 without gaps. Every item has to fit an empty bin.
    """
    share = sizes / np.maximum(capacity, 1)
    keys = (share.sum(axis=1), share.max(axis=1), share @ share.sum(axis=0))
    orders = (np.argsort(-key, kind="stable") for key in keys)
    packings = (_fill_bins(sizes, capacity, order) for order in orders)
    return min(packings, key=lambda assignment: int(assignment.max(initial=-1)))


def _fill_bins(sizes: Ints, capacity: Ints, order: Ints) -> Ints:
    """Place items in an order; open a bin when no open bin has room."""
    items = len(sizes)
    unit = 1.0 / np.maximum(capacity, 1)
    scaled = sizes * unit
    left = np.empty_like(sizes)
    free = np.empty_like(scaled)
    assignment = np.zeros(items, dtype=np.int64)
    opened = 0
    for item in order.tolist():
        size = sizes[item]
        fitting = (left[:opened] >= size).all(axis=1).nonzero()[0]
        if len(fitting):
            room = free[fitting]
            cosine = (room @ scaled[item]) / np.sqrt(np.einsum("ij,ij->i", room, room) + 1e-12)
            chosen = int(fitting[int(cosine.argmax())])
        else:
            chosen = opened
            left[chosen] = capacity
            opened += 1
        left[chosen] -= size
        free[chosen] = left[chosen] * unit
        assignment[item] = chosen
    return assignment
