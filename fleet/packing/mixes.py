"""Choose cheaper types for a few servers, by an estimate of the loads that they carry."""

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from fleet.packing.problem import Instance, Ints

MIXES = 500
"""Upper bound of the compared mixes of a size."""
HEADROOM = 0.97
"""Lower bound of a mix's estimated capacity, as a share of the load; mixes below are not tried."""


@lru_cache(maxsize=64)
def _multisets(types: int, size: int) -> Ints:
    rows = list(combinations_with_replacement(range(types), size))
    return np.array(rows, dtype=np.int64).reshape(len(rows), size)


def cheaper_mixes(instance: Instance, gpus: Ints, core: int) -> list[Ints]:
    """Return cheaper types for some servers, the most capacity first.

    Only the last `core` types differ.
    """
    peak = int(instance.loads.sum(axis=0).max())
    found: list[tuple[float, Ints]] = []
    for rows in _cheaper(instance, gpus, core):
        enough = _estimated(instance, rows, instance.lowest) >= HEADROOM * peak
        capacity = _estimated(instance, rows[enough], _high_rank(instance))
        found += [(-float(size), row) for size, row in zip(capacity, rows[enough], strict=True)]
    found.sort(key=lambda pair: (pair[0], pair[1].tolist()))
    return [row for _, row in found]


def cheapest_mix(instance: Instance, gpus: Ints, core: int, loss: float) -> Ints | None:
    """Return the cheapest types with nearly the capacity of some servers; None: no cheaper types.

    Only the last `core` types differ. Where every cheaper mix lacks more than a share `loss` of the
    servers' capacity, the mix that lacks least.
    """
    rank = _high_rank(instance)
    least = (1 - loss) * int(_estimated(instance, gpus[None, :], rank)[0])
    best: tuple[tuple[int, int, int], list[int]] | None = None
    for rows in _cheaper(instance, gpus, core):
        prices = instance.price[rows].sum(axis=1)
        capacity = _estimated(instance, rows, rank)
        lacking = capacity < least
        first = np.lexsort((-capacity, np.where(lacking, 0, prices), lacking))[0]
        enough = not lacking[first]
        key = (not enough, int(prices[first]) if enough else 0, -int(capacity[first]))
        if best is None or (key, rows[first].tolist()) < best:
            best = key, rows[first].tolist()
    return None if best is None else np.array(best[1], dtype=np.int64)


def _cheaper(instance: Instance, gpus: Ints, core: int) -> Iterator[Ints]:
    """Yield arrays of mixes that cost less, as rows, an array per size."""
    stay, gone = gpus[: len(gpus) - core], gpus[len(gpus) - core :]
    budget = int(instance.price[gone].sum())
    copies = instance.copies()
    stock = instance.stock.without(stay)
    types = _by_value(instance, len(gpus), _high_rank(instance))
    for size in range(core + 2):
        if len(stay) + size < max(1, copies):
            continue
        rows = np.sort(types[_multisets(_compared_types(len(types), size), size)], axis=1)
        rows = rows[instance.price[rows].sum(axis=1) < budget]
        rows = rows[(stock.left(rows) >= 0).all(axis=1)]
        if len(rows):
            kept = np.broadcast_to(stay, (len(rows), len(stay)))
            yield np.concatenate([kept, rows], axis=1)


def _high_rank(instance: Instance) -> int:
    """Return the rank that three quarters of the items do not exceed."""
    ranks = np.sort(instance.rank)
    return int(ranks[len(ranks) * 3 // 4])


def _by_value(instance: Instance, servers: int, rank: int) -> Ints:
    """Return the types, sorted by the price of a unit of capacity."""
    count = min(instance.most, max(1, len(instance.rank) // max(1, servers)))
    ratio = instance.price / np.maximum(_carried(instance)[:, rank, count], 1)
    return np.lexsort((instance.price, ratio))


@cache
def _compared_types(types: int, size: int) -> int:
    """Return the number of types of which all multisets of a size can be compared."""
    while types > 1 and comb(types + size - 1, size) > MIXES:
        types -= 1
    return types


def _estimated(instance: Instance, mixes: Ints, rank: int) -> Ints:
    """Estimate the capacities of mixes at a highest rank, items shared out by capacity."""
    number = len(instance.rank)
    count = np.full(mixes.shape, min(number // max(1, mixes.shape[1]), instance.most))
    carried = _carried(instance)
    for _ in range(2):
        capacity = carried[mixes, rank, count]
        share = capacity / np.maximum(capacity.sum(axis=1, keepdims=True), 1)
        count = np.minimum((share * number).astype(np.int64), instance.most)
    return np.asarray(carried[mixes, rank, count].sum(axis=1))


def _carried(instance: Instance) -> Ints:
    """Return the capacity table for servers whose items are as busy as all are on average."""
    if instance.busy is None:
        return instance.capacity
    busy = float(instance.busy.mean(axis=0).max(initial=0)) * np.arange(instance.most + 1)
    slower = 1 + instance.spread[:, :, None] * np.maximum(busy - 1, 0)
    return np.asarray(instance.capacity / slower, dtype=np.int64)
