"""What is packed: the adapters of one base, and what each type of server can carry."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

PRICE_UNIT = 10_000
"""Prices are dollars an hour times this, as integers."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Replicas of adapters of one base."""

    loads: Ints
    """Load of each item in each hour, shape `(items, hours)`."""
    rank: Ints
    """Index of each item's rank in the capacity table."""
    owner: Ints
    """Adapter of each item; items of one owner are kept apart."""
    capacity: Ints
    """Load that a server carries in any hour: `[gpu, highest rank index, adapters]`.

    More adapters than the last column are refused.
    """
    price: Ints
    """Price of each GPU type in `PRICE_UNIT`s."""

    @property
    def most(self) -> int:
        """The most adapters that any server may hold."""
        return int(self.capacity.shape[2]) - 1

    def part(self, members: Ints) -> "Group":
        """Return a group of some of the items."""
        return Group(
            self.loads[members],
            self.rank[members],
            self.owner[members],
            self.capacity,
            self.price,
        )

    def limit(self, gpu: int, items: Ints) -> int:
        """Return what one server with these items carries in each hour; -1 if too many."""
        if len(items) > self.most:
            return -1
        return int(self.capacity[gpu, int(self.rank[items].max(initial=0)), len(items)])

    def fits(self, gpu: int, items: Ints) -> bool:
        """Say whether one server can hold these items."""
        if len(np.unique(self.owner[items])) < len(items):
            return False
        busiest = int(self.loads[items].sum(axis=0).max(initial=0))
        return busiest <= self.limit(gpu, items)

    def cheapest(self, items: Ints) -> int | None:
        """Return the cheapest GPU type that can hold these items alone; None if none can."""
        for gpu in np.argsort(self.price, kind="stable").tolist():
            if self.fits(gpu, items):
                return int(gpu)
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Rack:
    """Servers of one group: their GPU types, and the server of each item."""

    gpus: Ints
    home: Ints

    def price(self, group: Group) -> int:
        """Return the sum of the servers' prices."""
        return int(group.price[self.gpus].sum())
