"""A first packing: items in several orders, each into the open bin whose free space is most alike.

Item-centric first-fit decreasing with cosine scores, after Panigrahy et al. 2011 and Mommessin
et al. 2024.
"""

import numpy as np

from fleet.packing.vectors_tabu import Ints


def construct(sizes: Ints, capacity: Ints, *, orders: int = 3) -> Ints:
    """Return the best of so many greedy assignments; bins count from 0 without gaps.

    Every item fits an empty bin.
    """
    share = sizes / np.maximum(capacity, 1)
    demand = share.sum(axis=0)
    keys = (share.sum(axis=1), share.max(axis=1), share @ demand)
    best: Ints | None = None
    for key in keys[:orders]:
        packed = fill(sizes, capacity, np.argsort(-key, kind="stable"))
        if best is None or packed.max(initial=-1) < best.max(initial=-1):
            best = packed
    return np.zeros(0, dtype=np.int64) if best is None else best


def fill(sizes: Ints, capacity: Ints, order: Ints) -> Ints:
    """Place items in this order, opening a bin when none has room."""
    items = len(sizes)
    weight = 1.0 / np.maximum(capacity, 1)
    scaled = sizes * weight
    left = np.empty_like(sizes)
    free = np.empty_like(scaled)
    home = np.zeros(items, dtype=np.int64)
    opened = 0
    for item in order.tolist():
        size = sizes[item]
        fitting = (left[:opened] >= size).all(axis=1).nonzero()[0]
        if len(fitting):
            room = free[fitting]
            alike = (room @ scaled[item]) / np.sqrt(np.einsum("ij,ij->i", room, room) + 1e-12)
            chosen = int(fitting[int(alike.argmax())])
        else:
            chosen = opened
            left[chosen] = capacity
            opened += 1
        left[chosen] -= size
        free[chosen] = left[chosen] * weight
        home[item] = chosen
    return home
