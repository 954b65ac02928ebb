"""Search for cheaper packings: exchange servers, or empty and fill them again.

`exchange` replaces a few servers by a cheaper mix of types that holds the same items, again and
again. Two schedules share the loop. `Thorough` tries the cheaper mixes of a few servers until a mix
holds. `Coarse`, for large instances, rearranges many servers at once. The capacity that a cheaper
mix may lack grows with successes and shrinks with failures: at first whole servers are left out, in
the end a type is exchanged for a slightly cheaper type.

`recreate` empties a few servers and places their items again, on any server with room. A packing
that costs the same is taken too: on such plateaus some servers get full and others empty, until one
is left out. After Schrimpf et al. 2000.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, lru_cache
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from fleet.packing.construct import GROWTH, downgraded, fill
from fleet.packing.problem import Instance, Ints, Packing, Reals, Rng
from fleet.packing.tabu import ServerTabu, SlowdownTabu

CORE = 4
"""Upper bound of the servers exchanged at once."""
OVERHEAD = 12
"""Cost of drawing servers and assigning their items, in moves."""

ITEMS = 400
"""Items that `Thorough` rearranges at once, about: on the exchanged servers and some others."""
PATIENCE = 40
"""Moves without progress after which a mix is given up, at its first try."""
TOP_MIXES = 1.0
"""Mean place of a tried mix in the list of promising mixes, from 0."""
FRESH = 0.3
"""Share of mixes that are filled afresh where items are busy at times."""
LEAST = 0.5
"""Lower bound of the random factor, up to 1.5, on the load by which items are ordered at random."""
EMPTY_FIRST = 0.3
"""Share of draws of servers with room together; the other draws take any servers."""

SQUEEZED_ITEMS = 1_000
"""Items that `Coarse` rearranges at once, about."""
SQUEEZED_MOVES = 200
"""Upper bound of the moves for a mix."""
SQUEEZED_PATIENCE = 25
"""Moves without progress after which a mix is given up."""
LOSS, LEAST_LOSS, MOST_LOSS = 0.04, 0.001, 0.2
"""Share of the servers' capacity that a cheaper mix may lack: at first, at least, at most."""
SUCCESS, FAILURE = 1.6, 0.7
"""Factors on that share after a mix that holds, and after a mix that does not."""
EMPTIEST = 0.7
"""Share of draws whose emptiest servers are exchanged; the other draws exchange any servers."""

MIXES = 500
"""Upper bound of the compared mixes of a size."""
HEADROOM = 0.97
"""Lower bound of a mix's estimated capacity, as a share of the load; mixes below are not tried."""

EMPTIED = 4
"""Upper bound of the servers that are emptied at once."""
REFILL_OVERHEAD = 10
"""Cost of drawing servers and of a comparison, in placed items."""
WAYS = (None, *GROWTH)
"""Ways to choose among servers with room, drawn for every attempt; see `fill`."""

PART = 12
"""Servers of a large packing that are searched together."""
ROUNDS = 1.5
"""Mean number of parts that a server is in."""
BY_ITEM = 20
"""Items of a part that are placed again, per item."""


class Thorough:
    """Schedule that tries promising mixes, and longer those that were tried before."""

    def __init__(self, instance: Instance) -> None:
        """Start with an empty memory of mixes."""
        self.instance = instance
        self.rng = Rng(np.random.PCG64(0))
        self.tries: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        self.again = 0

    def draw(self, full: Reals) -> tuple[Ints, int]:
        """Draw servers to rearrange; the number of them, from the last, that are exchanged."""
        rng, servers = self.rng, len(full)
        core = min(servers, 1 + int(rng.integers(CORE)))
        most = max(core, round(ITEMS * servers / len(self.instance.rank)))
        size = core if most <= core else core + int(rng.integers(most - core + 1))
        size = min(servers, size)
        if rng.random() >= EMPTY_FIRST:
            return rng.permutation(servers)[:size], core
        key = full + float(full.std()) * rng.random(servers)
        return rng.permutation(np.argsort(key, kind="stable")[:size]), core

    def mix(self, part: Instance, gpus: Ints, core: int, servers: Ints) -> Ints | None:
        """Return a cheaper mix for the drawn servers; None: no cheaper mix."""
        mixes = cheaper_mixes(part, gpus, core)
        if not mixes:
            return None
        mix = mixes[min(int(self.rng.exponential(TOP_MIXES)), len(mixes) - 1)]
        key = (tuple(servers.tolist()), tuple(mix.tolist()))
        self.again = self.tries.get(key, 0)
        self.tries[key] = self.again + 1
        return mix

    def limits(self, moves: int) -> tuple[int, int]:
        """Return the moves for the mix, and the moves without progress after which to give up."""
        return moves, PATIENCE * (1 + self.again)

    def tried(self, *, holds: bool) -> None:
        """Note whether the mix holds the items."""
        if holds:
            self.tries.clear()


