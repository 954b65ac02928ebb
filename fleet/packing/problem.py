"""Define the values of packing: instance and packing of servers, efforts."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

Effort = Literal["fast", "balanced", "proof"]
Status = Literal["optimal", "feasible"]
"""`optimal`: a packing costs no more than its lower bound."""

PRICE_UNIT = 10_000
"""Integer price of 1 $/h."""


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Devices that servers of several types share."""

    pool: Ints
    """Pools of devices that the types take from."""
    units: Ints
    """Units of the pool that a server of the types takes."""
    free: Ints
    """Units of the pools for all servers."""

    def left(self, gpus: Ints) -> Ints:
        """Return the units that servers of these types, in the last axis, leave in the pools."""
        pools = np.arange(len(self.free))
        units = self.units[gpus][..., None] * (self.pool[gpus][..., None] == pools)
        return np.asarray(self.free - units.sum(axis=-2))

    def without(self, gpus: Ints) -> "Stock":
        """Return the stock that servers of these types leave."""
        return replace(self, free=self.left(gpus))


MOST_TYPES = 1_000
"""Upper bound of the types of server in an instance without a stock."""
_NONE = np.zeros(MOST_TYPES, dtype=np.int64)
ENDLESS = Stock(_NONE, _NONE, _NONE[:1])
"""Servers of all types without end."""


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """Items of a base and the types of servers that may hold them.

    Law:
        load * (1 + spread * max(busy - 1, 0)) <= capacity, in every hour, where `busy` is the sum
        of the items' busy parts of the hour. Without `busy` the load alone counts.
    """

    loads: Ints
    """Loads of the items by hour, shape `(items, hours)`."""
    rank: Ints
    """Rank of the items, as an index into the capacity table."""
    owner: Ints
    """Adapter of the items; items of the same owner are on different servers."""
    capacity: Ints
    """Load that a server carries in any hour: `[type, highest rank index, number of items]`.

    More items than the last column are refused.
    """
    price: Ints
    """Prices of the types of server in `PRICE_UNIT`s."""
    busy: Reals | None = None
    """Parts of the hours in which the items are busy, shape `(items, hours)`."""
    spread: Reals = field(default_factory=lambda: np.zeros((1, 1)))
    """Slow-down by a further busy item: `[type, highest rank index]`."""
    stock: Stock = ENDLESS
    hastes: int = 1
    """Classes of haste: a rank's index is the rank times these, plus the haste. A server has the
    highest rank and the greatest haste of its items."""

    def top(self, ranks: Ints | int, other_ranks: Ints | int) -> Ints:
        """Return the indexes of servers that hold items of both."""
        if self.hastes == 1:
            return np.asarray(np.maximum(ranks, other_ranks))
        (rank, haste), (other, other_haste) = (
            np.divmod(pair, self.hastes) for pair in (ranks, other_ranks)
        )
        return np.asarray(np.maximum(rank, other) * self.hastes + np.maximum(haste, other_haste))

    def covers(self, tops: Ints | int, ranks: Ints | int) -> NDArray[np.bool_]:
        """Say whether servers of these indexes hold items of those."""
        return np.asarray(self.top(tops, ranks) == tops)

    def highest(self, ranks: Ints) -> int:
        """Return the index of a server with items of these ranks."""
        rank, haste = np.divmod(ranks, self.hastes)
        return int(rank.max(initial=0)) * self.hastes + int(haste.max(initial=0))

    @property
    def lowest(self) -> int:
        """An index that all servers cover."""
        return int(self.rank.min()) // self.hastes * self.hastes

    @property
    def most(self) -> int:
        """Upper bound of the items on a server."""
        return int(self.capacity.shape[2]) - 1

    @property
    def price_step(self) -> int:
        """Greatest common divisor of the prices: every sum of prices is a multiple."""
        return math.gcd(*self.price.tolist())

    def part(self, members: Ints) -> "Instance":
        """Return the instance of some of the items."""
        return replace(
            self,
            loads=self.loads[members],
            rank=self.rank[members],
            owner=self.owner[members],
            busy=None if self.busy is None else self.busy[members],
        )

    def strain(self, load: Ints, busy: Reals, gpus: Ints | int, rank: Ints | int) -> Ints | Reals:
        """Return the loads of servers by hour, slowed down by their busy items."""
        if self.busy is None:
            return load
        return np.asarray(load * (1 + self.spread[gpus, rank, None] * np.maximum(busy - 1, 0)))

    def copies(self) -> int:
        """Return the largest number of items of the same owner."""
        return int(np.unique(self.owner, return_counts=True)[1].max(initial=0))

    def fits(self, gpu: int, items: Ints) -> bool:
        """Say whether a server of a type holds these items."""
        number = len(items)
        if number > self.most or len(np.unique(self.owner[items])) < number:
            return False
        rank = self.highest(self.rank[items])
        busy = np.zeros(1) if self.busy is None else self.busy[items].sum(axis=0)
        load = self.strain(self.loads[items].sum(axis=0), busy, gpu, rank)
        return bool(load.max(initial=0) <= self.capacity[gpu, rank, number])

    def holding(self, items: Ints, first: int) -> Iterator[int]:
        """Yield the types of server that hold these items: a type first, then the cheapest."""
        types = np.argsort(self.price, kind="stable").tolist()
        return (gpu for gpu in [first, *types] if self.fits(gpu, items))


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Servers of an instance."""

    gpus: Ints
    """Types of the servers."""
    assignment: Ints
    """Servers of the items; -1: left out."""

    def price(self, instance: Instance) -> int:
        """Return the sum of the servers' prices."""
        return int(instance.price[self.gpus].sum())

    def busy(self, instance: Instance) -> Reals:
        """Return the sums of the busy parts of the servers' items, by hour."""
        busy = np.zeros((len(self.gpus), instance.loads.shape[1]))
        if instance.busy is not None:
            placed = self.assignment >= 0
            np.add.at(busy, self.assignment[placed], instance.busy[placed])
        return busy

    def totals(self, instance: Instance) -> tuple[Ints, Ints, Ints]:
        """Return load by hour, highest rank and number of items of the servers."""
        servers = len(self.gpus)
        placed = self.assignment >= 0
        homes = self.assignment[placed]
        load = np.zeros((servers, instance.loads.shape[1]), dtype=np.int64)
        np.add.at(load, homes, instance.loads[placed])
        rank, haste = np.zeros((2, servers), dtype=np.int64)
        parts = np.divmod(instance.rank, instance.hastes)
        for top, part in zip((rank, haste), parts, strict=True):
            np.maximum.at(top, homes, part[placed])
        return load, rank * instance.hastes + haste, np.bincount(homes, minlength=servers)
