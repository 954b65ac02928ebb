"""Make an overfull packing feasible: tabu search over shifts and swaps that lowers overload.

All items stay assigned; the number of bins is given. A move takes an item out of an overfull bin,
to another bin or in exchange for an item there. All such exchanges are evaluated at once by arrays,
whose columns are the items and an empty item for each bin: a shift is an exchange with the latter.

`BinTabu` has a flat limit, the capacity; `ServerTabu` takes the limit from a table, by type,
highest rank and number of items of a server, and keeps replicas apart.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Instance, Ints, Rng

Columns = NDArray[np.intp]
Draw = tuple[float, float, float, slice]
"""Random numbers from 0 to 1 for the bin, its items and the tenure; the columns to compare."""
TENURES = (8, 20, 60, 120)
"""Lower bounds of the moves for which an item may not return to a bin; the upper is double.

`BinTabu` draws a tenure for every call of `run`: the best tenure differs by instance.
"""
SERVER_TENURE = 12
"""Same for `ServerTabu`."""
SAMPLE, SERVER_SAMPLE = 40_000, 24_000
"""Array elements compared in a move. Items of the bin are left out where there would be more."""
WINDOW = 500
"""Upper bound of the columns that a move of `ServerTabu` compares with."""
FAR = 1 << 60
"""Change of overload of an exchange that is forbidden."""
TOO_MANY = -100_000
"""Capacity beyond the table's last column."""
NARROW = 1 << 29
"""Upper bound of sums that are kept in 32 bits: twice as much has to fit."""


class _Tabu:
    """Part of the search that both limits share."""

    def __init__(self, sizes: Ints, assignment: Ints, bins: int, large: int, order: Ints) -> None:
        items, dimensions = sizes.shape
        self.kind = np.int32 if large < NARROW else np.int64
        self.column = order[:items]
        """Columns of the items; the others are the bins' empty items."""
        self.real = np.zeros(len(order), dtype=bool)
        self.real[self.column] = True
        self.width = np.zeros((dimensions, len(order)), dtype=self.kind)
        self.width[:, self.column] = sizes.T
        self.home = np.empty(len(order), dtype=np.int64)
        self.home[order] = np.concatenate([assignment, np.arange(bins)])
        self.load = np.zeros((dimensions, bins), dtype=self.kind)
        np.add.at(self.load.T, assignment, sizes.astype(self.kind))
        self.tabu = np.zeros((len(order), bins), dtype=np.int32)
        self.clock = 0

    def _weigh(self, limit: Ints | int) -> None:
        self.without = self.load[:, self.home] - self.width
        """Load of a column's bin without the column."""
        self.over = np.maximum(self.load - limit, 0).sum(axis=0, dtype=np.int64)
        self.best = int(self.over.sum())

    @property
    def done(self) -> bool:
        """True when no bin is overfull."""
        return not self.over.any()

    @property
    def assignment(self) -> Ints:
        """Bins of the items."""
        return self.home[self.column]

    def _search(
        self, draws: Iterator[Draw], moves: int, patience: int, sample: int, tenure: int
    ) -> int:
        """Move until `patience` moves bring no progress; return the number of moves."""
        total = int(self.over.sum())
        count, last = 0, patience
        while total > 0 and count < min(last, moves):
            pick, turn, longer, among = next(draws)
            count += 1
            self.clock += 1
            full = self.over.nonzero()[0]
            source = int(full[int(pick * len(full))])
            inside = np.flatnonzero((self.home == source) & self.real)
            if len(inside) > sample:
                last_ones = inside[len(inside) - int(turn * len(inside)) :]
                inside = np.concatenate([last_ones, inside])[:sample]
            slack = total - self.best
            self._move(source, inside, among, slack, tenure + int(longer * tenure))
            total = int(self.over.sum())
            if total < self.best:
                self.best, last = total, count + patience
        return count

    def _move(self, source: int, inside: Columns, among: slice, slack: int, tenure: int) -> None:
        """Make the best exchange of an item with a column."""
        home = self.home[among]
        weight = self.width[:, inside]
        here, there = self._limits(source, inside, among)
        excess = self.width[:, None, among] + (self.load[:, source][:, None] - weight)[:, :, None]
        change = self._overload(excess, here)
        np.add(self.without[:, None, among], weight[:, :, None], out=excess)
        change += self._overload(excess, there)
        change -= self.over[home] + self.over[source]
        cells = inside[:, None], home
        banned = self.tabu[cells] > self.clock
        banned |= self.tabu[among, source] > self.clock
        banned &= change > -1 - slack
        banned |= home == source
        self._forbid(banned, cells, source, among)
        change[banned] = FAR
        row, other = divmod(int(change.argmin()), change.shape[1])
        if int(change[row, other]) < FAR:
            self._exchange(source, int(inside[row]), other + among.start, tenure)

    def _after(self, source: int, inside: Columns, among: slice) -> Ints:
        """Return the overload of both bins after the exchanges."""
        weight = self.width[:, inside]
        here, there = self._limits(source, inside, among)
        excess = self.width[:, None, among] + (self.load[:, source][:, None] - weight)[:, :, None]
        change = self._overload(excess, here)
        np.add(self.without[:, None, among], weight[:, :, None], out=excess)
        return change + self._overload(excess, there)

    def _overload(self, load: Ints, limit: Ints | None) -> Ints:
        if limit is not None:
            load -= limit
        np.maximum(load, 0, out=load)
        return np.asarray(load.sum(axis=0, dtype=self.kind), dtype=np.int64)

    def _limits(
        self, source: int, inside: Columns, among: slice
    ) -> tuple[Ints | None, Ints | None]:
        """Return the limits of both bins after the exchanges; None for 0."""
        del source, inside, among
        return None, None

    def _forbid(
        self, banned: NDArray[np.bool_], cells: tuple[Columns, Ints], source: int, among: slice
    ) -> None:
        """Mark further exchanges that are forbidden."""

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

    def _refresh(self, bin_: int) -> None:
        inside = np.flatnonzero(self.home == bin_)
        load = self.load[:, bin_]
        self.without[:, inside] = load[:, None] - self.width[:, inside]
        limit = self._limit(bin_, inside)
        self.over[bin_] = int(np.maximum(load - limit, 0).sum(dtype=np.int64))

    def _limit(self, bin_: int, inside: Columns) -> float:
        """Return the limit of a bin with these columns."""
        del bin_, inside
        return 0


