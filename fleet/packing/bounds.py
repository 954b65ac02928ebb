"""Bound from below the price of servers, by linear duality, and the number of equal bins."""

import math

import numpy as np

from fleet.packing.problem import Instance, Ints

DUALS = 200
"""Number of dual prices of an item that are tried."""
TRIALS = 32
"""Number of greedy cliques that are tried, with growing randomness."""
CLIQUE_ITEMS = 1_500
"""Upper bound of the items for which the table of clashing pairs is made."""


SUMS = 5_000
"""Upper bound of a price, in steps, for which all sums of prices are counted."""


def rounded(instance: Instance, price: float) -> int:
    """Round a lower bound up to a sum that prices can make."""
    step = instance.price_step
    least = math.ceil(price / step - 1e-6)
    prices = set((instance.price // step).tolist())
    if least > SUMS or 0 in prices:
        return least * step
    sums = [True]
    while not sums[least:] or not sums[-1]:
        sums.append(any(own <= len(sums) and sums[-own] for own in prices))
    return (len(sums) - 1) * step


def lower_bound(instance: Instance) -> int:
    """Return a lower bound of the price of all servers, by linear duality.

    If an item costs `dual` and a unit of load in the busiest hour costs `unit`, and no server
    carries more than its own price's worth, then all servers cost at least the worth of all items
    and loads. Items of high rank need servers of that rank, so every rank gives a bound: that of
    the items of this rank and above.
    """
    best = 0.0
    counts = np.arange(instance.most + 1)
    for rank in np.unique(instance.rank).tolist():
        members = instance.covers(instance.rank, rank)
        number = int(members.sum())
        peak = int(instance.loads[members].sum(axis=0).max())
        table = instance.capacity[:, rank, :]
        usable = (table > 0) & (counts > 0)[None, :] & (counts <= len(instance.rank))[None, :]
        if not usable.any() or peak == 0:
            continue
        price = np.broadcast_to(instance.price[:, None], table.shape)[usable].astype(float)
        carried = table[usable].astype(float)
        items = np.broadcast_to(counts[None, :], table.shape)[usable].astype(float)
        if not (instance.loads[members].max(axis=1) > 0).all():
            number = 0  # an idle item may be on a server that carries nothing
        for dual in np.linspace(0.0, float((price / items).min()), DUALS).tolist():
            unit = float(((price - dual * items) / carried).min())
            best = max(best, dual * number + unit * peak)
    usable_alone = (instance.capacity[:, instance.lowest, 1:] > 0).any(axis=1)
    if usable_alone.any():
        best = max(best, instance.copies() * float(instance.price[usable_alone].min()))
    return rounded(instance, best)


def fewest_bins(sizes: Ints, capacity: Ints) -> int:
    """Return a lower bound of the number of bins; 0 for no items.

    Dual feasible functions on single dimensions (Fekete and Schepers 2001, the class u_eps that
    drops small items and rounds large ones up), and a greedy clique of items of which no two fit
    together. All in exact integers.
    """
    if not len(sizes):
        return 0
    columns = zip(sizes.T, capacity.tolist(), strict=True)
    best = max((_rounded_sizes(column, limit) for column, limit in columns if limit), default=1)
    return max(1, best, len(clique(sizes, capacity)))


def _rounded_sizes(column: Ints, limit: int) -> int:
    """Return the best bound of a dimension over all thresholds."""
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


def clique(sizes: Ints, capacity: Ints) -> list[int]:
    """Return items of which no two fit into a bin, as many as a greedy search finds."""
    if not 0 < len(sizes) <= CLIQUE_ITEMS:
        return [0][: len(sizes)]
    clash = np.zeros((len(sizes), len(sizes)), dtype=bool)
    for column, limit in zip(sizes.T, capacity.tolist(), strict=True):
        if int(column.min()) >= 0:  # else a third item may make room for two that clash
            clash |= column[:, None] + column[None, :] > limit
    np.fill_diagonal(clash, val=False)
    degree = clash.sum(axis=1)
    rng = np.random.Generator(np.random.PCG64(0))
    best: list[int] = []
    for trial in range(TRIALS):
        score = degree + rng.random(len(sizes)) * trial
        candidates = np.ones(len(sizes), dtype=bool)
        members: list[int] = []
        while candidates.any():
            chosen = int(np.where(candidates, score, -1).argmax())
            members.append(chosen)
            candidates &= clash[chosen]
        best = max(best, members, key=len)
    return best
