"""Bound the price of whole servers of several bases that share devices: mixed-integer programs.

For a base, variables count the servers of every configuration, and tell the part of an owner's
items on them. The rows of `configurations` hold for the servers of a configuration together.
Numbers of servers are whole; parts of items need not be. Where the items of an owner are divisible,
a number of copies is chosen, of which no two are on a server.

A price vector gives a cut: the servers of the base cost no less than its bound by these prices. A
last program has the cuts of all bases and the stock. If the cheapest servers by the given prices
are more than a pool has, cuts with higher prices for that pool are added.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import ceil, gcd
from typing import NamedTuple

import numpy as np

from fleet.packing.bounds import (
    Configuration,
    configurations,
    dual_feasible,
    slopes_of,
)
from fleet.packing.problem import Instance, Ints, Mask, Reals
from fleet.packing.solver import INFINITE, GrowingProgram, Program, available

NUMBERS = 6
"""Numbers of copies that are told apart, from the least that servers can carry."""
NODES, LAST_NODES = 60, 5_000
"""Upper bounds of the branch-and-bound nodes of a cut, and of the last program."""
CELLS = 12_000
"""Upper bound of configurations times owners, in sum; more: no bound."""
SURCHARGE = 0.3
"""Part of the price by which cuts raise the types of an overdrawn pool."""
ADDED = 3
"""Upper bound of the rows that are added for a configuration at a time."""
TOLERANCE = 1e-6
ROUNDING = 1e-4
"""Part of a price step by which the solver may be wrong."""


class PricedBase(NamedTuple):
    """Items of a base with the types of servers that may hold them."""

    instance: Instance
    """All instances have the pools of the same stock."""
    divisible: Mask
    """Items whose load may be shared by more items than these."""
    floor: int
    """Lower bound of the price that is known."""


class Copies(NamedTuple):
    """A number of equal items of an owner, no two on a server."""

    owner: int
    number: int
    exact: bool
    """False: as many or more."""
    rank: int
    load: Ints
    """Load of all copies together, by hour."""
    busy: Reals
    """Busy parts of a single copy, by hour."""


def whole_servers_bound(bases: Sequence[PricedBase]) -> int:
    """Return a lower bound of the price of all bases; 0 for large bases or without HiGHS."""
    cells = sum(
        len(configurations(base.instance)) * len(np.unique(base.instance.owner)) for base in bases
    )
    if not bases or cells > CELLS or not available():
        return 0
    return StockProgram(bases).bound()


class StockProgram:
    """The program of all bases: servers by type, cuts, and pools that would be overdrawn."""

    def __init__(self, bases: Sequence[PricedBase]) -> None:
        """Find the cuts by the given prices."""
        self.stock = bases[0].instance.stock
        self.step = gcd(*(base.instance.price_step for base in bases))
        self.program = Program()
        self.pools: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self.bases: list[tuple[Instance, ServerProgram, list[int]]] = []
        for instance, divisible, floor in bases:
            prices = instance.price // self.step
            types = [self.program.variable(cost=float(price), upper=INFINITE) for price in prices]
            for gpu, column in enumerate(types):
                units = float(instance.stock.units[gpu])
                self.pools[int(instance.stock.pool[gpu])].append((column, units))
            servers = ServerProgram(instance, divisible)
            self.bases.append((instance, servers, types))
            self._cut(types, prices, max(servers.cut(prices), -(-floor // self.step)))

    def _cut(self, types: list[int], prices: Ints, least: int) -> None:
        terms = zip(types, prices.astype(float).tolist(), strict=True)
        self.program.row(list(terms), float(least))

    def bound(self) -> int:
        """Return a lower bound, after cuts for the pools that the cheapest servers overdraw."""
        values = self.program.solve(LAST_NODES).values
        if values is None:
            return 0
        for pool, terms in self.pools.items():
            taken = sum(units * round(float(values[column])) for column, units in terms)
            if taken > self.stock.free[pool]:
                self._add_cuts(pool)
        for pool, terms in self.pools.items():
            self.program.row(terms, high=float(self.stock.free[pool]))
        found = self.program.solve(LAST_NODES).bound
        return ceil(found - ROUNDING) * self.step if np.isfinite(found) else 0

    def _add_cuts(self, pool: int) -> None:
        """Add cuts by prices at which fewer servers take from a pool."""
        for instance, servers, types in self.bases:
            prices = instance.price // self.step
            inside = instance.stock.pool[: len(prices)] == pool
            surcharge = np.maximum(np.rint(prices * SURCHARGE), 1).astype(np.int64)
            if inside.any():
                prices = prices + np.where(inside, surcharge, 0)
                self._cut(types, prices, servers.cut(prices))


class ServerProgram:
    """The program of a base; rows of hours are added when a solution breaks them."""

    def __init__(self, instance: Instance, divisible: Mask) -> None:
        """Set up the variables: servers by type and by configuration, parts, numbers of copies."""
        self.kinds = configurations(instance)
        copies = list(_copies(instance, divisible))
        rows, open_to = _rows(instance, self.kinds, copies)
        held = np.flatnonzero(open_to.any(axis=0))
        self.copies = [copies[index] for index in held.tolist()]
        self.rows, self.open_to = rows[:, held], open_to[:, held]
        self.types = len(instance.price)
        self.first = self.types + len(self.kinds)
        self.part = np.full(self.open_to.shape, -1)
        self.part[self.open_to] = np.arange(int(self.open_to.sum())) + self.first
        self.program = GrowingProgram(self.first + int(self.open_to.sum()) + len(self.copies))
        self.added = np.zeros((len(self.kinds), self.rows.shape[2]), dtype=bool)
        self._add_servers()
        self._add_copies()

    def _add_servers(self) -> None:
        gpus = np.array([kind.gpu for kind in self.kinds])
        for gpu in range(self.types):
            inside = np.flatnonzero(gpus == gpu) + self.types
            values = np.append(1.0, np.full(len(inside), -1.0))
            self.program.row(np.append(gpu, inside), values, 0.0, 0.0)

    def _add_copies(self) -> None:
        """Add rows: a number of copies is chosen, all have places, and no two on a server."""
        chosen = self.first + int(self.open_to.sum()) + np.arange(len(self.copies))
        self.whole = np.append(np.arange(self.first), chosen)
        owners = np.array([own.owner for own in self.copies])
        for owner in np.unique(owners):
            inside = chosen[owners == owner]
            self.program.row(inside, np.ones(len(inside)), 1.0, 1.0)
        for index, own in enumerate(self.copies):
            there = np.flatnonzero(self.open_to[:, index])
            parts, values = self.part[there, index], np.append(np.ones(len(there)), -1.0)
            self.program.row(np.append(parts, chosen[index]), values, 0.0)
            if own.number > 1:
                for kind, part in zip(there.tolist(), parts.tolist(), strict=True):
                    apart = np.array([1.0, -own.number])
                    self.program.row(np.array([self.types + kind, part]), apart, 0.0)
                apart = np.append(np.ones(self.types), -own.number)
                self.program.row(np.append(np.arange(self.types), chosen[index]), apart, 0.0)

    def cut(self, prices: Ints) -> int:
        """Return a lower bound of the servers' price, by these prices of the types."""
        self.program.price(prices.astype(float))
        parts = np.zeros(self.open_to.shape)
        while True:
            found = self.program.relaxed()
            parts[self.open_to] = found[self.part[self.open_to]]
            servers = found[self.types : self.first]
            over = np.einsum("kc,kcr->kr", parts, self.rows) - servers[:, None]
            over[self.added] = 0
            worst = np.argsort(-over, axis=1, kind="stable")[:, :ADDED]
            broken = np.take_along_axis(over, worst, axis=1) > TOLERANCE
            if not broken.any():
                return ceil(self.program.bound(self.whole, NODES) - ROUNDING)
            for kind, place in np.argwhere(broken).tolist():
                row = worst[kind, place]
                self.added[kind, row] = True
                inside = np.flatnonzero(self.open_to[kind] & (self.rows[kind, :, row] > 0))
                columns = np.append(self.types + kind, self.part[kind, inside])
                values = np.append(1.0, -self.rows[kind, inside, row])
                self.program.row(columns, values, 0.0)


