"""Lower bounds of the number of bins: volume, and large items that cannot share a bin."""

import numpy as np

from fleet.packing.vectors_tabu import Ints

TRIALS = 32
"""Greedy cliques tried, each with more chance in it than the one before."""
CLIQUE_ITEMS = 1_500
"""Above this many items the table of clashing pairs is not made."""


def bound(sizes: Ints, capacity: Ints, *, seed: int = 0) -> int:
    """Return a valid lower bound; 0 for no items.

    Dual feasible functions on single dimensions (Fekete and Schepers 2001, the class u_eps that
    drops small items and rounds large ones up), and a greedy clique of items of which no two fit
    together. All in exact integers.
    """
    if not len(sizes):
        return 0
    best = 1
    for column, limit in zip(sizes.T, capacity.tolist(), strict=True):
        if limit > 0:
            best = max(best, _rounded(column, int(limit)))
    return max(best, len(clique_members(sizes, capacity, seed=seed)))


def _rounded(column: Ints, limit: int) -> int:
    """Return the best bound of one dimension over all thresholds."""
    best = -(-int(column.sum()) // limit)
    if int(column.min()) < 0:
        return best
    ordered = np.sort(column)
    sums = np.concatenate([[0], np.cumsum(ordered)])
    for least in np.unique(ordered[2 * ordered <= limit]).tolist():
        # Items above limit - least count as whole bins, those below least as nothing.
        low = int(np.searchsorted(ordered, least, side="left"))
        high = int(np.searchsorted(ordered, limit - least, side="right"))
        whole = len(ordered) - high
        best = max(best, whole - (-int(sums[high] - sums[low]) // limit))
    return best


def clique_members(sizes: Ints, capacity: Ints, *, seed: int = 0) -> list[int]:
    """Return items of which no two fit into one bin, as many as a greedy search finds."""
    if not 0 < len(sizes) <= CLIQUE_ITEMS:
        return [0][: len(sizes)]
    clash = np.zeros((len(sizes), len(sizes)), dtype=bool)
    for column, limit in zip(sizes.T, capacity.tolist(), strict=True):
        if int(column.min()) < 0:
            continue  # a third item may make room for two that clash
        clash |= column[:, None] + column[None, :] > limit
    np.fill_diagonal(clash, val=False)
    degree = clash.sum(axis=1)
    chance = np.random.Generator(np.random.PCG64(seed))
    best: list[int] = []
    for trial in range(TRIALS):
        score = degree + chance.random(len(sizes)) * trial
        candidates = np.ones(len(sizes), dtype=bool)
        members: list[int] = []
        while candidates.any():
            chosen = int(np.where(candidates, score, -1).argmax())
            members.append(chosen)
            candidates &= clash[chosen]
        best = max(best, members, key=len)
    return best