class Coarse(Thorough):
    """Schedule that asks many servers at once to carry the same at a lower price."""

    loss = LOSS

    def draw(self, full: Reals) -> tuple[Ints, int]:
        """Draw servers to rearrange, as many as hold `SQUEEZED_ITEMS` items."""
        rng, servers = self.rng, len(full)
        core = min(servers, 1 + int(rng.integers(CORE)))
        size = max(core, round(SQUEEZED_ITEMS * servers / len(self.instance.rank)))
        drawn = rng.permutation(servers)[:size]
        if rng.random() < EMPTIEST:
            drawn = drawn[np.argsort(-full[drawn], kind="stable")]
        return drawn, core

    def mix(self, part: Instance, gpus: Ints, core: int, servers: Ints) -> Ints | None:
        """Return the cheapest mix with nearly the capacity of the drawn servers; None: no mix."""
        del servers
        return cheapest_mix(part, gpus, core, self.loss)

    def limits(self, moves: int) -> tuple[int, int]:
        """Return the moves for the mix, and the moves without progress after which to give up."""
        return min(SQUEEZED_MOVES, moves), SQUEEZED_PATIENCE

    def tried(self, *, holds: bool) -> None:
        """Raise or lower the capacity that the next mix may lack."""
        loss = self.loss * (SUCCESS if holds else FAILURE)
        self.loss = min(MOST_LOSS, max(LEAST_LOSS, loss))


def exchange(
    instance: Instance, packing: Packing, moves: int, floor: int, schedule: Thorough
) -> Packing:
    """Improve a valid packing until the tabu moves are used up or the price is at `floor`."""
    full = _fullness(instance, packing)
    while moves > 0 and packing.price(instance) > floor:
        moves -= OVERHEAD
        servers, core = schedule.draw(full)
        part, inner, members = drawn(instance, packing, servers)
        mix = schedule.mix(part, inner.gpus, core, servers)
        if mix is None:
            if core == len(packing.gpus) <= CORE:
                break
            continue
        fresh = part.busy is not None and schedule.rng.random() < FRESH
        assignment = _assigned(part, inner, mix, schedule.rng if fresh else None)
        if assignment is None:
            continue
        repair = ServerTabu if part.busy is None else SlowdownTabu
        search = repair(part, mix, assignment, schedule.rng)
        moves -= search.run(*schedule.limits(moves), schedule.rng)
        if search.done:
            packing = replaced(instance, packing, servers, members, mix, search.assignment)
            full = _fullness(instance, packing)
        schedule.tried(holds=search.done)
    return packing


def drawn(instance: Instance, packing: Packing, servers: Ints) -> tuple[Instance, Packing, Ints]:
    """Return some servers as a packing of their own, its instance, and its items."""
    members = np.isin(packing.assignment, servers).nonzero()[0]
    other_types = np.delete(packing.gpus, servers)
    part = replace(instance.part(members), stock=instance.stock.without(other_types))
    order = np.argsort(servers)
    index = order[np.searchsorted(servers, packing.assignment[members], sorter=order)]
    return part, Packing(packing.gpus[servers], index), members


def _fullness(instance: Instance, packing: Packing) -> Reals:
    """Return the shares of the servers' capacity that their busiest hours take."""
    load, rank, count = packing.totals(instance)
    limit = instance.capacity[packing.gpus, rank, count]
    strain = instance.strain(load, packing.busy(instance), packing.gpus, rank)
    return np.asarray(strain.max(axis=1) / np.maximum(limit, 1))


