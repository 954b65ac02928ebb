"""Mixes of GPU types that may take the place of some servers, and about what they carry."""

from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from fleet.packing.problem import Group, Ints

MIXES = 500
"""Most mixes of one size that are looked at."""
HEADROOM = 0.97
"""A mix whose estimated capacity is below this share of the load is not tried."""


@lru_cache(maxsize=64)
def multisets(types: int, size: int) -> Ints:
    """Return all multisets of GPU types of a size, one a row."""
    rows = list(combinations_with_replacement(range(types), size))
    return np.array(rows, dtype=np.int64).reshape(len(rows), size)


def cheaper_mixes(group: Group, gpus: Ints, core: int) -> list[Ints]:
    """Return cheaper GPU types for these servers, the most promising first.

    Only the last `core` types differ.
    """
    peak = int(group.loads.sum(axis=0).max())
    found: list[tuple[float, Ints]] = []
    for rows in _cheaper(group, gpus, core):
        hopeful = carried(group, rows, int(group.rank.min())) >= HEADROOM * peak
        room = carried(group, rows[hopeful], _high_rank(group))
        found += [(-float(left), row) for left, row in zip(room, rows[hopeful], strict=True)]
    found.sort(key=lambda each: (each[0], each[1].tolist()))
    return [row for _, row in found]


def bargain(group: Group, gpus: Ints, core: int, loss: float) -> Ints | None:
    """Return the cheapest GPU types that carry nearly what these servers do; None: none is cheaper.

    Only the last `core` types differ. Where each cheaper mix loses more than a share `loss` of what
    is carried, the one that loses least.
    """
    rank = _high_rank(group)
    least = (1 - loss) * int(carried(group, gpus[None, :], rank)[0])
    best: tuple[tuple[int, int, int], list[int]] | None = None
    for rows in _cheaper(group, gpus, core):
        prices = group.price[rows].sum(axis=1)
        room = carried(group, rows, rank)
        first = np.lexsort((-room, np.where(room >= least, prices, 0), room < least))[0]
        enough = bool(room[first] >= least)
        key = (not enough, int(prices[first]) if enough else 0, -int(room[first]))
        if best is None or (key, rows[first].tolist()) < best:
            best = key, rows[first].tolist()
    return None if best is None else np.array(best[1], dtype=np.int64)


def _cheaper(group: Group, gpus: Ints, core: int) -> Iterator[Ints]:
    """Yield mixes that cost less, one a row, those of one size together."""
    stay, gone = gpus[: len(gpus) - core], gpus[len(gpus) - core :]
    budget = int(group.price[gone].sum())
    replicas = int(np.unique(group.owner, return_counts=True)[1].max())
    worthy = _worthy(group, len(gpus), _high_rank(group))
    for size in range(core + 2):
        if len(stay) + size < max(1, replicas):
            continue
        rows = np.sort(worthy[multisets(_few(len(worthy), size), size)], axis=1)
        rows = rows[group.price[rows].sum(axis=1) < budget]
        if len(rows):
            kept = np.broadcast_to(stay, (len(rows), len(stay)))
            yield np.concatenate([kept, rows], axis=1)


def _high_rank(group: Group) -> int:
    """Return the rank that three quarters of the items do not exceed."""
    ranks = np.sort(group.rank)
    return int(ranks[len(ranks) * 3 // 4])


def _worthy(group: Group, servers: int, rank: int) -> Ints:
    """Return the GPU types, those first whose capacity costs least."""
    count = min(group.most, max(1, len(group.rank) // max(1, servers)))
    ratio = group.price / np.maximum(group.capacity[:, rank, count], 1)
    return np.lexsort((group.price, ratio))


@cache
def _few(types: int, size: int) -> int:
    """Return of how many types all multisets of a size can be looked at."""
    while types > 1 and comb(types + size - 1, size) > MIXES:
        types -= 1
    return types


def carried(group: Group, mixes: Ints, rank: int) -> Ints:
    """Estimate what each mix carries at a highest rank, items shared out by capacity."""
    number = len(group.rank)
    count = np.full(mixes.shape, min(number // max(1, mixes.shape[1]), group.most))
    for _ in range(2):
        room = group.capacity[mixes, rank, count]
        share = room / np.maximum(room.sum(axis=1, keepdims=True), 1)
        count = np.minimum((share * number).astype(np.int64), group.most)
    return np.asarray(group.capacity[mixes, rank, count].sum(axis=1))
