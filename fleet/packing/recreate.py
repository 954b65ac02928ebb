"""Ruin and recreate: empty a few servers and place their items again, on any server with room.

A packing that costs the same is taken too: on such plateaus some servers get full and others
empty, until one is left out. After Schrimpf et al. 2000.
"""

import numpy as np

from fleet.packing.construct import GROWTH, fill
from fleet.packing.exchange import drawn, replaced
from fleet.packing.problem import Instance, Ints, Packing, Rng

RUINED = 4
"""Upper bound of the servers that are emptied at once."""
OVERHEAD = 10
"""Cost of drawing servers and of a comparison, in placed items."""
LEAST = 0.5
"""Lower bound of the random factor, up to 1.5, on the load by which items are ordered."""
WAYS = (None, *GROWTH)
"""Ways to choose among servers with room, drawn for every attempt; see `fill`."""

PART = 12
"""Servers of a large packing that are searched together."""
ROUNDS = 1.5
"""Mean number of parts that a server is in."""
BY_ITEM = 20
"""Items of a part that are placed again, per item."""


def recreate_parts(instance: Instance, packing: Packing) -> Packing:
    """Improve a large valid packing, a part of the servers after the other."""
    rng = Rng(np.random.PCG64(1))
    for _ in range(round(ROUNDS * len(packing.gpus) / PART)):
        servers = rng.permutation(len(packing.gpus))[:PART]
        part, inner, members = drawn(instance, packing, servers)
        better = recreate(part, inner, BY_ITEM * len(members), 0)
        packing = replaced(instance, packing, servers, members, better.gpus, better.assignment)
    return packing


def recreate(instance: Instance, packing: Packing, placements: int, floor: int) -> Packing:
    """Improve a valid packing until as many items were placed again or the price is at `floor`."""
    rng = Rng(np.random.PCG64(0))
    peaks = instance.loads.max(axis=1)
    price = packing.price(instance)
    while placements > 0 and price > floor:
        servers = rng.permutation(len(packing.gpus))
        number = min(1 + int(rng.integers(RUINED)), len(servers))
        gone, kept = servers[:number], servers[number:]
        members = np.isin(packing.assignment, gone).nonzero()[0]
        placements -= len(members) + OVERHEAD
        key = -peaks[members] * (LEAST + rng.random(len(members)))
        order = members[np.lexsort((key, -instance.rank[members]))]
        gpu = int(rng.integers(len(instance.price)))
        growth = WAYS[int(rng.integers(len(WAYS)))]
        other = fill(instance, gpu, order, growth, _kept(packing, kept))
        if (other.assignment >= 0).all() and other.price(instance) <= price:
            packing, price = other, other.price(instance)
    return packing


def _kept(packing: Packing, kept: Ints) -> Packing:
    """Return the packing with these servers alone, in this order; other items are left out."""
    place = np.full(len(packing.gpus), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    return Packing(packing.gpus[kept], place[packing.assignment])
