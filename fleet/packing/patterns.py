"""Sets of items that fit into one bin together: all of them where they are few, else the best.

Items are counted from the largest to the smallest, and a set grows by items after its last.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleet.packing.vectors_tabu import Ints

Reals = NDArray[np.float64]
Numbers = NDArray[np.float64] | NDArray[np.int64]
Members = NDArray[np.int32]

MOST = 5_000_000
"""Sets that are written down; a size of set that would make more is left to `grown`."""
CHUNK = 1 << 21
"""Array elements looked at in one operation."""
BEAM = 1_500
"""Sets that are grown further where not all are written down."""
LOOKED_AT = 10
"""Sets looked at for one that is returned."""
TIMES = 4
"""Most of the sets returned that an item is in, of one number of items."""
EPSILON = 1e-7
"""Worth above 1 that is more than rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Sets of items that fit into one bin; one array a number of items, one set a row."""

    sizes: Ints
    capacity: Ints
    levels: tuple[Members, ...]
    complete: bool
    """True when no other set fits."""

    def among(self, alive: NDArray[np.bool_]) -> "Patterns":
        """Return the sets that hold only these items."""
        kept = (level[alive[level].all(axis=1)] for level in self.levels)
        return Patterns(self.sizes, self.capacity, tuple(kept), self.complete)

    def worth_at_least(self, least: float, worth: Reals) -> "Patterns":
        """Return the sets of one item, and those of at least so much worth."""
        kept = (level[_sums(level, worth) >= least] for level in self.levels[1:])
        return Patterns(self.sizes, self.capacity, (self.levels[0], *kept), complete=self.complete)

    def dearest(self, worth: Ints) -> int:
        """Return the highest sum of worth of one set, of those written down."""
        return max(int(_sums(level, worth).max(initial=0)) for level in self.levels)

    def above_one(self, worth: Reals, most: int) -> list[tuple[int, ...]]:
        """Return sets worth more than 1, at most so many of each number of items."""
        found: list[tuple[int, ...]] = []
        sums = np.zeros(0)
        for level in self.levels:
            sums = _sums(level, worth)
            found += _best(level, sums, most)
        if self.complete:
            return found
        level = self.levels[-1]
        while len(level):
            first = _first(sums, BEAM)
            level, sums = self._grown(level[first], sums[first], worth)
            found += _best(level, sums, most)
        return found

    def _grown(self, level: Members, sums: Reals, worth: Reals) -> tuple[Members, Reals]:
        """Add to each set the item of most worth that still fits, if any has worth."""
        left = self.capacity - self.sizes[level].sum(axis=1)
        useful = np.flatnonzero(worth > EPSILON)
        fits = np.ones((len(level), len(useful)), dtype=bool)
        for dimension, sizes in enumerate(self.sizes[useful].T):
            fits &= sizes[None, :] <= left[:, dimension][:, None]
        fits[(level[:, :, None] == useful).any(axis=1)] = False
        more = np.where(fits, worth[useful], 0.0)
        if not more.size:
            return level[:0], sums[:0]
        chosen = more.argmax(axis=1)
        gain = more[np.arange(len(level)), chosen]
        grew = gain > EPSILON
        wider = np.column_stack([level[grew], useful[chosen[grew]]]).astype(np.int32)
        wider, index = np.unique(np.sort(wider, axis=1), axis=0, return_index=True)
        return wider, (sums + gain)[grew][index]


def _sums(level: Members, worth: Numbers) -> Reals:
    total = worth[level[:, 0]]
    for column in range(1, level.shape[1]):
        total = total + worth[level[:, column]]
    return np.asarray(total)


def _first(sums: Reals, most: int) -> NDArray[np.intp]:
    """Return where the highest sums are."""
    if len(sums) > most:
        least = np.partition(sums, -most)[-most]
        high = np.flatnonzero(sums >= least)
        return high[np.argsort(-sums[high], kind="stable")[:most]]
    return np.argsort(-sums, kind="stable")


def _best(level: Members, sums: Reals, most: int) -> list[tuple[int, ...]]:
    """Return the dearest sets above 1, with no item in too many of them."""
    high = np.flatnonzero(sums > 1 + EPSILON)
    high = high[_first(sums[high], LOOKED_AT * most)]
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
    """Return the sets that fit, size by size, until the next size would make more than `most`.

    Sizes must not be negative for `complete` to be true.
    """
    level = np.arange(len(sizes), dtype=np.int32)[:, None]
    left = capacity - sizes
    levels = [level]
    count = len(level)
    while True:
        grown = _next(sizes, level, left, most - count)
        if grown is None:
            return Patterns(sizes, capacity, tuple(levels), complete=False)
        level, left = grown
        if not len(level):
            complete = int(sizes.min(initial=0)) >= 0
            return Patterns(sizes, capacity, tuple(levels), complete)
        levels.append(level)
        count += len(level)


def _next(sizes: Ints, level: Members, left: Ints, most: int) -> tuple[Members, Ints] | None:
    """Return each set with each later item that fits, and the room left; None for too many."""
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
