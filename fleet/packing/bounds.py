"""Bound the price of servers from below, by linear duality and by programs of whole servers.

`configuration_bound` is for items that are busy at times, over configurations. A configuration is a
type of server, a highest rank, and a range of numbers of items in which the capacity is the same.
For each configuration, rows hold for all items that a server may hold:

- in an hour, `load + slope * busy <= capacity + slope`: the chord over the law of `Instance`, up to
  the busy parts of the busiest items;
- in an hour, dual feasible functions of `load / capacity` sum to 1 at most (Fekete and Schepers
  2001): few items of over a half, a third or a quarter of the capacity go together;
- the items are `most` at most.

Weights of the rows that sum to 1 give an item its share of a server's price. No packing costs less
than the least shares of all items over the configurations. The weights are found by mirror ascent
on a sample of the items; any weights give a bound.

`whole_servers_bound` solves mixed-integer programs. For a base, variables count the servers of all
configurations, and tell the part of an owner's items on them. The rows of `configurations` hold for
the servers of a configuration together. Numbers of servers are whole; parts of items need not be.
Where the items of an owner are divisible, a number of copies is chosen, of which no two are on a
server. A price vector gives a cut: the servers of the base cost no less than its bound by these
prices. A last program has the cuts of all bases and the stock. If the cheapest servers by the given
prices are more than a pool has, cuts with higher prices for that pool are added.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import ceil, gcd
from typing import NamedTuple

import numpy as np

from fleet.packing.problem import Instance, Ints, Mask, Reals
from fleet.packing.solver import INFINITE, GrowingProgram, Program, available

DUALS = 200
"""Number of dual prices of an item that are tried."""
SUMS = 5_000
"""Upper bound of a price, in steps, for which all sums of prices are counted."""

SAMPLE = 300
"""Upper bound of the items for which weights are found, and of those that are summed at once."""
ASCENT_STEPS = 250
"""Number of steps of the ascent."""
STEP, STEP_HALF = 2.0, 30
"""Length of the first step, as an exponent; the step after which the length is a half."""
WARMTH, COOLING, LEAST_WARMTH = 0.3, 0.985, 0.01
"""Share of an item's price by which dearer configurations count too: at first, factor of a step, at
least."""
PARTS = (1, 2, 3)
"""Dual feasible functions: an item of over `1 / (part + 1)` counts as `1 / part`."""


def rounded(instance: Instance, price: float) -> int:
    """Round a lower bound up to a sum that prices can make."""
    step = instance.price_step
    least = ceil(price / step - 1e-6)
    prices = set((instance.price // step).tolist())
    if least > SUMS or 0 in prices:
        return least * step
    sums = [True]
    while not sums[least:] or not sums[-1]:
        sums.append(any(price_steps <= len(sums) and sums[-price_steps] for price_steps in prices))
    return (len(sums) - 1) * step


def lower_bound(instance: Instance) -> int:
    """Return a lower bound of the price of all servers, by linear duality.

    If an item costs `dual` and a unit of load in the busiest hour costs `unit`, and no server
    carries more than its own price's worth, then all servers cost at least the worth of all items
    and loads. Items of high rank need servers of that rank, so every rank gives a bound: that of
    the items of this rank and above.
    """
    best = 0.0
    counts = np.arange(instance.most + 1)
    for rank in np.unique(instance.rank).tolist():
        members = instance.covers(instance.rank, rank)
        number = int(members.sum())
        peak = int(instance.loads[members].sum(axis=0).max())
        table = instance.capacity[:, rank, :]
        usable = (table > 0) & (counts > 0)[None, :] & (counts <= len(instance.rank))[None, :]
        if not usable.any() or peak == 0:
            continue
        price = np.broadcast_to(instance.price[:, None], table.shape)[usable].astype(float)
        carried = table[usable].astype(float)
        items = np.broadcast_to(counts[None, :], table.shape)[usable].astype(float)
        if not (instance.loads[members].max(axis=1) > 0).all():
            number = 0  # an idle item may be on a server that carries nothing
        for dual in np.linspace(0.0, float((price / items).min()), DUALS).tolist():
            unit = float(((price - dual * items) / carried).min())
            best = max(best, dual * number + unit * peak)
    usable_alone = (instance.capacity[:, instance.lowest, 1:] > 0).any(axis=1)
    if usable_alone.any():
        best = max(best, instance.copies() * float(instance.price[usable_alone].min()))
    return rounded(instance, best)


class Configuration(NamedTuple):
    """Servers of a type that hold up to `most` items of up to a rank."""

    gpu: int
    rank: int
    most: int
    limit: int


def configuration_bound(instance: Instance, divisible: Mask) -> int:
    """Return a lower bound of the price by the law of an instance.

    A `divisible` item may be several items that share its load.
    """
    assert instance.busy is not None
    kinds = configurations(instance)
    number = len(instance.rank)
    if not kinds or not number:
        return 0
    slopes = slopes_of(instance, kinds)
    price = instance.price[[kind.gpu for kind in kinds]].astype(np.float64)
    order = np.lexsort((instance.loads.sum(axis=1), instance.rank))
    sample = order[:: -(-number // SAMPLE)]
    weights = _ascended(*_configuration_rows(instance, kinds, slopes, divisible, sample), price)
    total = 0.0
    for first in range(0, number, SAMPLE):
        rows, open_to = _configuration_rows(
            instance, kinds, slopes, divisible, order[first : first + SAMPLE]
        )
        least = _shares(rows, open_to, weights, price).min(axis=0)
        total += float(least[np.isfinite(least)].sum())
    return rounded(instance, total)


def configurations(instance: Instance) -> list[Configuration]:
    """Return the configurations of an instance."""
    types, ranks, _ = instance.capacity.shape
    configurations = []
    for gpu, rank in np.ndindex(types, ranks):
        table = instance.capacity[gpu, rank]
        last = np.append(table[1:] != table[:-1], values=True)
        configurations += [
            Configuration(gpu, rank, most, int(table[most]))
            for most in (last & (table > 0)).nonzero()[0].tolist()
            if most
        ]
    return configurations


def slopes_of(instance: Instance, kinds: list[Configuration]) -> Reals:
    """Return the slopes of the chords, by configuration and hour."""
    assert instance.busy is not None
    busiest = np.sort(instance.busy, axis=0)[::-1].cumsum(axis=0)
    slopes = np.zeros((len(kinds), busiest.shape[1]))
    for row, kind in enumerate(kinds):
        busy_neighbours = np.maximum(busiest[min(kind.most, len(busiest)) - 1] - 1, 0)
        spread = instance.spread[kind.gpu, kind.rank]
        slopes[row] = kind.limit * spread / (1 + spread * busy_neighbours)
    return slopes


def _configuration_rows(
    instance: Instance, kinds: list[Configuration], slopes: Reals, divisible: Mask, items: Ints
) -> tuple[Reals, Mask]:
    """Return the parts of rows that items take, by configuration, and where items may be."""
    assert instance.busy is not None
    loads, busy, is_divisible = instance.loads[items], instance.busy[items], divisible[items]
    rank, peak = instance.rank[items], loads.max(axis=1)
    limit = np.array([kind.limit for kind in kinds])[:, None, None]
    slope = slopes[:, None, :]
    part = loads[None] / limit
    rows = [(loads + slope * busy) / (limit + slope)]
    rows += [np.where(is_divisible[None, :, None], 0.0, dual) for dual in dual_feasible(part)]
    counted = np.array([1 / kind.most for kind in kinds])[:, None, None]
    rows.append(np.broadcast_to(counted, (len(kinds), len(items), 1)))
    fits = is_divisible[None] | (peak[None] <= limit[:, :, 0])
    ranked = instance.covers(np.array([kind.rank for kind in kinds])[:, None], rank[None])
    return np.concatenate(rows, axis=2), fits & ranked


def dual_feasible(part: Reals) -> Iterator[Reals]:
    """Yield values of items that sum to 1 at most where their parts of a limit do."""
    for times in PARTS:
        scaled = (times + 1) * part
        exact = scaled == np.floor(scaled)
        yield np.where(exact, part, np.floor(scaled) / times)


def _shares(rows: Reals, open_to: Mask, weights: Reals, price: Reals) -> Reals:
    """Return the shares of servers' prices, by configuration and item."""
    shares = price[:, None] * np.matmul(rows, weights[:, :, None])[:, :, 0]
    return np.where(open_to, shares, np.inf)


