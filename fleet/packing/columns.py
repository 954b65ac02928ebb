"""Cover all items by few sets that fit into a bin: column generation and diving.

The linear program of Gilmore and Gomory 1961: its optimum, rounded up, is a bound that is nearly
always the least number of bins or one below. Columns are priced from `patterns`; whole bins are
then fixed, a few at a time, and the program is solved again for the items that are left (diving,
after Wäscher and Gau 1996).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Ints, Mask, Reals, Rng
from fleet.packing.solver import Column, MasterProblem

Numbers = Reals | Ints
Members = NDArray[np.int32]

MOST = 5_000_000
"""Upper bound of the sets that are written down; a number of items that makes more is left to
`Patterns.above_one`, which grows the best sets."""
CHUNK = 1 << 21
"""Array elements compared in a single operation."""
BEAM = 1_500
"""Upper bound of the sets that are grown further where not all are written down."""
COMPARED = 10
"""Sets compared for a set that is returned."""
TIMES = 4
"""Upper bound of the returned sets with the same item, of the same number of items."""
EPSILON = 1e-7
"""Lower bound of a dual value above 1 that is more than rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Sets of items that fit into a bin; an array per number of items, with a set per row."""

    sizes: Ints
    capacity: Ints
    levels: tuple[Members, ...]
    complete: bool
    """True when no other set fits."""

    def among(self, uncovered: Mask) -> "Patterns":
        """Return the sets that hold only these items."""
        kept = (level[uncovered[level].all(axis=1)] for level in self.levels)
        return Patterns(self.sizes, self.capacity, tuple(kept), self.complete)

    def worth_at_least(self, least: float, duals: Reals) -> "Patterns":
        """Return the sets of a single item, and those whose dual values sum to `least` or more."""
        kept = (level[_sums(level, duals) >= least] for level in self.levels[1:])
        return Patterns(self.sizes, self.capacity, (self.levels[0], *kept), complete=self.complete)

    def best(self, duals: Ints) -> int:
        """Return the highest sum of dual values of a set, of those written down."""
        return max(int(_sums(level, duals).max(initial=0)) for level in self.levels)

    def above_one(self, duals: Reals, most: int) -> list[tuple[int, ...]]:
        """Return sets whose dual values exceed 1, at most `most` per number of items."""
        found: list[tuple[int, ...]] = []
        sums = np.zeros(0)
        for level in self.levels:
            sums = _sums(level, duals)
            found += _best(level, sums, most)
        if self.complete:
            return found
        level = self.levels[-1]
        while len(level):
            first = _highest(sums, BEAM)
            level, sums = self._grown(level[first], sums[first], duals)
            found += _best(level, sums, most)
        return found

    def _grown(self, level: Members, sums: Reals, duals: Reals) -> tuple[Members, Reals]:
        """Return the sets, grown by the fitting item of the highest dual value above 0, if any."""
        left = self.capacity - self.sizes[level].sum(axis=1)
        useful = np.flatnonzero(duals > EPSILON)
        fits = np.ones((len(level), len(useful)), dtype=bool)
        for dimension, sizes in enumerate(self.sizes[useful].T):
            fits &= sizes[None, :] <= left[:, dimension][:, None]
        fits[(level[:, :, None] == useful).any(axis=1)] = False
        more = np.where(fits, duals[useful], 0.0)
        if not more.size:
            return level[:0], sums[:0]
        chosen = more.argmax(axis=1)
        gain = more[np.arange(len(level)), chosen]
        grew = gain > EPSILON
        wider = np.column_stack([level[grew], useful[chosen[grew]]]).astype(np.int32)
        wider, index = np.unique(np.sort(wider, axis=1), axis=0, return_index=True)
        return wider, (sums + gain)[grew][index]


def _sums(level: Members, duals: Numbers) -> Reals:
    total = duals[level[:, 0]]
    for column in range(1, level.shape[1]):
        total = total + duals[level[:, column]]
    return np.asarray(total)


def _highest(sums: Reals, most: int) -> NDArray[np.intp]:
    if len(sums) > most:
        least = np.partition(sums, -most)[-most]
        high = np.flatnonzero(sums >= least)
        return high[np.argsort(-sums[high], kind="stable")[:most]]
    return np.argsort(-sums, kind="stable")


def _best(level: Members, sums: Reals, most: int) -> list[tuple[int, ...]]:
    """Return the sets with the highest sums above 1, with no item in too many of them."""
    high = np.flatnonzero(sums > 1 + EPSILON)
    high = high[_highest(sums[high], COMPARED * most)]
    used: dict[int, int] = {}
    found: list[tuple[int, ...]] = []
    for row in level[high].tolist():
        if all(used.get(item, 0) < TIMES for item in row):
            for item in row:
                used[item] = used.get(item, 0) + 1
            found.append(tuple(row))
            if len(found) == most:
                break
    return found


def patterns(sizes: Ints, capacity: Ints) -> Patterns:
    """Return the sets that fit, by number of items, until the next would make more than `MOST`.

    Sizes must not be negative for `complete` to be true.
    """
    level = np.arange(len(sizes), dtype=np.int32)[:, None]
    left = capacity - sizes
    levels = [level]
    count = len(level)
    while True:
        grown = _grown_by_one(sizes, level, left, MOST - count)
        if grown is None:
            return Patterns(sizes, capacity, tuple(levels), complete=False)
        level, left = grown
        if not len(level):
            complete = int(sizes.min(initial=0)) >= 0
            return Patterns(sizes, capacity, tuple(levels), complete)
        levels.append(level)
        count += len(level)


def _grown_by_one(
    sizes: Ints, level: Members, left: Ints, most: int
) -> tuple[Members, Ints] | None:
    """Return the sets grown by a fitting later item, and the room left; None for too many."""
    wider: list[Members] = [np.zeros((0, level.shape[1] + 1), dtype=np.int32)]
    room: list[Ints] = [left[:0]]
    found = 0
    order = np.argsort(level[:, -1], kind="stable")
    ends = np.searchsorted(level[order, -1], np.arange(len(sizes) + 1))
    for last in range(len(sizes) - 1):
        part = order[ends[last] : ends[last + 1]]
        for start in range(0, len(part), CHUNK // len(sizes) + 1):
            rows = part[start : start + CHUNK // len(sizes) + 1]
            free = left[rows]
            later = last + 1 + np.flatnonzero((sizes[last + 1 :] <= free.max(axis=0)).all(axis=1))
            fits = np.ones((len(rows), len(later)), dtype=bool)
            for dimension, column in enumerate(sizes[later].T):
                fits &= column[None, :] <= free[:, dimension][:, None]
            row, item = fits.nonzero()
            found += len(row)
            if found > most:
                return None
            wider.append(np.column_stack([level[rows[row]], later[item]]).astype(np.int32))
            room.append(free[row] - sizes[later[item]])
    return np.concatenate(wider), np.concatenate(room)


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
    sizes: Ints, capacity: Ints, assignment: Ints, *, effort: int, bound: int
) -> tuple[Ints, int]:
    """Return the best packing of a few dives, or `assignment`, and the proved lower bound.

    The bound is as given where the sets were too many to prove more. `assignment` is a valid
    packing, bins counted from 0 without gaps: the first columns. `effort` is in items times the
    square of columns, of all dives but the first.
    """
    order = np.argsort(-(sizes / np.maximum(capacity, 1)).sum(axis=1), kind="stable")
    sets = patterns(sizes[order], capacity)
    bins: list[list[int]] = [[] for _ in range(int(assignment.max(initial=-1)) + 1)]
    for item, bin_ in enumerate(assignment[order].tolist()):
        bins[bin_].append(item)
    best: list[Column] = [tuple(items) for items in bins]
    master = MasterProblem(np.ones(len(sizes), dtype=bool))
    master.add([*((item,) for item in range(len(sizes))), *best])
    values, duals = _priced(sets, master, ROUNDS)
    proved = max(bound, _bound(sets, duals))
    sets = sets.worth_at_least(NEAR, duals)
    rng = Rng(np.random.PCG64(0))
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