def _assigned(instance: Instance, packing: Packing, mix: Ints, fresh: Rng | None) -> Ints | None:
    """Assign all items to servers of the mix, with little overload; None if replicas clash.

    The items of a server stay together on a server of the same type, as far as the mix has it.
    With a generator `fresh`, every item goes to the first server that holds it, in an order by rank
    and, roughly, load: high ranks then stay together.
    """
    free = list(range(len(mix))) if fresh is None else []
    successor = np.full(len(packing.gpus), -1, dtype=np.int64)
    for server in np.argsort(-instance.price[packing.gpus], kind="stable").tolist():
        same = next((index for index in free if mix[index] == packing.gpus[server]), None)
        if same is not None:
            successor[server] = same
            free.remove(same)
    assignment = successor[packing.assignment]
    placed = assignment >= 0
    partial = Packing(mix, assignment[placed])
    placed_instance = instance.part(placed.nonzero()[0])
    load, rank, count = partial.totals(placed_instance)
    busy = partial.busy(placed_instance)
    unplaced = (~placed).nonzero()[0]
    size: Ints | Reals = -instance.loads[unplaced].sum(axis=1)
    if fresh is not None:
        size = size * (LEAST + fresh.random(len(unplaced)))
    order = np.lexsort((size, -instance.rank[unplaced]))
    for item in unplaced[order].tolist():
        top = instance.top(rank, instance.rank[item])
        limit = instance.capacity[mix, top, np.minimum(count + 1, instance.most)]
        active = 0.0 if instance.busy is None else instance.busy[item]
        strain = instance.strain(load + instance.loads[item], busy + active, mix, top)
        score = strain.max(axis=1) / np.maximum(limit, 1)
        copies = assignment[instance.owner == instance.owner[item]]
        score[copies[copies >= 0]] = np.inf
        chosen = int(score.argmin() if fresh is None or score.min() > 1 else (score <= 1).argmax())
        if score[chosen] == np.inf:
            return None
        assignment[item] = chosen
        load[chosen] += instance.loads[item]
        busy[chosen] += active
        rank[chosen] = top[chosen]
        count[chosen] += 1
    return assignment


def replaced(
    instance: Instance, packing: Packing, servers: Ints, members: Ints, mix: Ints, inner: Ints
) -> Packing:
    """Return the packing with the drawn servers exchanged for the mix."""
    stay = np.setdiff1d(np.arange(len(packing.gpus)), servers)
    assignment = np.empty_like(packing.assignment)
    undrawn = np.ones(len(assignment), dtype=bool)
    undrawn[members] = False
    assignment[undrawn] = np.searchsorted(stay, packing.assignment[undrawn])
    assignment[members] = inner + len(stay)
    return downgraded(instance, Packing(np.concatenate([packing.gpus[stay], mix]), assignment))


def recreate_parts(instance: Instance, packing: Packing) -> Packing:
    """Improve a large valid packing, a part of the servers after the other."""
    rng = Rng(np.random.PCG64(1))
    for _ in range(round(ROUNDS * len(packing.gpus) / PART)):
        servers = rng.permutation(len(packing.gpus))[:PART]
        part, inner, members = drawn(instance, packing, servers)
        better = recreate(part, inner, BY_ITEM * len(members), 0)
        packing = replaced(instance, packing, servers, members, better.gpus, better.assignment)
    return packing


def recreate(instance: Instance, packing: Packing, placements: int, floor: int) -> Packing:
    """Improve a valid packing until as many items were placed again or the price is at `floor`."""
    rng = Rng(np.random.PCG64(0))
    peaks = instance.loads.max(axis=1)
    price = packing.price(instance)
    while placements > 0 and price > floor:
        servers = rng.permutation(len(packing.gpus))
        number = min(1 + int(rng.integers(EMPTIED)), len(servers))
        emptied, staying = servers[:number], servers[number:]
        members = np.isin(packing.assignment, emptied).nonzero()[0]
        placements -= len(members) + REFILL_OVERHEAD
        key = -peaks[members] * (LEAST + rng.random(len(members)))
        order = members[np.lexsort((key, -instance.rank[members]))]
        gpu = int(rng.integers(len(instance.price)))
        growth = WAYS[int(rng.integers(len(WAYS)))]
        other = fill(instance, gpu, order, growth, _with_servers(packing, staying))
        if (other.assignment >= 0).all() and other.price(instance) <= price:
            packing, price = other, other.price(instance)
    return packing


def _with_servers(packing: Packing, servers: Ints) -> Packing:
    """Return the packing with these servers alone, in this order; other items are left out."""
    place = np.full(len(packing.gpus), -1, dtype=np.int64)
    place[servers] = np.arange(len(servers))
    return Packing(packing.gpus[servers], place[packing.assignment])


@lru_cache(maxsize=64)
def _multisets(types: int, size: int) -> Ints:
    rows = list(combinations_with_replacement(range(types), size))
    return np.array(rows, dtype=np.int64).reshape(len(rows), size)


