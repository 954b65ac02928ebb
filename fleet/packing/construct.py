"""Construct a first packing greedily: items by size, onto the server that suits best.

Item-centric first-fit decreasing with cosine scores, after Panigrahy et al. 2011 and Mommessin,
Erlebach and Shakhlevich 2024.
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
    """Return the cheapest of several greedy packings, of those that leave the fewest items out.

    An item is left out (server -1) only where a stock has no server for the item any more. Every
    item has to fit some type of server alone.
    """
    types = range(len(instance.price))
    number = len(instance.rank)
    if number <= WHOLE:
        first_fit = product(types, (0,), (None,) if instance.busy is not None else ())
        packings = [
            _filled(instance, *way) for way in (*product(types, range(2), GROWTH), *first_fit)
        ]
        return min(packings, key=lambda packing: _worth(instance, packing))
    total = instance.loads.sum(axis=1)
    order = np.lexsort((total, instance.rank))
    part = instance.part(np.sort(order[:: -(-number // (WHOLE // 2))]))
    alone = instance.loads.max(axis=1) <= instance.capacity[:, instance.rank, 1]
    useful = [gpu for gpu in types if alone[gpu].any()]
    ways = [(gpu, 0, growth) for gpu in useful for growth in GROWTH]
    return _filled(instance, *min(ways, key=lambda way: (_worth(part, _filled(part, *way)), way)))


def _worth(instance: Instance, packing: Packing) -> tuple[int, int]:
    return int((packing.assignment < 0).sum()), packing.price(instance)


def _filled(instance: Instance, gpu: int, by_total: int, growth: float | None) -> Packing:
    total = instance.loads.sum(axis=1)
    key = -total if by_total else -instance.loads.max(axis=1)
    return fill(instance, gpu, np.lexsort((total, key, -instance.rank)), growth)


def fill(
    instance: Instance, gpu: int, order: Ints, growth: float | None, start: Packing | None = None
) -> Packing:
    """Place items in an order; open servers of a type, or the cheapest for larger items.

    Without `growth`, an item goes to the first server that holds it. Servers that are there at the
    start come first.
    """
    items, hours = instance.loads.shape
    load = np.zeros((items, hours), dtype=np.int64)
    busy = np.zeros((items, hours))
    strain = np.zeros((items, hours), dtype=np.int64 if instance.busy is None else np.float64)
    rank, count, gpus = np.zeros((3, items), dtype=np.int64)
    assignment = np.full(items, -1, dtype=np.int64)
    opened, stock = 0, instance.stock
    units_left = stock.free.copy()
    if start is not None:
        opened = len(start.gpus)
        gpus[:opened], units_left = start.gpus, stock.left(start.gpus)
        load[:opened], rank[:opened], count[:opened] = start.totals(instance)
        busy[:opened], assignment = start.busy(instance), start.assignment.copy()
        strain[:opened] = instance.strain(load[:opened], busy[:opened], start.gpus, rank[:opened])
    for item in order.tolist():
        weight = instance.loads[item]
        active = 0.0 if instance.busy is None else instance.busy[item]
        top = instance.top(rank[:opened], instance.rank[item])
        limit = instance.capacity[gpus[:opened], top, np.minimum(count[:opened] + 1, instance.most)]
        grown = instance.strain(load[:opened] + weight, busy[:opened] + active, gpus[:opened], top)
        after = grown.max(axis=1)
        fits = (count[:opened] < instance.most) & (after <= limit)
        excluded = assignment[instance.owner == instance.owner[item]]
        fits[excluded[excluded >= 0]] = False
        fitting = fits.nonzero()[0]
        if len(fitting) and growth is None:
            chosen = int(fitting[0])
        elif len(fitting) and growth is not None:
            # Raising a server's rank costs capacity: that is charged in both.
            old = np.maximum(instance.capacity[gpus[fitting], rank[fitting], count[fitting]], 1)
            more = after[fitting] / limit[fitting] - strain[fitting].max(axis=1) / old
            free = (limit[fitting, None] - strain[fitting]).astype(np.float64)
            score = _cosine(free, weight) * (limit[fitting] / old) ** 2 - growth * more
            chosen = int(fitting[int(score.argmax())])
        else:
            kinds = instance.holding(np.array([item]), gpu)
            kind = next((k for k in kinds if stock.units[k] <= units_left[stock.pool[k]]), None)
            if kind is None:
                continue
            chosen = opened
            opened += 1
            gpus[chosen] = kind
            units_left[stock.pool[kind]] -= stock.units[kind]
            grown = np.vstack([grown, weight])
        load[chosen] += weight
        rank[chosen] = instance.top(rank[chosen], instance.rank[item])
        count[chosen] += 1
        if instance.busy is not None:
            busy[chosen] += active
        strain[chosen] = grown[chosen]
        assignment[item] = chosen
    return downgraded(instance, Packing(gpus[:opened].copy(), assignment))


def _cosine(free: Reals, weight: Ints) -> Reals:
    load = weight.astype(np.float64)
    length = np.sqrt((free * free).sum(axis=1) + 1) * np.sqrt(float(load @ load) + 1)
    return np.asarray((free @ load) / length)


def downgraded(instance: Instance, packing: Packing) -> Packing:
    """Give every server the cheapest type that holds its items, and drop empty servers.

    Where a stock is short, the servers that save most come first.
    """
    placed = packing.assignment >= 0
    load, rank, count = packing.totals(instance)
    full = count.nonzero()[0]
    gpus, load, rank, count = (packing.gpus[full], load[full], rank[full], count[full])
    assignment = np.where(placed, np.searchsorted(full, packing.assignment), -1)
    busy = packing.busy(instance)[full]
    fits = (count <= instance.most) & np.array(
        [
            instance.strain(load, busy, gpu, rank).max(axis=1, initial=0)
            <= instance.capacity[gpu, rank, np.minimum(count, instance.most)]
            for gpu in range(len(instance.price))
        ]
    )
    by_price = np.argsort(instance.price, kind="stable")
    cheapest = np.where(fits.any(axis=0), by_price[fits[by_price].argmax(axis=0)], gpus)
    stock = instance.stock
    if (stock.left(cheapest) >= 0).all():
        return Packing(cheapest, assignment)
    units_left = stock.left(gpus)
    saving = instance.price[gpus] - instance.price[cheapest]
    for server in np.argsort(-saving, kind="stable").tolist():
        old = gpus[server]
        units_left[stock.pool[old]] += stock.units[old]
        for gpu in by_price.tolist():
            if gpu == old or instance.price[gpu] >= instance.price[old]:
                break
            if fits[gpu, server] and units_left[stock.pool[gpu]] >= stock.units[gpu]:
                gpus[server] = gpu
                break
        units_left[stock.pool[gpus[server]]] -= stock.units[gpus[server]]
    return Packing(gpus, assignment)
