"""Define the values of packing: instance and packing of servers, bins, efforts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
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
class Instance:
    """Items of a base and the types of servers that may hold them."""

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
        return Instance(
            self.loads[members], self.rank[members], self.owner[members], self.capacity, self.price
        )

    def copies(self) -> int:
        """Return the largest number of items of the same owner."""
        return int(np.unique(self.owner, return_counts=True)[1].max(initial=0))

    def fits(self, gpu: int, items: Ints) -> bool:
        """Say whether a server of a type holds these items."""
        number = len(items)
        if number > self.most or len(np.unique(self.owner[items])) < number:
            return False
        limit = self.capacity[gpu, int(self.rank[items].max(initial=0)), number]
        return bool(self.loads[items].sum(axis=0).max(initial=0) <= limit)

    def cheapest(self, items: Ints) -> int | None:
        """Return the cheapest type of server that holds these items; None if no type does."""
        types = np.argsort(self.price, kind="stable").tolist()
        return next((gpu for gpu in types if self.fits(gpu, items)), None)


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Servers of an instance."""

    gpus: Ints
    """Types of the servers."""
    assignment: Ints
    """Servers of the items."""

    def price(self, instance: Instance) -> int:
        """Return the sum of the servers' prices."""
        return int(instance.price[self.gpus].sum())

    def totals(self, instance: Instance) -> tuple[Ints, Ints, Ints]:
        """Return load by hour, highest rank and number of items of the servers."""
        servers = len(self.gpus)
        load = np.zeros((servers, instance.loads.shape[1]), dtype=np.int64)
        np.add.at(load, self.assignment, instance.loads)
        rank = np.zeros(servers, dtype=np.int64)
        np.maximum.at(rank, self.assignment, instance.rank)
        return load, rank, np.bincount(self.assignment, minlength=servers)


@dataclass(frozen=True, slots=True)
class BinPacking:
    """Items in bins, and the cost of bins and set-ups; equal bins cost 1."""

    bins: tuple[tuple[int, ...], ...]
    """Items of the bins."""
    cost: int
    bound: int
    """Lower bound of the cost."""

    @property
    def status(self) -> Status:
        """Say whether the packing is proved to be the cheapest."""
        return "optimal" if self.cost == self.bound else "feasible"


def bins_of(assignment: Iterable[int], items: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Return the items of the bins, sorted, from the bins of the items."""
    bins: dict[int, list[int]] = {}
    for bin_, item in zip(assignment, items, strict=True):
        bins.setdefault(bin_, []).append(item)
    return tuple(sorted(tuple(sorted(members)) for members in bins.values()))
