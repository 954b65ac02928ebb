"""Make overfull servers of given types feasible: tabu search over shifts and swaps.

As in `vectors.repair`, with capacities that follow the highest rank and the number of adapters.
"""

import numpy as np
from numpy.typing import NDArray

from fleet.placement.mixed.group import Group, Ints

TENURE = 12
SAMPLE = 24_000
"""Array elements looked at in one move."""
FAR = 1 << 60
TOO_MANY = -100_000
"""Capacity beyond the table's last column."""


class MixedRepair:
    """Servers under repair."""

    def __init__(self, group: Group, gpus: Ints, home: Ints) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        self.items, hours = group.loads.shape
        bins = len(gpus)
        ghosts = np.arange(bins)
        types, ranks, _ = group.capacity.shape
        large = max(int(group.loads.sum()), hours * int(group.capacity.max(initial=0)))
        kind = np.int32 if large < 1 << 30 else np.int64
        # A last rank row for empty servers, and two columns beyond the table.
        self.table = np.full((types, ranks + 1, group.most + 3), TOO_MANY, dtype=kind)
        self.table[:, 1:, : group.most + 1] = group.capacity
        self.table[:, 0, : group.most + 1] = group.capacity[:, 0]
        self.gpus = gpus
        self.rank = np.concatenate([group.rank + 1, np.zeros(bins, dtype=np.int64)])
        self.width = np.zeros((hours, self.items + bins), dtype=kind)
        self.width[:, : self.items] = group.loads.T
        self.home = np.concatenate([home, ghosts])
        self.one = np.concatenate([np.zeros(self.items, dtype=np.int64), np.ones_like(ghosts)])
        self.load = np.zeros((hours, bins), dtype=kind)
        np.add.at(self.load.T, home, group.loads.astype(kind))
        self.count = np.bincount(home, minlength=bins)
        self.over = np.zeros(bins, dtype=np.int64)
        self.without = np.empty_like(self.width)
        self.others = np.zeros_like(self.rank)
        """Highest rank on the item's server apart from the item."""
        self.tabu = np.zeros((self.items + bins, bins), dtype=np.int64)
        self.clock = 0
        self.kin: list[list[int]] = [[] for _ in range(self.items)]
        self.met = np.zeros((self.items + bins, bins), dtype=bool)
        """Whether the server holds another replica of the item."""
        owners: dict[int, list[int]] = {}
        for item, owner in enumerate(group.owner.tolist()):
            owners.setdefault(owner, []).append(item)
        for members in owners.values():
            for item in members:
                self.kin[item] = [each for each in members if each != item]
                for each in self.kin[item]:
                    self.met[item, home[each]] = True
        for each in range(bins):
            self._refresh(each)

    def _refresh(self, bin_: int) -> None:
        inside = (self.home[: self.items] == bin_).nonzero()[0]
        self.count[bin_] = len(inside)
        ranks = self.rank[inside]
        ghost = self.items + bin_
        top = int(ranks.max(initial=0))
        self.others[ghost] = top
        self.without[:, ghost] = self.load[:, bin_]
        if len(inside):
            self.without[:, inside] = self.load[:, bin_][:, None] - self.width[:, inside]
            at_top = ranks == top
            if int(at_top.sum()) == 1:
                below = int(ranks[~at_top].max(initial=0))
                self.others[inside] = np.where(at_top, below, top)
            else:
                self.others[inside] = top
        limit = int(self.table[self.gpus[bin_], top, min(len(inside), self.table.shape[2] - 1)])
        self.over[bin_] = int(np.maximum(self.load[:, bin_] - limit, 0).sum())

    def run(self, moves: int, patience: int, chance: np.random.Generator) -> int:
        """Search until so many moves bring no progress; return how many were made.

        Nothing is overfull when `done` says so.
        """
        total = int(self.over.sum())
        best = total
        last = patience
        sample = max(1, SAMPLE // max(1, self.width.size))
        made = 0
        while total > 0 and made < min(last, moves):
            pick, turn, tenure = chance.random(3).tolist()
            made += 1
            self.clock += 1
            full = self.over.nonzero()[0]
            source = int(full[int(pick * len(full))])
            inside = (self.home[: self.items] == source).nonzero()[0]
            if len(inside) > sample:
                inside = np.roll(inside, int(turn * len(inside)))[:sample]
            total += self._move(source, inside, total - best, TENURE + int(tenure * TENURE))
            if total < best:
                best, last = total, made + patience
        return made

    @property
    def done(self) -> bool:
        """True when no server is overfull."""
        return not self.over.any()

    def _move(self, source: int, inside: NDArray[np.intp], slack: int, tenure: int) -> int:
        home = self.home
        weight = self.width[:, inside]
        last = self.table.shape[2] - 1
        top = np.maximum(self.others[inside][:, None], self.rank)
        limit = self.table[self.gpus[source]][top, np.minimum(self.count[source] - self.one, last)]
        left = (self.load[:, source][:, None] - weight)[:, :, None]
        here = np.maximum(self.width[:, None, :] + left - limit, 0).sum(axis=0)
        top = np.maximum(self.rank[inside][:, None], self.others)
        count = np.minimum(self.count[home] + self.one, last)
        limit = self.table[self.gpus[home], top, count]
        there = np.maximum(self.without[:, None, :] + (weight[:, :, None] - limit), 0).sum(axis=0)
        change = here.astype(np.int64) + there
        change -= self.over[home]
        change -= self.over[source]
        banned = self.tabu[inside][:, home] > self.clock
        banned |= (self.tabu[:, source] > self.clock)[None, :]
        banned &= change > -1 - slack
        banned |= self.met[inside][:, home]
        banned |= self.met[:, source][None, :]
        banned |= (home == source)[None, :]
        change[banned] = FAR
        row, other = divmod(int(change.argmin()), change.shape[1])
        gain = int(change[row, other])
        if gain >= FAR:
            return 0
        self._exchange(source, int(inside[row]), other, tenure)
        return gain

    def _exchange(self, source: int, item: int, other: int, tenure: int) -> None:
        target = int(self.home[other])
        shift = self.width[:, item] - self.width[:, other]
        self.load[:, source] -= shift
        self.load[:, target] += shift
        self._rehome(item, source, target, tenure)
        if other < self.items:
            self._rehome(other, target, source, tenure)
        self._refresh(source)
        self._refresh(target)

    def _rehome(self, item: int, source: int, target: int, tenure: int) -> None:
        self.home[item] = target
        self.tabu[item, source] = self.clock + tenure
        for each in self.kin[item]:
            self.met[each, source] = False
            self.met[each, target] = True
