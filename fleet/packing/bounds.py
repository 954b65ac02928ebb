"""Bound the price of servers from below by linear duality: `lower_bound`, `configuration_bound`.

The second is for items that are busy at times, over configurations. A configuration is a type of
server, a highest rank, and a range of numbers of items in which the capacity is the same. For each
configuration, rows hold for all items that a server may hold:

- in an hour, `load + slope * busy <= capacity + slope`: the chord over the law of `Instance`, up to
  the busy parts of the busiest items;
- in an hour, dual feasible functions of `load / capacity` sum to 1 at most (Fekete and Schepers
  2001): few items of over a half, a third or a quarter of the capacity go together;
- the items are `most` at most.

Weights of the rows that sum to 1 give an item its share of a server's price. No packing costs less
than the least shares of all items over the configurations. The weights are found by mirror ascent
on a sample of the items; any weights give a bound.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fleet.packing.problem import Instance, Ints, Mask, Reals

DUALS = 200
"""Number of dual prices of an item that are tried."""
SUMS = 5_000
"""Upper bound of a price, in steps, for which all sums of prices are counted."""

SAMPLE = 300
"""Upper bound of the items for which weights are found, and of those that are summed at once."""
ASCENT_STEPS = 250
"""Number of steps of the ascent."""
STEP, STEP_HALF = 2.0, 30
"""Length of the first step, as an exponent; the step after which the length is a half."""
WARMTH, COOLING, LEAST_WARMTH = 0.3, 0.985, 0.01
"""Share of an item's price by which dearer configurations count too: at first, factor of a step, at
least."""
PARTS = (1, 2, 3)
"""Dual feasible functions: an item of over `1 / (part + 1)` counts as `1 / part`."""


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


class Configuration(NamedTuple):
    """Servers of a type that hold up to `most` items of up to a rank."""

    gpu: int
    rank: int
    most: int
    limit: int


def configuration_bound(instance: Instance, divisible: Mask) -> int:
    """Return a lower bound of the price by the law of an instance.

    A `divisible` item may be several items that share its load.
    """
    assert instance.busy is not None
    kinds = configurations(instance)
    number = len(instance.rank)
    if not kinds or not number:
        return 0
    slopes = slopes_of(instance, kinds)
    price = instance.price[[kind.gpu for kind in kinds]].astype(np.float64)
    order = np.lexsort((instance.loads.sum(axis=1), instance.rank))
    sample = order[:: -(-number // SAMPLE)]
    weights = _ascended(*_rows(instance, kinds, slopes, divisible, sample), price)
    total = 0.0
    for first in range(0, number, SAMPLE):
        rows, open_to = _rows(instance, kinds, slopes, divisible, order[first : first + SAMPLE])
        least = _shares(rows, open_to, weights, price).min(axis=0)
        total += float(least[np.isfinite(least)].sum())
    return rounded(instance, total)


def configurations(instance: Instance) -> list[Configuration]:
    """Return the configurations of an instance."""
    types, ranks, _ = instance.capacity.shape
    found = []
    for gpu, rank in np.ndindex(types, ranks):
        table = instance.capacity[gpu, rank]
        last = np.append(table[1:] != table[:-1], values=True)
        found += [
            Configuration(gpu, rank, most, int(table[most]))
            for most in (last & (table > 0)).nonzero()[0].tolist()
            if most
        ]
    return found


def slopes_of(instance: Instance, kinds: list[Configuration]) -> Reals:
    """Return the slopes of the chords, by configuration and hour."""
    assert instance.busy is not None
    busiest = np.sort(instance.busy, axis=0)[::-1].cumsum(axis=0)
    slopes = np.zeros((len(kinds), busiest.shape[1]))
    for row, kind in enumerate(kinds):
        others = np.maximum(busiest[min(kind.most, len(busiest)) - 1] - 1, 0)
        spread = instance.spread[kind.gpu, kind.rank]
        slopes[row] = kind.limit * spread / (1 + spread * others)
    return slopes


def _rows(
    instance: Instance, kinds: list[Configuration], slopes: Reals, divisible: Mask, items: Ints
) -> tuple[Reals, Mask]:
    """Return the parts of rows that items take, by configuration, and where items may be."""
    assert instance.busy is not None
    loads, busy, apart = instance.loads[items], instance.busy[items], divisible[items]
    rank, peak = instance.rank[items], loads.max(axis=1)
    limit = np.array([kind.limit for kind in kinds])[:, None, None]
    slope = slopes[:, None, :]
    part = loads[None] / limit
    rows = [(loads + slope * busy) / (limit + slope)]
    rows += [np.where(apart[None, :, None], 0.0, dual) for dual in dual_feasible(part)]
    counted = np.array([1 / kind.most for kind in kinds])[:, None, None]
    rows.append(np.broadcast_to(counted, (len(kinds), len(items), 1)))
    fits = apart[None] | (peak[None] <= limit[:, :, 0])
    ranked = instance.covers(np.array([kind.rank for kind in kinds])[:, None], rank[None])
    return np.concatenate(rows, axis=2), fits & ranked


def dual_feasible(part: Reals) -> Iterator[Reals]:
    """Yield values of items that sum to 1 at most where their parts of a limit do."""
    for times in PARTS:
        scaled = (times + 1) * part
        exact = scaled == np.floor(scaled)
        yield np.where(exact, part, np.floor(scaled) / times)


def _shares(rows: Reals, open_to: Mask, weights: Reals, price: Reals) -> Reals:
    """Return the shares of servers' prices, by configuration and item."""
    shares = price[:, None] * np.matmul(rows, weights[:, :, None])[:, :, 0]
    return np.where(open_to, shares, np.inf)


def _ascended(rows: Reals, open_to: Mask, price: Reals) -> Reals:
    """Return the weights of the rows, by configuration."""
    held = open_to.any(axis=0)
    rows, open_to = rows[:, held], open_to[:, held]
    weights = np.full((rows.shape[0], rows.shape[2]), 1 / rows.shape[2])
    best, warmth, found = -1.0, WARMTH, weights
    for step in range(ASCENT_STEPS):
        shares = _shares(rows, open_to, weights, price)
        least = shares.min(axis=0)
        if (value := float(least.sum())) > best:
            best, found = value, weights
        odds = np.exp((least - shares) / (max(warmth, LEAST_WARMTH) * np.maximum(least, 1.0)))
        odds /= odds.sum(axis=0)
        warmth *= COOLING
        taken = np.matmul(odds[:, None, :], rows)[:, 0]
        top = np.maximum(taken.max(axis=1, keepdims=True), 1e-12)
        weights = weights * np.exp(STEP / (1 + step / STEP_HALF) * (taken / top - 1))
        weights /= weights.sum(axis=1, keepdims=True)
    return found