def cheaper_mixes(instance: Instance, gpus: Ints, core: int) -> list[Ints]:
    """Return cheaper types for some servers, the most capacity first.

    Only the last `core` types differ.
    """
    peak = int(instance.loads.sum(axis=0).max())
    sized_mixes: list[tuple[float, Ints]] = []
    for rows in _cheaper(instance, gpus, core):
        enough = _estimated(instance, rows, instance.lowest) >= HEADROOM * peak
        capacity = _estimated(instance, rows[enough], _high_rank(instance))
        sized_mixes += [
            (-float(size), row) for size, row in zip(capacity, rows[enough], strict=True)
        ]
    sized_mixes.sort(key=lambda pair: (pair[0], pair[1].tolist()))
    return [row for _, row in sized_mixes]


def cheapest_mix(instance: Instance, gpus: Ints, core: int, loss: float) -> Ints | None:
    """Return the cheapest types with nearly the capacity of some servers; None: no cheaper types.

    Only the last `core` types differ. Where every cheaper mix lacks more than a share `loss` of the
    servers' capacity, the mix that lacks least.
    """
    rank = _high_rank(instance)
    least = (1 - loss) * int(_estimated(instance, gpus[None, :], rank)[0])
    best: tuple[tuple[int, int, int], list[int]] | None = None
    for rows in _cheaper(instance, gpus, core):
        prices = instance.price[rows].sum(axis=1)
        capacity = _estimated(instance, rows, rank)
        lacking = capacity < least
        first = np.lexsort((-capacity, np.where(lacking, 0, prices), lacking))[0]
        enough = not lacking[first]
        key = (not enough, int(prices[first]) if enough else 0, -int(capacity[first]))
        if best is None or (key, rows[first].tolist()) < best:
            best = key, rows[first].tolist()
    return None if best is None else np.array(best[1], dtype=np.int64)


def _cheaper(instance: Instance, gpus: Ints, core: int) -> Iterator[Ints]:
    """Yield arrays of mixes that cost less, as rows, an array per size."""
    stay, exchanged = gpus[: len(gpus) - core], gpus[len(gpus) - core :]
    budget = int(instance.price[exchanged].sum())
    copies = instance.copies()
    stock = instance.stock.without(stay)
    types = _by_value(instance, len(gpus), _high_rank(instance))
    for size in range(core + 2):
        if len(stay) + size < max(1, copies):
            continue
        rows = np.sort(types[_multisets(_compared_types(len(types), size), size)], axis=1)
        rows = rows[instance.price[rows].sum(axis=1) < budget]
        rows = rows[(stock.left(rows) >= 0).all(axis=1)]
        if len(rows):
            stay_rows = np.broadcast_to(stay, (len(rows), len(stay)))
            yield np.concatenate([stay_rows, rows], axis=1)


def _high_rank(instance: Instance) -> int:
    """Return the rank that three quarters of the items do not exceed."""
    ranks = np.sort(instance.rank)
    return int(ranks[len(ranks) * 3 // 4])


def _by_value(instance: Instance, servers: int, rank: int) -> Ints:
    """Return the types, sorted by the price of a unit of capacity."""
    count = min(instance.most, max(1, len(instance.rank) // max(1, servers)))
    ratio = instance.price / np.maximum(_carried(instance)[:, rank, count], 1)
    return np.lexsort((instance.price, ratio))


@cache
def _compared_types(types: int, size: int) -> int:
    """Return the number of types of which all multisets of a size can be compared."""
    while types > 1 and comb(types + size - 1, size) > MIXES:
        types -= 1
    return types


def _estimated(instance: Instance, mixes: Ints, rank: int) -> Ints:
    """Estimate the capacities of mixes at a highest rank, items shared out by capacity."""
    number = len(instance.rank)
    count = np.full(mixes.shape, min(number // max(1, mixes.shape[1]), instance.most))
    carried = _carried(instance)
    for _ in range(2):
        capacity = carried[mixes, rank, count]
        share = capacity / np.maximum(capacity.sum(axis=1, keepdims=True), 1)
        count = np.minimum((share * number).astype(np.int64), instance.most)
    return np.asarray(carried[mixes, rank, count].sum(axis=1))


def _carried(instance: Instance) -> Ints:
    """Return the capacity table for servers whose items are as busy as all are on average."""
    if instance.busy is None:
        return instance.capacity
    busy = float(instance.busy.mean(axis=0).max(initial=0)) * np.arange(instance.most + 1)
    slower = 1 + instance.spread[:, :, None] * np.maximum(busy - 1, 0)
    return np.asarray(instance.capacity / slower, dtype=np.int64)
