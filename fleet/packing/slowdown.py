"""Repair servers whose items slow down others: the tabu search by the law of `Instance`.

Loads are single floats here, so limits are a little lower than declared; who takes a result checks
it by `Instance.fits` or `downgraded`.
"""

from typing import Any

import numpy as np

from fleet.packing.problem import Instance, Ints, Rng
from fleet.packing.tabu import Columns, ServerTabu

MARGIN = 1e-5
"""Part of a limit that rounding may take."""


class SlowdownTabu(ServerTabu):
    """Servers of given types, by loads and busy parts."""

    def __init__(self, instance: Instance, gpus: Ints, assignment: Ints, rng: Rng) -> None:
        """Take an assignment that may overfill servers but keeps replicas apart."""
        assert instance.busy is not None
        types, ranks = instance.capacity.shape[:2]
        spread = np.broadcast_to(instance.spread, (types, ranks)).astype(np.float32)
        self.pace = spread
        self.even = bool((spread == spread[0, 0]).all())
        """True where all servers are slowed down alike."""
        self.items_busy = instance.busy
        super().__init__(instance, gpus, assignment, rng)

    def _weigh(self, limit: Ints | int) -> None:
        """Weigh the servers; the busy parts on a server are kept less 1."""
        del limit
        self.width, self.load = self.width.astype(np.float32), self.load.astype(np.float32)
        self.table = self.table.astype(np.float32) * np.float32(1 - MARGIN)
        self.busy = np.zeros_like(self.width)
        self.busy[:, self.column] = self.items_busy.T
        self.crowd = np.zeros_like(self.load)
        self.without = np.zeros_like(self.width)
        self.fewer = np.zeros_like(self.width)
        """Busy parts on a column's server without the column, less 1."""
        self.over = np.zeros(len(self.gpus), dtype=np.int64)
        for server in range(len(self.gpus)):
            self._refresh(server)
        self.best = int(self.over.sum())

    def _after(self, source: int, inside: Columns, among: slice) -> Ints:
        weight, busy = self.width[:, inside], self.busy[:, inside]
        here, there = self._limits(source, inside, among)
        home = self.home[among]
        load = self.width[:, None, among] + (self.load[:, source, None] - weight)[:, :, None]
        crowd = self.busy[:, None, among] + (self.crowd[:, source, None] - busy)[:, :, None]
        pace = self.pace[0, 0]
        if not self.even:
            top = self.top(self.others[inside][:, None], self.rank[among])
            pace = self.pace[self.gpus[source]][top]
        change = self._strained(load, crowd, pace, here)
        np.add(self.without[:, None, among], weight[:, :, None], out=load)
        np.add(self.fewer[:, None, among], busy[:, :, None], out=crowd)
        if not self.even:
            top = self.top(self.rank[inside][:, None], self.others[among])
            pace = self.pace[self.gpus[home], top]
        return change + self._strained(load, crowd, pace, there)

    def _strained(self, load: Any, crowd: Any, pace: Any, limit: Any) -> Ints:
        """Return the overload; the arrays are used up."""
        np.maximum(crowd, 0, out=crowd)
        crowd *= pace
        crowd += 1
        load *= crowd
        load -= limit
        np.maximum(load, 0, out=load)
        return np.asarray(np.ceil(load.sum(axis=0)), dtype=np.int64)

    def _exchange(self, source: int, item: int, other: int, tenure: int) -> None:
        target = int(self.home[other])
        self._rehome(item, source, target, tenure)
        if self.real[other]:
            self._rehome(other, target, source, tenure)
        self._refresh(source)
        self._refresh(target)

    def _refresh(self, bin_: int) -> None:
        inside = np.flatnonzero(self.home == bin_)
        width, busy = self.width[:, inside], self.busy[:, inside]
        load, crowd = width.sum(axis=1), busy.sum(axis=1) - 1
        self.load[:, bin_], self.crowd[:, bin_] = load, crowd
        self.without[:, inside] = load[:, None] - width
        self.fewer[:, inside] = crowd[:, None] - busy
        limit = self._limit(bin_, inside)
        pace = self.pace[self.gpus[bin_], self.highest(self.rank[inside])]
        self.over[bin_] = int(self._strained(load, crowd, pace, limit))
