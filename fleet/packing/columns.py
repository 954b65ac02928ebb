"""Cover all items by few sets that fit into a bin: column generation and diving.

The linear program of Gilmore and Gomory 1961: its optimum, rounded up, is a bound that is nearly
always the least number of bins or one below. Columns are priced from `patterns`; whole bins are
then fixed, a few at a time, and the program is solved again for the items that are left (diving,
after Wäscher and Gau 1996).
"""

import numpy as np

from fleet.packing.patterns import Patterns, patterns
from fleet.packing.problem import Ints, Mask, Reals, Rng
from fleet.packing.solver import Column, MasterProblem

ITEMS = 600
"""Upper bound of the items for which columns are priced."""
PER_BIN = 4
"""Upper bound of the items a bin, on average, for which columns are priced."""
DIVES = 8
"""Upper bound of the dives."""
PRICED = 300
"""Upper bound of the columns of the same number of items that are added at a time."""
ROUNDS, ROUNDS_AFTER = 40, 3
"""Upper bounds of the rounds of pricing: at the start, and after every fixing."""
STALLED = 8
"""Rounds in a row without progress after which pricing ends, where not all sets are known."""
PROGRESS = 1e-3
"""Lower bound of an improvement of the optimum that counts as progress, in bins."""
FIXED = 0.05
"""Bins fixed at a time beside the whole ones, as a share of the items left."""
WHOLE = 0.999
"""Lower bound of the value of a column that counts as a whole bin."""
NEAR = 0.93
"""Lower bound of the dual value at the start of sets that dives use; a bin costs 1."""
NOISE = 0.3
"""Randomness added to the values by which columns are fixed, in all dives but the first."""
SCALE = 1 << 30
"""Units of dual value in the bound, which is counted in integers."""


def is_worthwhile(items: int, bins: int) -> bool:
    """Say whether columns are worth pricing: with many items in a bin they are too many."""
    return 0 < items <= min(ITEMS, PER_BIN * bins)


def cover(
    sizes: Ints, capacity: Ints, assignment: Ints, *, effort: int, bound: int, seed: int
) -> tuple[Ints, int]:
    """Return the best packing of a few dives, or `assignment`, and the proved lower bound.

    The bound is as given where the sets were too many to prove more.

    Args:
        sizes: Items within `capacity`.
        capacity: Capacity of every bin.
        assignment: A valid packing, bins counted from 0 without gaps; the first columns.
        effort: Items times the square of columns, of all dives but the first.
        bound: A lower bound of the number of bins, where the search ends.
        seed: Seed of the random draws.
    """
    order = np.argsort(-(sizes / np.maximum(capacity, 1)).sum(axis=1), kind="stable")
    sets = patterns(sizes[order], capacity)
    best = _bins(assignment[order])
    master = MasterProblem(np.ones(len(sizes), dtype=bool))
    master.add([*((item,) for item in range(len(sizes))), *best])
    values, duals = _priced(sets, master, ROUNDS)
    proved = max(bound, _bound(sets, duals))
    sets = sets.worth_at_least(NEAR, duals)
    rng = Rng(np.random.PCG64(seed))
    cost = len(sizes) * len(master.columns) ** 2
    for dive in range(min(DIVES, 1 + effort // cost)):
        if len(best) <= proved:
            break
        found = _dive(sets, master.columns, values, rng, NOISE if dive else 0.0)
        best = min(best, found, key=len)
    better = assignment.copy()
    for bin_, members in enumerate(best):
        better[order[list(members)]] = bin_
    return better, proved


def _bins(assignment: Ints) -> list[Column]:
    bins: list[list[int]] = [[] for _ in range(int(assignment.max(initial=-1)) + 1)]
    for item, bin_ in enumerate(assignment.tolist()):
        bins[bin_].append(item)
    return [tuple(items) for items in bins]


def _priced(sets: Patterns, master: MasterProblem, rounds: int) -> tuple[Reals, Reals]:
    """Price columns until none is missing or none helps; return values and dual values."""
    last, stalled = float("inf"), 0
    for _ in range(rounds):
        values, duals, optimum = master.solve()
        stalled = 0 if optimum < last - PROGRESS else stalled + 1
        last = min(last, optimum)
        if stalled > STALLED and not sets.complete:
            return values, duals
        if not master.add(sets.above_one(duals, PRICED)):
            return values, duals
    values, duals, _ = master.solve()
    return values, duals


def _bound(sets: Patterns, duals: Reals) -> int:
    """Return the bound of the dual values: no bin holds more of them than the best set."""
    if not sets.complete:
        return 0
    units = np.floor(np.maximum(duals, 0) * SCALE).astype(np.int64)
    best = sets.best(units)
    return -(-int(units.sum()) // best) if best else 0


def _dive(
    sets: Patterns, columns: list[Column], values: Reals, rng: Rng, noise: float
) -> list[Column]:
    uncovered = np.ones(len(sets.sizes), dtype=bool)
    fixed: list[Column] = []
    while _fix(columns, values, values + noise * rng.random(len(values)), uncovered, fixed):
        if not uncovered.any():
            return fixed
        sets = sets.among(uncovered)
        master = MasterProblem(uncovered)
        master.add([column for column in columns if uncovered[list(column)].all()])
        values, _ = _priced(sets, master, ROUNDS_AFTER)
        columns = master.columns
    return fixed + [(item,) for item in np.flatnonzero(uncovered).tolist()]


def _fix(
    columns: list[Column], values: Reals, noisy: Reals, uncovered: Mask, fixed: list[Column]
) -> bool:
    """Make bins of whole columns, and of a few more, and say whether any bin was made."""
    more = max(1, int(FIXED * int(uncovered.sum())))
    whole = values >= WHOLE
    score = np.where(whole, 2.0 + noisy, np.where(values > PROGRESS, noisy, -1.0))
    taken = 0
    for index in np.argsort(-score, kind="stable").tolist():
        if score[index] < 0 or (not whole[index] and taken >= more):
            break
        members = list(columns[index])
        if uncovered[members].all():
            uncovered[members] = False
            fixed.append(columns[index])
            taken += 1
    return taken > 0
