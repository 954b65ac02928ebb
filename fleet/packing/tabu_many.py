"""Run several tabu searches for equal bins side by side, with random draws of their own.

As `tabu.BinTabu`, for small packings, where a move costs less than the calls that make the move:
all searches take a step together, in the same array operations. A step picks an overfull bin in
every search, and makes the best exchange of an item of the bin. In half of the runs the search
lowers the sum of the overloads' square roots: that empties small overloads and tolerates few large
ones, without which tight packings are not found.
"""

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Ints, Rng
from fleet.packing.tabu import SAMPLE, TENURES

SEARCHES = 8
"""Upper bound of the searches side by side."""
EXACT = 1 << 53
"""Upper bound of the sum of sizes, which are added as floats, exactly up to here."""
CELLS = 1 << 23
"""Upper bound of the entries of the tables of forbidden moves."""
NOISE = 0.01
"""Randomness that breaks ties between exchanges."""
SLACK = 1e-3
"""Lower bound of progress that is more than rounding."""
KEYS = 64
"""Random orders of the bins that are drawn at a time."""
FAR = 1e30
"""Change of overload of an exchange that is forbidden."""

Floats = NDArray[np.floating]
Where = NDArray[np.intp]


def searches(sizes: Ints, bins: int) -> int:
    """Return the number of searches worth running side by side; 1: use `BinTabu`."""
    items, dimensions = sizes.shape
    step: int = dimensions * (items + bins) * max(1, items // max(1, bins))
    if int(np.abs(sizes).sum()) >= EXACT or step > SAMPLE:
        return 1
    return int(max(1, min(SEARCHES, CELLS // max(1, bins * (items + bins)))))


class ParallelTabu:
    """Copies of a packing, searched side by side."""

    def __init__(
        self, sizes: Ints, capacity: Ints, assignment: Ints, bins: int, number: int
    ) -> None:
        """Take scaled sizes and an assignment to `bins` bins, the start of all searches."""
        self.items, self.dimensions = sizes.shape
        self.bins, self.number = bins, number
        kind = np.float32 if int(np.abs(sizes).sum()) < 1 << 24 else np.float64
        self.width = np.zeros((self.dimensions, self.items + bins), dtype=kind)
        self.width[:, : self.items] = sizes.T
        self.home = np.tile(np.concatenate([assignment, np.arange(bins)]), (number, 1))
        load = np.zeros((bins, self.dimensions), dtype=np.int64)
        np.add.at(load, assignment, sizes)
        excess = (load - capacity).T.astype(kind)
        self.excess = np.repeat(excess[:, None, :], number, axis=1)
        without = excess[:, self.home[0]] - self.width
        self.without = np.repeat(without[:, None, :], number, axis=1)
        self.tabu = np.zeros((number, bins, self.items + bins), dtype=np.int32)
        self.clock = 0
        self.root = False
        self._weigh()

    def _weigh(self) -> None:
        self.over = self._penalty(self.excess)
        self.over_home = np.take_along_axis(self.over, self.home, axis=1)

    def _penalty(self, excess: Floats) -> Floats:
        over = np.maximum(excess, 0)
        if self.root:
            np.sqrt(over, out=over)
        total: Floats = np.add.reduce(over)
        return total

    def solved(self) -> Ints | None:
        """Return the first assignment without overfull bins, if any."""
        free = np.flatnonzero(~(self.excess > 0).any(axis=(0, 2)))
        return self.home[int(free[0]), : self.items].copy() if len(free) else None

    def run(self, moves: int, rng: Rng) -> int:
        """Search for about `moves` moves in all; return the number of moves. See `solved`."""
        rounds = -(-moves // self.number)
        least = np.array(TENURES)[rng.integers(len(TENURES), size=self.number)]
        self.root = bool(rng.integers(2))
        self._weigh()
        best = self.over.sum(axis=1)
        width = self.width.shape[1]
        keys = rng.random((min(rounds, KEYS), self.number, self.bins), dtype=np.float32)
        noise = rng.random(2 * width, dtype=np.float32) * np.float32(NOISE)
        starts = rng.integers(width, size=rounds).tolist()
        tenures = least + (rng.random((rounds, self.number)) * least).astype(np.int64)
        for step, start in enumerate(starts):
            self.clock += 1
            total = self.over.sum(axis=1)
            np.minimum(best, total, out=best)
            source = ((keys[step % KEYS] + NOISE) * (self.over > 0)).argmax(axis=1)
            jitter = noise[start : start + width]
            self._step(source, total - best + np.float32(SLACK), jitter, tenures[step])
            if not self.over.any(axis=1).all():
                return (step + 1) * self.number
        return rounds * self.number

    def _step(self, source: Where, slack: Floats, noise: Floats, tenure: Ints) -> None:
        search, item = (self.home[:, : self.items] == source[:, None]).nonzero()
        left = source[search]
        weight = self.width[:, item]
        gap = self.excess[:, search, left] - weight
        change = self._penalty(self.width[:, None, :] + gap[:, :, None])
        there = self.without[:, search, :]
        there += weight[:, :, None]
        change += self._penalty(there)
        home = self.home[search]
        change -= self.over_home[search]
        change -= self.over[search, left][:, None]
        banned = np.take_along_axis(self.tabu[search, :, item], home, axis=1) > self.clock
        banned |= self.tabu[search, left] > self.clock
        banned &= change > -slack[search][:, None]
        banned |= home == left[:, None]
        change += noise
        change[banned] = FAR
        other = change.argmin(axis=1)
        values = np.take_along_axis(change, other[:, None], axis=1)[:, 0].tolist()
        best: dict[int, int] = {}
        for row, (index, value) in enumerate(zip(search.tolist(), values, strict=True)):
            if value < FAR and (index not in best or value < values[best[index]]):
                best[index] = row
        if best:
            rows = np.array(list(best.values()))
            moving = search[rows]
            self._exchange(moving, source[moving], item[rows], other[rows], tenure[moving])

    def _exchange(
        self, search: Where, source: Where, item: Where, other: Where, tenure: Ints
    ) -> None:
        home, width = self.home, self.width
        target = home[search, other]
        shift = width[:, item] - width[:, other]
        until = self.clock + tenure
        home[search, item] = target
        self.tabu[search, source, item] = until
        real = other < self.items
        home[search[real], other[real]] = source[real]
        self.tabu[search[real], target[real], other[real]] = until[real]
        self.excess[:, search, source] -= shift
        self.excess[:, search, target] += shift
        both, bins = np.concatenate([search, search]), np.concatenate([source, target])
        self.over[both, bins] = self._penalty(self.excess[:, both, bins])
        here = home[search]
        row, inside = ((here == source[:, None]) | (here == target[:, None])).nonzero()
        search, bins = search[row], here[row, inside]
        self.without[:, search, inside] = self.excess[:, search, bins] - width[:, inside]
        self.over_home[search, inside] = self.over[search, bins]
