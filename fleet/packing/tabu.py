"""Make overfull servers of given types feasible: tabu search over shifts and swaps.

As in `vectors.repair`, with capacities that follow the highest rank and the number of adapters.
"""

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Group, Ints

Chance = np.random.Generator

TENURE = 12
SAMPLE = 24_000
"""Array elements looked at in one move."""
WINDOW = 500
"""Items and free places of servers that one move looks at to exchange with, of those there are."""
FAR = 1 << 60
TOO_MANY = -100_000
"""Capacity beyond the table's last column."""


class MixedRepair:
    """Servers under repair.

    Items, and one free place of each server, are columns of the arrays. Where they are many, a
    move looks at some that stand side by side, so they are shuffled first.
    """

    def __init__(self, group: Group, gpus: Ints, home: Ints, chance: Chance) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        items, hours = group.loads.shape
        bins = len(gpus)
        width = items + bins
        column = chance.permutation(width) if width > WINDOW else np.arange(width)
        self.column, self.ghost = column[:items], column[items:]
        """Where each item stands, and each server's free place."""
        types, ranks, _ = group.capacity.shape
        large = max(int(group.loads.sum()), hours * int(group.capacity.max(initial=0)))
        self.kind = np.int32 if large < 1 << 29 else np.int64
        # A last rank row for empty servers, and two columns beyond the table.
        self.table = np.full((types, ranks + 1, group.most + 3), TOO_MANY, dtype=self.kind)
        self.table[:, 1:, : group.most + 1] = group.capacity
        self.table[:, 0, : group.most + 1] = group.capacity[:, 0]
        self.gpus = gpus
        self.real = np.zeros(width, dtype=bool)
        self.real[self.column] = True
        self.one = (~self.real).astype(np.int64)
        self.rank = np.zeros(width, dtype=np.int64)
        self.rank[self.column] = group.rank + 1
        self.width = np.zeros((hours, width), dtype=self.kind)
        self.width[:, self.column] = group.loads.T
        self.home = np.empty(width, dtype=np.int64)
        self.home[self.column], self.home[self.ghost] = home, np.arange(bins)
        self.tabu = np.zeros((width, bins), dtype=np.int32)
        self.clock = 0
        self._meet(group.owner)
        self._weigh(group, home)

    def _meet(self, owner: Ints) -> None:
        """Note which items are replicas of one adapter, and which servers hold another one."""
        self.kin: dict[int, list[int]] = {}
        self.met = np.zeros(self.tabu.shape, dtype=bool)
        _, inverse, times = np.unique(owner, return_inverse=True, return_counts=True)
        owners: dict[int, list[int]] = {}
        for item in (times[inverse] > 1).nonzero()[0].tolist():
            owners.setdefault(int(owner[item]), []).append(int(self.column[item]))
        for members in owners.values():
            for each in members:
                self.kin[each] = [other for other in members if other != each]
                self.met[each, self.home[self.kin[each]]] = True

    def _weigh(self, group: Group, home: Ints) -> None:
        """Sum up what each server holds, as `_refresh` does one by one."""
        bins = len(self.gpus)
        self.load = np.zeros((len(self.width), bins), dtype=self.kind)
        np.add.at(self.load.T, home, group.loads.astype(self.kind))
        self.count = np.bincount(home, minlength=bins)
        self.without = self.load[:, self.home] - self.width
        top, below = np.zeros(bins, dtype=np.int64), np.zeros(bins, dtype=np.int64)
        np.maximum.at(top, self.home, self.rank)
        at_top = (self.rank == top[self.home]) & self.real
        only = np.bincount(self.home[at_top], minlength=bins) == 1
        np.maximum.at(below, self.home[~at_top], self.rank[~at_top])
        self.others = np.where(at_top & only[self.home], below[self.home], top[self.home])
        """Highest rank on the item's server apart from the item."""
        limit = self.table[self.gpus, top, np.minimum(self.count, self.table.shape[2] - 1)]
        self.over = np.maximum(self.load - limit, 0).sum(axis=0).astype(np.int64)

    def _refresh(self, bin_: int) -> None:
        inside = self._inside(bin_)
        self.count[bin_] = len(inside)
        ranks = self.rank[inside]
        ghost = self.ghost[bin_]
        top = int(ranks.max(initial=0))
        load = self.load[:, bin_]
        self.others[ghost] = top
        self.without[:, ghost] = load
        if len(inside):
            self.without[:, inside] = load[:, None] - self.width[:, inside]
            at_top = ranks == top
            if np.count_nonzero(at_top) == 1:
                below = int(ranks[~at_top].max(initial=0))
                self.others[inside] = np.where(at_top, below, top)
            else:
                self.others[inside] = top
        limit = int(self.table[self.gpus[bin_], top, min(len(inside), self.table.shape[2] - 1)])
        self.over[bin_] = int(np.maximum(load - limit, 0).sum())

    def _inside(self, bin_: int) -> NDArray[np.intp]:
        return np.flatnonzero((self.home == bin_) & self.real)

    def run(self, moves: int, patience: int, chance: Chance) -> int:
        """Search until so many moves bring no progress; return how many were made.

        Nothing is overfull when `done` says so.
        """
        total = int(self.over.sum())
        best = total
        last = patience
        hours, width = self.width.shape
        window = min(width, WINDOW)
        sample = max(1, SAMPLE // max(1, hours * window))
        made = 0
        while total > 0 and made < min(last, moves):
            pick, turn, tenure = chance.random(3).tolist()
            start = int(chance.integers(width - window + 1)) if width > window else 0
            made += 1
            self.clock += 1
            full = self.over.nonzero()[0]
            source = int(full[int(pick * len(full))])
            inside = self._inside(source)
            if len(inside) > sample:
                first = int(turn * len(inside))
                inside = np.concatenate([inside[len(inside) - first :], inside])[:sample]
            among = slice(start, start + window)
            total += self._move(source, inside, among, total - best, TENURE + int(tenure * TENURE))
            if total < best:
                best, last = total, made + patience
        return made

    @property
    def done(self) -> bool:
        """True when no server is overfull."""
        return not self.over.any()

    @property
    def seats(self) -> Ints:
        """The server of each item."""
        return self.home[self.column]

    def _move(
        self, source: int, inside: NDArray[np.intp], among: slice, slack: int, tenure: int
    ) -> int:
        """Make the best exchange of one of the items with one of the columns; return the gain."""
        home, one = self.home[among], self.one[among]
        weight = self.width[:, inside]
        last = self.table.shape[2] - 1
        top = np.maximum(self.others[inside][:, None], self.rank[among])
        limit = self.table[self.gpus[source]][top, np.minimum(self.count[source] - one, last)]
        excess = self.width[:, None, among] + (self.load[:, source][:, None] - weight)[:, :, None]
        excess -= limit
        np.maximum(excess, 0, out=excess)
        change = excess.sum(axis=0, dtype=self.kind).astype(np.int64)
        top = np.maximum(self.rank[inside][:, None], self.others[among])
        limit = self.table[self.gpus[home], top, np.minimum(self.count[home] + one, last)]
        np.add(self.without[:, None, among], weight[:, :, None], out=excess)
        excess -= limit
        np.maximum(excess, 0, out=excess)
        change += excess.sum(axis=0, dtype=self.kind)
        change -= self.over[home] + self.over[source]
        cells = inside[:, None], home
        banned = self.tabu[cells] > self.clock
        banned |= self.tabu[among, source] > self.clock
        banned &= change > -1 - slack
        banned |= self.met[cells]
        banned |= self.met[among, source]
        banned |= home == source
        change[banned] = FAR
        row, other = divmod(int(change.argmin()), change.shape[1])
        gain = int(change[row, other])
        if gain >= FAR:
            return 0
        self._exchange(source, int(inside[row]), other + among.start, tenure)
        return gain

    def _exchange(self, source: int, item: int, other: int, tenure: int) -> None:
        target = int(self.home[other])
        shift = self.width[:, item] - self.width[:, other]
        self.load[:, source] -= shift
        self.load[:, target] += shift
        self._rehome(item, source, target, tenure)
        if self.real[other]:
            self._rehome(other, target, source, tenure)
        self._refresh(source)
        self._refresh(target)

    def _rehome(self, item: int, source: int, target: int, tenure: int) -> None:
        self.home[item] = target
        self.tabu[item, source] = self.clock + tenure
        for each in self.kin.get(item, ()):
            self.met[each, source] = False
            self.met[each, target] = True
