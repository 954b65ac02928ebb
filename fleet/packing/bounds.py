"""Lower bounds of a group's price: load and number of adapters, priced together."""

import math

import numpy as np

from fleet.packing.problem import Group

PRICES = 200
"""Prices of one adapter that are tried."""


def step(group: Group) -> int:
    """Return what every sum of prices is a multiple of."""
    return math.gcd(*group.price.tolist())


def rounded(group: Group, price: float) -> int:
    """Round a lower bound up to a sum that prices can make."""
    unit = step(group)
    return math.ceil(price / unit - 1e-6) * unit


def bound(group: Group) -> int:
    """Return a valid lower bound by linear duality.

    If adapters cost `each` and a unit of load in the busiest hour costs `unit`, and no server
    carries more than its own price's worth, then all servers cost at least what all adapters
    and loads are worth. Adapters of high rank need servers of that rank, so each rank and above
    gives a bound of its own.
    """
    best = 0.0
    replicas = int(np.unique(group.owner, return_counts=True)[1].max(initial=0))
    counts = np.arange(group.most + 1)
    for rank in np.unique(group.rank).tolist():
        members = group.rank >= rank
        number = int(members.sum())
        peak = int(group.loads[members].sum(axis=0).max())
        table = group.capacity[:, rank, :]
        usable = (table > 0) & (counts > 0)[None, :] & (counts <= len(group.rank))[None, :]
        if not usable.any() or peak == 0:
            continue
        price = np.broadcast_to(group.price[:, None], table.shape)[usable].astype(float)
        carried = table[usable].astype(float)
        held = np.broadcast_to(counts[None, :], table.shape)[usable].astype(float)
        if not (group.loads[members].max(axis=1) > 0).all():
            number = 0  # an idle adapter may sit where nothing can be carried
        for each in np.linspace(0.0, float((price / held).min()), PRICES).tolist():
            unit = float(((price - each * held) / carried).min())
            best = max(best, each * number + unit * peak)
    usable_alone = (group.capacity[:, int(group.rank.min()), 1:] > 0).any(axis=1)
    if usable_alone.any():
        best = max(best, replicas * float(group.price[usable_alone].min()))
    return rounded(group, best)