def _copies(instance: Instance, divisible: Mask) -> Iterator[Copies]:
    assert instance.busy is not None
    alone = instance.capacity[:, :, 1].max(axis=0)
    for owner in np.unique(instance.owner).tolist():
        mine = np.flatnonzero(instance.owner == owner)
        rank, number = int(instance.rank[mine[0]]), len(mine)
        load, busy = instance.loads[mine].sum(axis=0), instance.busy[mine].min(axis=0)
        if not divisible[mine].any():
            yield Copies(owner, number, True, rank, load, busy)
            continue
        most = int(alone[instance.covers(np.arange(len(alone)), rank)].max())
        number = max(number, -(-int(load.max()) // max(most, 1)))
        for more in range(NUMBERS):
            yield Copies(owner, number + more, True, rank, load, busy)
        yield Copies(owner, number + NUMBERS, False, rank, load, busy)


def _rows(
    instance: Instance, kinds: list[Configuration], copies: list[Copies]
) -> tuple[Reals, Mask]:
    """Return the parts of rows that all copies take, by configuration, and where copies may be."""
    number = np.array([own.number for own in copies])[:, None]
    exact = np.array([own.exact for own in copies])[:, None]
    load = np.array([own.load for own in copies])
    busy = np.array([own.busy for own in copies]) * number
    limit = np.array([kind.limit for kind in kinds])[:, None, None]
    slope = slopes_of(instance, kinds)[:, None, :]
    copy = load // number
    rows = [(np.where(exact, copy * number, load) + slope * busy) / (limit + slope)]
    rows += [np.where(exact, number * dual, 0.0) for dual in dual_feasible(copy / limit)]
    rows.append(number / np.array([kind.most for kind in kinds])[:, None, None])
    fits = ~exact[:, 0] | (copy.max(axis=1) <= limit[:, :, 0])
    ranks = np.array([own.rank for own in copies])
    ranked = instance.covers(np.array([kind.rank for kind in kinds])[:, None], ranks)
    return np.concatenate(rows, axis=2), fits & ranked
