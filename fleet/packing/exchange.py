"""Exchange a few servers for a cheaper mix of types that holds the same items, again and again.

Two schedules share the loop. `Thorough` tries the cheaper mixes of a few servers until a mix holds.
`Coarse`, for large instances, rearranges many servers at once. The capacity that a cheaper mix may
lack grows with successes and shrinks with failures: at first whole servers are left out, in the end
a type is exchanged for a slightly cheaper type.
"""

from dataclasses import replace

import numpy as np

from fleet.packing.construct import downgraded
from fleet.packing.mixes import cheaper_mixes, cheapest_mix
from fleet.packing.problem import Instance, Ints, Packing, Reals, Rng
from fleet.packing.slowdown import SlowdownTabu
from fleet.packing.tabu import ServerTabu

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
"""Lower bound of the random factor, up to 1.5, on the load by which items are ordered then."""
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
    others = np.delete(packing.gpus, servers)
    part = replace(instance.part(members), stock=instance.stock.without(others))
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
    kept = Packing(mix, assignment[placed])
    there = instance.part(placed.nonzero()[0])
    load, rank, count = kept.totals(there)
    busy = kept.busy(there)
    rest = (~placed).nonzero()[0]
    size: Ints | Reals = -instance.loads[rest].sum(axis=1)
    if fresh is not None:
        size = size * (LEAST + fresh.random(len(rest)))
    order = np.lexsort((size, -instance.rank[rest]))
    for item in rest[order].tolist():
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
    others = np.ones(len(assignment), dtype=bool)
    others[members] = False
    assignment[others] = np.searchsorted(stay, packing.assignment[others])
    assignment[members] = inner + len(stay)
    return downgraded(instance, Packing(np.concatenate([packing.gpus[stay], mix]), assignment))
