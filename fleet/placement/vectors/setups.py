"""Bins in which each class of items pays a set-up: weight and cost, once a bin.

Base weights on a GPU are such a set-up: the adapters of a base share one copy. The search ruins
a few bins and recreates them, item by item where it costs least and leaves least room (Schrimpf
et al. 2000; Baldacci et al. 2025, arXiv:2509.10075, for the problem and its bounds).
"""

from dataclasses import dataclass

import numpy as np

from fleet.placement.vectors.repair import Ints

RUINED = 4
"""Most bins emptied at once, and one more."""
HEAT = 0.25
"""How much worse a packing may be accepted at the start, in bins' worth of free space."""
BLINK = 0.02
"""How often a fitting bin is overlooked."""
NEVER = 1 << 50


@dataclass(frozen=True, slots=True, eq=False)
class Classed:
    """Items with classes; every item fits an empty bin with its class's set-up."""

    sizes: Ints
    """Shape `(items, dimensions)`, not negative."""
    capacity: Ints
    classes: Ints
    setup: Ints
    """What a bin loses to each class it holds, shape `(classes, dimensions)`."""
    price: Ints
    """Cost of each class in each bin that holds it."""
    bin_price: int
    """Cost of a bin itself."""


@dataclass(slots=True, eq=False)
class Bins:
    """A packing in progress."""

    home: Ints
    free: Ints
    held: Ints
    """Items of each class in each bin, shape `(bins, classes)`."""
    used: int
    """Bins opened so far, which may be empty again."""

    def copy(self) -> "Bins":
        """Return an independent copy."""
        return Bins(self.home.copy(), self.free.copy(), self.held.copy(), self.used)


def bound(case: Classed) -> int:
    """Return a valid lower bound of the cost: volume, with the least set-ups of each class.

    A class needs as many bins as its items fill without what its set-up takes; that many
    set-ups are paid, and their weight takes room.
    """
    if not len(case.sizes):
        return 0
    times = np.zeros(len(case.price), dtype=np.int64)
    for each in np.unique(case.classes).tolist():
        total = case.sizes[case.classes == each].sum(axis=0)
        room = case.capacity - case.setup[each]
        need = -(-total[room > 0] // room[room > 0])
        times[each] = max(1, int(need.max(initial=0)))
    volume = case.sizes.sum(axis=0) + times @ case.setup
    useful = case.capacity > 0
    bins = int((-(-volume[useful] // case.capacity[useful])).max(initial=0))
    return case.bin_price * max(1, bins, int(times.max())) + int(times @ case.price)


def cost(case: Classed, home: Ints) -> int:
    """Return what bins and set-ups cost."""
    pairs = np.unique(home * len(case.price) + case.classes) % max(1, len(case.price))
    return case.bin_price * len(np.unique(home)) + int(case.price[pairs].sum())


def pack(case: Classed, *, moves: int, floor: int, seed: int) -> Ints:
    """Return the bin of each item, counted from 0 without gaps.

    Args:
        case: What is packed.
        moves: Items placed in all.
        floor: A lower bound of the cost, where the search ends.
        seed: Start of the chance.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    weight = (case.sizes / np.maximum(case.capacity, 1)).sum(axis=1)
    now = _first(case, weight, chance)
    least, energy = cost(case, now.home), _energy(case, now)
    best = now.home
    spent, started = 0, max(1, moves)
    while spent < moves and least > floor:
        other = now.copy()
        gone = _ruin(case, other, chance)
        _recreate(case, other, _order(case, weight, gone, chance), chance)
        spent += len(gone) + 2
        after = _energy(case, other)
        if after <= energy + HEAT * case.bin_price * (1 - spent / started):
            now, energy = other, after
            total = cost(case, now.home)
            if total < least:
                least, best = total, now.home
    return np.unique(best, return_inverse=True)[1].astype(np.int64)


def _first(case: Classed, weight: Ints, chance: np.random.Generator) -> Bins:
    items, dimensions = case.sizes.shape
    empty = Bins(
        np.full(items, -1, dtype=np.int64),
        np.empty((0, dimensions), dtype=np.int64),
        np.empty((0, len(case.price)), dtype=np.int64),
        0,
    )
    _recreate(case, empty, np.lexsort((-weight, case.classes)), chance, blink=0.0)
    return empty


def _energy(case: Classed, bins: Bins) -> float:
    """Return the cost, less a little where free space lies together."""
    filled = bins.held.any(axis=1)
    free = (bins.free[filled] / np.maximum(case.capacity, 1)).mean(axis=1)
    paid = case.bin_price * int(filled.sum()) + int(((bins.held > 0) @ case.price).sum())
    return paid - case.bin_price * float((free * free).sum())


def _ruin(case: Classed, bins: Bins, chance: np.random.Generator) -> Ints:
    """Empty a few bins, or those of a class that hold least of it."""
    filled = np.flatnonzero(bins.held.any(axis=1))
    number = min(len(filled), 1 + int(chance.integers(RUINED)))
    if chance.random() < 0.5:  # noqa: PLR2004 (either way as often)
        chosen = chance.permutation(filled)[:number]
    else:
        which = int(case.classes[int(chance.integers(len(case.classes)))])
        holding = filled[bins.held[filled, which] > 0]
        key = bins.held[holding, which] + chance.random(len(holding)) * 3
        chosen = holding[np.argsort(key, kind="stable")[: number + 1]]
    gone = np.isin(bins.home, chosen).nonzero()[0]
    bins.home[gone] = -1
    bins.free[chosen] = case.capacity
    bins.held[chosen] = 0
    return gone


def _order(case: Classed, weight: Ints, gone: Ints, chance: np.random.Generator) -> Ints:
    turn = chance.random()
    if turn < 0.4:  # noqa: PLR2004 (classes together, in any order)
        shuffled = chance.random(len(case.price))
        return gone[np.lexsort((-weight[gone], shuffled[case.classes[gone]]))]
    if turn < 0.8:  # noqa: PLR2004 (the largest first)
        return gone[np.argsort(-weight[gone], kind="stable")]
    return chance.permutation(gone)


def _recreate(
    case: Classed, bins: Bins, order: Ints, chance: np.random.Generator, blink: float = BLINK
) -> None:
    """Place each item in the open bin that costs least, then leaves least room."""
    scale = 1.0 / np.maximum(case.capacity, 1).astype(float)
    luck = chance.random(len(order)).tolist()
    for item, lucky in zip(order.tolist(), luck, strict=True):
        which = int(case.classes[item])
        size, setup = case.sizes[item], case.setup[which]
        new = bins.held[:, which] == 0
        left = bins.free - size - new[:, None] * setup
        score = left @ scale
        score += new * (1e3 * float(case.price[which]) + 1.0)
        score += ~bins.held.any(axis=1) * (1e3 * case.bin_price + 10.0)
        score[(left < 0).any(axis=1)] = NEVER
        if len(score) and lucky < blink:
            score[int(score.argmin())] = NEVER
        chosen = int(score.argmin()) if len(score) else 0
        if not len(score) or score[chosen] >= NEVER:
            chosen = len(bins.free)
            bins.free = np.concatenate([bins.free, case.capacity[None, :]])
            bins.held = np.concatenate([bins.held, np.zeros((1, len(case.price)), np.int64)])
            new = np.ones(chosen + 1, dtype=bool)
        bins.free[chosen] -= size + (setup if new[chosen] else 0)
        bins.held[chosen, which] += 1
        bins.home[item] = chosen
