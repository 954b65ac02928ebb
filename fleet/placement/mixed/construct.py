"""A first rack: adapters in order of rank and load, each to the open server that suits it best."""

import numpy as np

from fleet.placement.mixed.group import Group, Ints, Rack


def construct(group: Group) -> Rack:
    """Return the cheapest of several greedy racks, each server downgraded as far as it goes.

    Every item fits some GPU type alone.
    """
    peak = group.loads.max(axis=1)
    total = group.loads.sum(axis=1)
    orders = (
        np.lexsort((total, -peak, -group.rank)),
        np.lexsort((-total,)),
    )
    best: Rack | None = None
    for gpu in range(len(group.price)):
        for order in orders:
            rack = fill(group, gpu, order)
            if best is None or rack.price(group) < best.price(group):
                best = rack
    assert best is not None
    return best


def fill(group: Group, gpu: int, order: Ints) -> Rack:
    """Open servers of one type, or of a larger one for an item that does not fit it alone."""
    items, hours = group.loads.shape
    load = np.zeros((items, hours), dtype=np.int64)
    rank = np.zeros(items, dtype=np.int64)
    count = np.zeros(items, dtype=np.int64)
    gpus = np.zeros(items, dtype=np.int64)
    home = np.full(items, -1, dtype=np.int64)
    hosts: dict[int, list[int]] = {}
    opened = 0
    for item in order.tolist():
        weight = group.loads[item]
        room = count[:opened] < group.most
        top = np.maximum(rank[:opened], group.rank[item])
        limit = group.capacity[gpus[:opened], top, np.minimum(count[:opened] + 1, group.most)]
        left = limit[:, None] - load[:opened]
        room &= (left >= weight).all(axis=1)
        mates = hosts.setdefault(int(group.owner[item]), [])
        room[mates] = False
        fitting = room.nonzero()[0]
        if len(fitting):
            free = left[fitting].astype(np.float64)
            alike = (free @ weight) / np.sqrt((free * free).sum(axis=1) + 1)
            # Raising a server's rank costs capacity: that is charged against the likeness.
            old = group.capacity[gpus[fitting], rank[fitting], count[fitting]]
            loss = limit[fitting] / np.maximum(old, 1)
            chosen = int(fitting[int((alike * loss * loss).argmax())])
        else:
            chosen = opened
            opened += 1
            alone = np.array([item])
            cheapest = group.cheapest(alone)
            assert cheapest is not None
            gpus[chosen] = gpu if group.fits(gpu, alone) else cheapest
        load[chosen] += weight
        rank[chosen] = max(rank[chosen], group.rank[item])
        count[chosen] += 1
        home[item] = chosen
        mates.append(chosen)
    return downgraded(group, Rack(gpus[:opened].copy(), home))


def downgraded(group: Group, rack: Rack) -> Rack:
    """Give every server the cheapest GPU type that holds its items, and drop empty servers."""
    kept = np.unique(rack.home)
    gpus = np.empty(len(kept), dtype=np.int64)
    for index, each in enumerate(kept.tolist()):
        cheapest = group.cheapest((rack.home == each).nonzero()[0])
        gpus[index] = rack.gpus[each] if cheapest is None else cheapest
    return Rack(gpus, np.searchsorted(kept, rack.home))