class BinTabu(_Tabu):
    """Equal bins, whose loads are kept less the capacity: the limit is 0."""

    def __init__(self, sizes: Ints, capacity: Ints, assignment: Ints, bins: int) -> None:
        """Take scaled sizes and an assignment to `bins` bins that may overfill them."""
        large = max(int(np.abs(sizes).sum()), int(capacity.sum()))
        super().__init__(sizes, assignment, bins, large, np.arange(len(sizes) + bins))
        self.load -= capacity[:, None].astype(self.kind)
        self._weigh(0)

    def run(self, moves: int, rng: Rng) -> int:
        """Search for at most `moves` moves; return the number of moves. See `done`."""
        drawn = iter(rng.random(3 * moves).tolist())
        tenure = TENURES[int(rng.integers(len(TENURES)))]
        whole = slice(0, len(self.home))
        draws = ((pick, next(drawn), next(drawn), whole) for pick in drawn)
        return self._search(draws, moves, moves, max(1, SAMPLE // max(1, self.width.size)), tenure)


class ServerTabu(_Tabu):
    """Servers of given types.

    Where columns are many, a move compares with some that are side by side, so columns are
    shuffled first.
    """

    def __init__(self, instance: Instance, gpus: Ints, assignment: Ints, rng: Rng) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        items, hours = instance.loads.shape
        columns = items + len(gpus)
        order = rng.permutation(columns) if columns > WINDOW else np.arange(columns)
        large = max(int(instance.loads.sum()), hours * int(instance.capacity.max(initial=0)))
        super().__init__(instance.loads, assignment, len(gpus), large, order)
        types, ranks, _ = instance.capacity.shape
        # Two columns beyond the table.
        self.table = np.full((types, ranks, instance.most + 3), TOO_MANY, dtype=self.kind)
        self.table[:, :, : instance.most + 1] = instance.capacity
        self.top, self.highest, self.hastes = instance.top, instance.highest, instance.hastes
        self.gpus = gpus
        self.one = (~self.real).astype(np.int64)
        self.rank = np.zeros(columns, dtype=np.int64)
        self.rank[self.column] = instance.rank
        self._separate(instance.owner)
        self.count = np.zeros(len(gpus), dtype=np.int64)
        self.others = np.zeros(columns, dtype=np.int64)
        """Highest rank on the column's server apart from the column."""
        inside = (np.flatnonzero(self.home == server) for server in range(len(gpus)))
        self._weigh(np.array([self._limit(*pair) for pair in enumerate(inside)]))

    def _separate(self, owner: Ints) -> None:
        """Note the replicas of the items, and the servers that hold them."""
        self.replicas: dict[int, list[int]] = {}
        self.met = np.zeros(self.tabu.shape, dtype=bool)
        _, inverse, times = np.unique(owner, return_inverse=True, return_counts=True)
        owners: dict[int, list[int]] = {}
        for item in (times[inverse] > 1).nonzero()[0].tolist():
            owners.setdefault(int(owner[item]), []).append(int(self.column[item]))
        for members in owners.values():
            for member in members:
                self.replicas[member] = [other for other in members if other != member]
                self.met[member, self.home[self.replicas[member]]] = True

    def run(self, moves: int, patience: int, rng: Rng) -> int:
        """Search until `patience` moves bring no progress; return the moves made. See `done`."""
        hours, columns = self.width.shape
        window = min(columns, WINDOW)

        def draws() -> Iterator[Draw]:
            while True:
                pick, turn, longer = rng.random(3).tolist()
                start = int(rng.integers(columns - window + 1)) if columns > window else 0
                yield pick, turn, longer, slice(start, start + window)

        sample = max(1, SERVER_SAMPLE // max(1, hours * window))
        return self._search(draws(), moves, patience, sample, SERVER_TENURE)

    def _limits(
        self, source: int, inside: Columns, among: slice
    ) -> tuple[Ints | None, Ints | None]:
        home, one, last = self.home[among], self.one[among], self.table.shape[2] - 1
        top = self.top(self.others[inside][:, None], self.rank[among])
        here = self.table[self.gpus[source]][top, np.minimum(self.count[source] - one, last)]
        top = self.top(self.rank[inside][:, None], self.others[among])
        there = self.table[self.gpus[home], top, np.minimum(self.count[home] + one, last)]
        return here, there

    def _forbid(
        self, banned: NDArray[np.bool_], cells: tuple[Columns, Ints], source: int, among: slice
    ) -> None:
        banned |= self.met[cells]
        banned |= self.met[among, source]

    def _rehome(self, item: int, source: int, target: int, tenure: int) -> None:
        super()._rehome(item, source, target, tenure)
        for replica in self.replicas.get(item, ()):
            self.met[replica, source] = False
            self.met[replica, target] = True

    def _limit(self, bin_: int, inside: Columns) -> float:
        """Count a server's items and ranks again; return the load that the server may carry."""
        self.count[bin_] = len(inside) - 1
        ranks = self.rank[inside]
        if self.hastes == 1:
            self.others[inside], top = _others(ranks)
        else:
            (others, rank), (hasty, haste) = map(_others, np.divmod(ranks, self.hastes))
            self.others[inside] = others * self.hastes + hasty
            top = rank * self.hastes + haste
        last = min(len(inside), self.table.shape[2]) - 1
        return float(self.table[self.gpus[bin_], top, last])


def _others(numbers: Ints) -> tuple[Ints, int]:
    """Return the largest of the other numbers, by number, and the largest of all; at least 0."""
    top = int(numbers.max())
    at_top = numbers == top
    only = np.count_nonzero(at_top) == 1
    below = int(numbers[~at_top].max(initial=0)) if only else top
    return np.where(at_top, below, top), top
