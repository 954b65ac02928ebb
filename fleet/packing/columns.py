"""Choose sets of items that fit, as few as cover all items: columns priced into a linear program.

The program of Gilmore and Gomory 1961: its optimum, rounded up, is a bound that is nearly always
the least number of bins or one below. Its columns are priced from `patterns`; whole bins are then
fixed, a few at a time, and the program is solved again for the items that are left (diving, after
Wäscher and Gau 1996).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.packing.master import Column, Master
from fleet.packing.patterns import Patterns, Reals, patterns
from fleet.packing.vectors_tabu import Ints

ITEMS = 600
"""Most items for which columns are priced."""
PER_BIN = 4
"""Most items a bin, on average."""
DIVES = 8
"""Most dives."""
PRICED = 300
"""Most columns of one number of items added at a time."""
ROUNDS = 40
"""Most times that columns are priced at the start, and `AGAIN` times after each fixing."""
AGAIN = 3
STALLED = 8
"""Rounds in a row without progress after which pricing ends, where not all sets are known."""
PROGRESS = 1e-3
FIXED = 0.05
"""Bins fixed at a time beside the whole ones, as a share of the items left."""
WHOLE = 0.999
"""A column of at least this value is whole."""
NEAR = 0.93
"""Dives look at sets of at least this worth at the start, of the 1 that a bin costs."""
NOISE = 0.3
"""How much chance there is in what is fixed, in all dives but the first."""
SCALE = 1 << 30
"""Units of worth in the bound, which is counted in integers."""


@dataclass(frozen=True, slots=True, eq=False)
class Cover:
    """A packing of all items, and what was proved on the way."""

    home: Ints
    bound: int
    """No packing has fewer bins; as given, where the sets were too many to be sure of more."""


def within_reach(items: int, bins: int) -> bool:
    """Say whether columns are worth pricing: with many items in a bin they are too many."""
    return 0 < items <= min(ITEMS, PER_BIN * bins)


def cover(sizes: Ints, capacity: Ints, home: Ints, *, effort: int, bound: int, seed: int) -> Cover:
    """Return the best packing of a few dives, or `home` where none is better.

    Args:
        sizes: Items, each within `capacity`.
        capacity: Of every bin.
        home: A valid packing, bins counted from 0 without gaps; its bins are the first columns.
        effort: Items times the square of columns, of all dives but the first.
        bound: A lower bound of the number of bins, where the search ends.
        seed: Start of the chance.
    """
    order = np.argsort(-(sizes / np.maximum(capacity, 1)).sum(axis=1), kind="stable")
    sets = patterns(sizes[order], capacity)
    best = _bins(home[order])
    master = Master(np.ones(len(sizes), dtype=bool))
    master.add([*((item,) for item in range(len(sizes))), *best])
    values, worth = _priced(sets, master, ROUNDS)
    proved = max(bound, _proved(sets, worth))
    sets = sets.worth_at_least(NEAR, worth)
    chance = np.random.Generator(np.random.PCG64(seed))
    cost = len(sizes) * len(master.columns) ** 2
    for dive in range(min(DIVES, 1 + effort // cost)):
        if len(best) <= proved:
            break
        found = _dive(sets, master.columns, values, chance, NOISE if dive else 0.0)
        best = min(best, found, key=len)
    better = home.copy()
    for place, members in enumerate(best):
        better[order[list(members)]] = place
    return Cover(better, proved)


def _bins(home: Ints) -> list[Column]:
    held: list[list[int]] = [[] for _ in range(int(home.max(initial=-1)) + 1)]
    for item, place in enumerate(home.tolist()):
        held[place].append(item)
    return [tuple(each) for each in held]


def _priced(sets: Patterns, master: Master, rounds: int) -> tuple[Reals, Reals]:
    """Price columns until none is missing, or they bring nothing; return values and worth."""
    last, stalled = float("inf"), 0
    for _ in range(rounds):
        values, worth, paid = master.solve()
        stalled = 0 if paid < last - PROGRESS else stalled + 1
        last = min(last, paid)
        if stalled > STALLED and not sets.complete:
            return values, worth
        if not master.add(sets.above_one(worth, PRICED)):
            return values, worth
    values, worth, _ = master.solve()
    return values, worth


def _proved(sets: Patterns, worth: Reals) -> int:
    """Return the bound that the worth of items gives: no bin holds more than the dearest set."""
    if not sets.complete:
        return 0
    units = np.floor(np.maximum(worth, 0) * SCALE).astype(np.int64)
    dearest = sets.dearest(units)
    return -(-int(units.sum()) // dearest) if dearest else 0


def _dive(
    sets: Patterns, columns: list[Column], values: Reals, chance: np.random.Generator, noise: float
) -> list[Column]:
    alive = np.ones(len(sets.sizes), dtype=bool)
    fixed: list[Column] = []
    while _fix(columns, values, values + noise * chance.random(len(values)), alive, fixed):
        if not alive.any():
            return fixed
        sets = sets.among(alive)
        master = Master(alive)
        master.add([each for each in columns if alive[list(each)].all()])
        values, _ = _priced(sets, master, AGAIN)
        columns = master.columns
    return fixed + [(item,) for item in np.flatnonzero(alive).tolist()]


def _fix(
    columns: list[Column], values: Reals, liking: Reals, alive: NDArray[np.bool_],
    fixed: list[Column],
) -> bool:  # fmt: skip
    """Make bins of whole columns, and of a few more; their items are no longer alive.

    Returns whether any was made.
    """
    more = max(1, int(FIXED * int(alive.sum())))
    whole = values >= WHOLE
    liking = np.where(whole, 2.0 + liking, np.where(values > PROGRESS, liking, -1.0))
    taken = 0
    for column in np.argsort(-liking, kind="stable").tolist():
        if liking[column] < 0 or (not whole[column] and taken >= more):
            break
        members = list(columns[column])
        if alive[members].all():
            alive[members] = False
            fixed.append(columns[column])
            taken += 1
    return taken > 0