def _ascended(rows: Reals, open_to: Mask, price: Reals) -> Reals:
    """Return the weights of the rows, by configuration."""
    placeable = open_to.any(axis=0)
    rows, open_to = rows[:, placeable], open_to[:, placeable]
    weights = np.full((rows.shape[0], rows.shape[2]), 1 / rows.shape[2])
    best, warmth, best_weights = -1.0, WARMTH, weights
    for step in range(ASCENT_STEPS):
        shares = _shares(rows, open_to, weights, price)
        least = shares.min(axis=0)
        if (value := float(least.sum())) > best:
            best, best_weights = value, weights
        odds = np.exp((least - shares) / (max(warmth, LEAST_WARMTH) * np.maximum(least, 1.0)))
        odds /= odds.sum(axis=0)
        warmth *= COOLING
        row_sums = np.matmul(odds[:, None, :], rows)[:, 0]
        top = np.maximum(row_sums.max(axis=1, keepdims=True), 1e-12)
        weights = weights * np.exp(STEP / (1 + step / STEP_HALF) * (row_sums / top - 1))
        weights /= weights.sum(axis=1, keepdims=True)
    return best_weights


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
            units_taken = sum(units * round(float(values[column])) for column, units in terms)
            if units_taken > self.stock.free[pool]:
                self._add_cuts(pool)
        for pool, terms in self.pools.items():
            self.program.row(terms, high=float(self.stock.free[pool]))
        solved_bound = self.program.solve(LAST_NODES).bound
        return ceil(solved_bound - ROUNDING) * self.step if np.isfinite(solved_bound) else 0

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
        rows, open_to = _whole_server_rows(instance, self.kinds, copies)
        placeable = np.flatnonzero(open_to.any(axis=0))
        self.copies = [copies[index] for index in placeable.tolist()]
        self.rows, self.open_to = rows[:, placeable], open_to[:, placeable]
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
        owners = np.array([copy.owner for copy in self.copies])
        for owner in np.unique(owners):
            inside = chosen[owners == owner]
            self.program.row(inside, np.ones(len(inside)), 1.0, 1.0)
        for index, copy in enumerate(self.copies):
            open_kinds = np.flatnonzero(self.open_to[:, index])
            parts, values = self.part[open_kinds, index], np.append(np.ones(len(open_kinds)), -1.0)
            self.program.row(np.append(parts, chosen[index]), values, 0.0)
            if copy.number > 1:
                for kind, part in zip(open_kinds.tolist(), parts.tolist(), strict=True):
                    factors = np.array([1.0, -copy.number])
                    self.program.row(np.array([self.types + kind, part]), factors, 0.0)
                factors = np.append(np.ones(self.types), -copy.number)
                self.program.row(np.append(np.arange(self.types), chosen[index]), factors, 0.0)

    def cut(self, prices: Ints) -> int:
        """Return a lower bound of the servers' price, by these prices of the types."""
        self.program.price(prices.astype(float))
        parts = np.zeros(self.open_to.shape)
        while True:
            solution = self.program.relaxed()
            parts[self.open_to] = solution[self.part[self.open_to]]
            servers = solution[self.types : self.first]
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


def _whole_server_rows(
    instance: Instance, kinds: list[Configuration], copies: list[Copies]
) -> tuple[Reals, Mask]:
    """Return the parts of rows that all copies take, by configuration, and where copies may be."""
    number = np.array([item_copies.number for item_copies in copies])[:, None]
    exact = np.array([item_copies.exact for item_copies in copies])[:, None]
    load = np.array([item_copies.load for item_copies in copies])
    busy = np.array([item_copies.busy for item_copies in copies]) * number
    limit = np.array([kind.limit for kind in kinds])[:, None, None]
    slope = slopes_of(instance, kinds)[:, None, :]
    copy = load // number
    rows = [(np.where(exact, copy * number, load) + slope * busy) / (limit + slope)]
    rows += [np.where(exact, number * dual, 0.0) for dual in dual_feasible(copy / limit)]
    rows.append(number / np.array([kind.most for kind in kinds])[:, None, None])
    fits = ~exact[:, 0] | (copy.max(axis=1) <= limit[:, :, 0])
    ranks = np.array([item_copies.rank for item_copies in copies])
    ranked = instance.covers(np.array([kind.rank for kind in kinds])[:, None], ranks)
    return np.concatenate(rows, axis=2), fits & ranked
