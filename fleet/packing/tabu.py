"""Make an overfull packing feasible: tabu search over shifts and swaps that lowers overload.

All items stay assigned; the servers are given. A move takes an item out of an overfull server, to
another server or in exchange for an item there. All such exchanges are evaluated at once by arrays,
whose columns are the items and an empty item for each server: a shift is an exchange with the
latter.

`ServerTabu` takes the limit from a table, by type, highest rank and number of items of a server,
and keeps replicas apart; `SlowdownTabu` counts overload where items slow each other down.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.packing.problem import Instance, Ints, Rng

Columns = NDArray[np.intp]
TENURE = 12
"""Lower bound of the moves for which an item may not return to a server; the upper is double."""
SAMPLE = 24_000
"""Array elements compared in a move. Items of the server are left out where there would be more."""
WINDOW = 500
"""Upper bound of the columns that a move compares with."""
FAR = 1 << 60
"""Change of overload of an exchange that is forbidden."""
TOO_MANY = -100_000
"""Capacity beyond the table's last column."""
MARGIN = 1e-5
"""Part of a limit that rounding may take."""
NARROW = 1 << 29
"""Upper bound of sums that are kept in 32 bits: twice as much has to fit."""


class ServerTabu:
    """Servers of given types.

    Where columns are many, a move compares with some that are side by side, so columns are
    shuffled first.
    """

    def __init__(self, instance: Instance, gpus: Ints, assignment: Ints, rng: Rng) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        items, hours = instance.loads.shape
        columns = items + len(gpus)
        order = rng.permutation(columns) if columns > WINDOW else np.arange(columns)
        large = max(
            int(np.abs(instance.loads).sum()), hours * int(instance.capacity.max(initial=0))
        )
        self.kind = np.int32 if large < NARROW else np.int64
        self.column = order[:items]
        """Columns of the items; the others are the servers' empty items."""
        self.real = np.zeros(columns, dtype=bool)
        self.real[self.column] = True
        self.width = np.zeros((hours, columns), dtype=self.kind)
        self.width[:, self.column] = instance.loads.T
        self.home = np.empty(columns, dtype=np.int64)
        self.home[order] = np.concatenate([assignment, np.arange(len(gpus))])
        self.load = np.zeros((hours, len(gpus)), dtype=self.kind)
        np.add.at(self.load.T, assignment, instance.loads.astype(self.kind))
        self.tabu = np.zeros((columns, len(gpus)), dtype=np.int32)
        self.clock = 0
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

    def _weigh(self, limit: Ints) -> None:
        self.without = self.load[:, self.home] - self.width
        """Load of a column's server without the column."""
        self.over = np.maximum(self.load - limit, 0).sum(axis=0, dtype=np.int64)
        self.best = int(self.over.sum())

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

    @property
    def done(self) -> bool:
        """True when no server is overfull."""
        return not self.over.any()

    @property
    def assignment(self) -> Ints:
        """Servers of the items."""
        return self.home[self.column]

    def run(self, moves: int, patience: int, rng: Rng) -> int:
        """Search until `patience` moves bring no progress; return the moves made. See `done`."""
        hours, columns = self.width.shape
        window = min(columns, WINDOW)
        sample = max(1, SAMPLE // max(1, hours * window))
        total = int(self.over.sum())
        count, last = 0, patience
        while total > 0 and count < min(last, moves):
            pick, turn, longer = rng.random(3).tolist()
            start = int(rng.integers(columns - window + 1)) if columns > window else 0
            count += 1
            self.clock += 1
            full = self.over.nonzero()[0]
            source = int(full[int(pick * len(full))])
            inside = np.flatnonzero((self.home == source) & self.real)
            if len(inside) > sample:
                last_ones = inside[len(inside) - int(turn * len(inside)) :]
                inside = np.concatenate([last_ones, inside])[:sample]
            among = slice(start, start + window)
            self._move(source, inside, among, total - self.best, TENURE + int(longer * TENURE))
            total = int(self.over.sum())
            if total < self.best:
                self.best, last = total, count + patience
        return count

    def _move(self, source: int, inside: Columns, among: slice, slack: int, tenure: int) -> None:
        """Make the best exchange of an item with a column."""
        home = self.home[among]
        weight = self.width[:, inside]
        source_limit, home_limit = self._limits(source, inside, among)
        excess = self.width[:, None, among] + (self.load[:, source][:, None] - weight)[:, :, None]
        change = self._overload(excess, source_limit)
        np.add(self.without[:, None, among], weight[:, :, None], out=excess)
        change += self._overload(excess, home_limit)
        change -= self.over[home] + self.over[source]
        cells = inside[:, None], home
        banned = self.tabu[cells] > self.clock
        banned |= self.tabu[among, source] > self.clock
        banned &= change > -1 - slack
        banned |= home == source
        banned |= self.met[cells]
        banned |= self.met[among, source]
        change[banned] = FAR
        row, other = divmod(int(change.argmin()), change.shape[1])
        if int(change[row, other]) < FAR:
            self._exchange(source, int(inside[row]), other + among.start, tenure)

    def _overload(self, load: Ints, limit: Ints) -> Ints:
        load -= limit
        np.maximum(load, 0, out=load)
        return np.asarray(load.sum(axis=0, dtype=self.kind), dtype=np.int64)

    def _limits(self, source: int, inside: Columns, among: slice) -> tuple[Ints, Ints]:
        """Return the limits of both servers after the exchanges."""
        home, is_item, last = self.home[among], self.one[among], self.table.shape[2] - 1
        top = self.top(self.others[inside][:, None], self.rank[among])
        source_limit = self.table[self.gpus[source]][
            top, np.minimum(self.count[source] - is_item, last)
        ]
        top = self.top(self.rank[inside][:, None], self.others[among])
        home_limit = self.table[self.gpus[home], top, np.minimum(self.count[home] + is_item, last)]
        return source_limit, home_limit

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
        for replica in self.replicas.get(item, ()):
            self.met[replica, source] = False
            self.met[replica, target] = True

    def _refresh(self, server: int) -> None:
        inside = np.flatnonzero(self.home == server)
        load = self.load[:, server]
        self.without[:, inside] = load[:, None] - self.width[:, inside]
        limit = self._limit(server, inside)
        self.over[server] = int(np.maximum(load - limit, 0).sum(dtype=np.int64))

    def _limit(self, server: int, inside: Columns) -> float:
        """Count a server's items and ranks again; return the load that the server may carry."""
        self.count[server] = len(inside) - 1
        ranks = self.rank[inside]
        if self.hastes == 1:
            self.others[inside], top = _largest(ranks)
        else:
            (largest, rank), (hasty, haste) = map(_largest, np.divmod(ranks, self.hastes))
            self.others[inside] = largest * self.hastes + hasty
            top = rank * self.hastes + haste
        last = min(len(inside), self.table.shape[2]) - 1
        return float(self.table[self.gpus[server], top, last])


def _largest(numbers: Ints) -> tuple[Ints, int]:
    """Return the largest of the other numbers, by number, and the largest of all; at least 0."""
    top = int(numbers.max())
    at_top = numbers == top
    only = np.count_nonzero(at_top) == 1
    below = int(numbers[~at_top].max(initial=0)) if only else top
    return np.where(at_top, below, top), top


class SlowdownTabu(ServerTabu):
    """Servers of given types, by loads and busy parts.

    A move is chosen by loads alone, and overload is counted by the law. Loads are single floats
    here, so limits are a little lower than declared; who takes a result checks it by
    `Instance.fits` or `downgraded`.
    """

    def __init__(self, instance: Instance, gpus: Ints, assignment: Ints, rng: Rng) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        assert instance.busy is not None
        types, ranks = instance.capacity.shape[:2]
        spread = np.broadcast_to(instance.spread, (types, ranks)).astype(np.float32)
        self.pace = spread
        self.items_busy = instance.busy
        super().__init__(instance, gpus, assignment, rng)

    def _weigh(self, limit: Ints) -> None:
        """Weigh the servers by the law of `Instance`."""
        del limit
        self.width, self.load = self.width.astype(np.float32), self.load.astype(np.float32)
        self.table = self.table.astype(np.float32) * np.float32(1 - MARGIN)
        self.busy = np.zeros_like(self.width)
        self.busy[:, self.column] = self.items_busy.T
        self.without = np.zeros_like(self.width)
        self.over = np.zeros(len(self.gpus), dtype=np.int64)
        for server in range(len(self.gpus)):
            self._refresh(server)
        self.best = int(self.over.sum())

    def _strained(self, load: Any, slowing: Any, pace: Any, limit: Any) -> Ints:
        """Return the overload by the busy parts less 1; the arrays are used up."""
        np.maximum(slowing, 0, out=slowing)
        slowing *= pace
        slowing += 1
        load *= slowing
        load -= limit
        np.maximum(load, 0, out=load)
        return np.asarray(np.ceil(load.sum(axis=0)), dtype=np.int64)

    def _refresh(self, server: int) -> None:
        inside = np.flatnonzero(self.home == server)
        width = self.width[:, inside]
        load, slowing = width.sum(axis=1), self.busy[:, inside].sum(axis=1) - 1
        self.load[:, server] = load
        self.without[:, inside] = load[:, None] - width
        limit = self._limit(server, inside)
        pace = self.pace[self.gpus[server], self.highest(self.rank[inside])]
        self.over[server] = int(self._strained(load, slowing, pace, limit))
