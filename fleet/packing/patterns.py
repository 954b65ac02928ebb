"""Enumerate sets of items that fit into a bin: all of them where they are few, else the best.

Items are counted from the largest to the smallest, and a set grows by items after its last.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Ints, Mask, Reals

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
    """Return the indices of the highest sums."""
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


def patterns(sizes: Ints, capacity: Ints, most: int = MOST) -> Patterns:
    """Return the sets that fit, by number of items, until the next would make more than `most`.

    Sizes must not be negative for `complete` to be true.
    """
    level = np.arange(len(sizes), dtype=np.int32)[:, None]
    left = capacity - sizes
    levels = [level]
    count = len(level)
    while True:
        grown = _grown_by_one(sizes, level, left, most - count)
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
