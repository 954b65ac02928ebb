"""Make an overfull packing feasible: tabu search over shifts and swaps that lowers overload.

All items stay assigned; the number of bins is given. One move takes an item out of an overfull
bin, to another bin or in exchange for an item there. Every such exchange is evaluated at once
by arrays; an empty ghost item in each bin makes a shift an exchange too.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

TENURES = (8, 20, 60, 120)
"""Moves for which an item may not return to the bin it left, at least; up to twice as many.

One is drawn for each call of `run`: which is best differs from instance to instance.
"""
SAMPLE = 40_000
"""Array elements looked at in one move; more items of the bin are tried while it is not full."""
FAR = 1 << 60


def scaled(sizes: Ints, capacity: Ints) -> tuple[Ints, Ints]:
    """Bring dimensions to comparable units, exactly: both sides are multiplied by an integer."""
    top = int(capacity.max(initial=1))
    factor = np.maximum(1, np.minimum(top, 1 << 20) // np.maximum(capacity, 1))
    return sizes * factor, capacity * factor


class Repair:
    """A packing under repair."""

    def __init__(self, sizes: Ints, capacity: Ints, assignment: Ints, bins: int) -> None:
        """Take scaled sizes and an assignment to `bins` bins that may overfill them."""
        self.items, self.dimensions = sizes.shape
        self.bins = bins
        count = self.items
        kind = np.int32 if int(sizes.sum()) < 1 << 30 else np.int64
        self.width = np.zeros((self.dimensions, count + bins), dtype=kind)
        self.width[:, :count] = sizes.T
        self.home = np.concatenate([assignment, np.arange(bins)])
        self.excess = np.zeros((self.dimensions, bins), dtype=kind)
        self.excess -= capacity[:, None].astype(kind)
        np.add.at(self.excess.T, assignment, sizes.astype(kind))
        self.over = np.maximum(self.excess, 0).sum(axis=0, dtype=np.int64)
        self.without = self.excess[:, self.home] - self.width
        self.tabu = np.zeros((count + bins, bins), dtype=np.int64)
        self.clock = 0
        self.best = int(self.over.sum())

    @property
    def done(self) -> bool:
        """True when no bin is overfull."""
        return not self.over.any()

    def run(self, moves: int, chance: np.random.Generator) -> int:
        """Search for at most so many moves; return how many were made. See `done`."""
        total = int(self.over.sum())
        draws = chance.random(3 * moves).tolist()
        least = TENURES[int(chance.integers(len(TENURES)))]
        sample = max(1, SAMPLE // max(1, self.width.size))
        made = 0
        while total > 0 and made < moves:
            pick, turn, tenure = draws[3 * made : 3 * made + 3]
            made += 1
            self.clock += 1
            full = self.over.nonzero()[0]
            source = int(full[int(pick * len(full))])
            inside = (self.home[: self.items] == source).nonzero()[0]
            if len(inside) > sample:
                inside = np.roll(inside, int(turn * len(inside)))[:sample]
            slack = total - self.best
            total += self._move(source, inside, slack, least + int(tenure * least))
            self.best = min(self.best, total)
        return made

    def _move(self, source: int, inside: NDArray[np.intp], slack: int, tenure: int) -> int:
        """Make the best exchange of one of these items; return the change of overload."""
        home = self.home
        weight = self.width[:, inside]  # d x s
        left = (self.excess[:, source][:, None] - weight)[:, :, None]
        here = np.maximum(self.width[:, None, :] + left, 0).sum(axis=0, dtype=np.int64)
        there = np.maximum(self.without[:, None, :] + weight[:, :, None], 0).sum(
            axis=0, dtype=np.int64
        )
        change = here + there
        change -= self.over[home]
        change -= self.over[source]
        banned = self.tabu[inside][:, home] > self.clock
        banned |= (self.tabu[:, source] > self.clock)[None, :]
        banned &= change > -1 - slack
        change[banned] = FAR
        change[:, home == source] = FAR
        where = int(change.argmin())
        row, other = divmod(where, change.shape[1])
        gain = int(change[row, other])
        if gain >= FAR:
            return 0
        self._exchange(source, int(inside[row]), other, tenure)
        return gain

    def _exchange(self, source: int, item: int, other: int, tenure: int) -> None:
        home, width = self.home, self.width
        target = int(home[other])
        shift = width[:, item] - width[:, other]
        home[item] = target
        self.tabu[item, source] = self.clock + tenure
        if other < self.items:
            home[other] = source
            self.tabu[other, target] = self.clock + tenure
        self.excess[:, source] -= shift
        self.excess[:, target] += shift
        for each in (source, target):
            column = self.excess[:, each]
            self.over[each] = int(np.maximum(column, 0).sum(dtype=np.int64))
            inside = (home == each).nonzero()[0]
            self.without[:, inside] = column[:, None] - width[:, inside]
