"""Empty one bin after another: its items go into the others, and the overload is repaired.

Large packings are searched in random chunks of bins, which are drawn anew in each round.
"""

import numpy as np
from numpy.typing import NDArray

from fleet.packing.tabu_many import Crew, searches
from fleet.packing.vectors_tabu import Ints, Repair, scaled

CHUNK = 60
"""Bins searched together where there are many more; see `chunk_size`."""
STEP = 250
"""Moves drawn at a time, of each search."""
ALONE = 500
"""Moves of one search, before several go on side by side."""


def improve(sizes: Ints, capacity: Ints, home: Ints, *, moves: int, bound: int, seed: int) -> Ints:
    """Return a packing with at most as many bins, searching at most about `moves` moves.

    Args:
        sizes: Items, each within `capacity`.
        capacity: Of every bin.
        home: A valid packing, bins counted from 0 without gaps.
        moves: Budget.
        bound: A lower bound of the number of bins, where the search ends.
        seed: Start of the chance.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    wide, limit = scaled(sizes, capacity)
    bins = int(home.max(initial=-1)) + 1
    size = chunk_size(sizes)
    if bins <= size + size // 2:
        best, _ = emptied(wide, limit, home, moves, bound, chance)
        return best
    while moves > 0 and bins > bound:
        order = _order(wide, limit, home, bins, chance)
        parts = max(1, round(bins / size))
        share = max(STEP, min(moves, ROUND_MOVES * parts) // parts)
        pieces = np.array_split(order, parts)
        for piece in pieces:
            if moves <= 0:
                break
            home, spent = _searched(wide, limit, home, np.sort(piece), share, chance)
            moves -= max(spent, OVERHEAD)
        home = numbered(home)
        bins = int(home.max()) + 1
    return home


OVERHEAD = 40
"""What drawing a chunk costs, in moves."""
SORTED = 0.7
"""How often bins with room are drawn together; else any."""
ROUND_MOVES = 6_000
"""Moves spent on one chunk before the chunks are drawn anew."""


def _order(
    sizes: Ints, capacity: Ints, home: Ints, bins: int, chance: np.random.Generator
) -> NDArray[np.intp]:
    """Draw bins together that have room, so that one of them may be emptied into the others."""
    load = np.zeros((bins, sizes.shape[1]), dtype=np.int64)
    np.add.at(load, home, sizes)
    full = (load / np.maximum(capacity, 1)).max(axis=1)
    spread = float(full.std()) if chance.random() < SORTED else 1e6
    return np.argsort(full + spread * chance.random(bins), kind="stable")


def chunk_size(sizes: Ints) -> int:
    """Return how many bins are searched together: few where items have many dimensions."""
    return CHUNK if sizes.shape[1] > 12 else 8 * CHUNK  # noqa: PLR2004 (one numpy pass stays short)


def numbered(home: Ints) -> Ints:
    """Number bins from 0 without gaps, keeping their order."""
    return np.unique(home, return_inverse=True)[1].astype(np.int64)


def least(sizes: Ints, capacity: Ints) -> int:
    """Return the number of bins that the sum of sizes needs in the scarcest dimension."""
    total = sizes.sum(axis=0)
    return int((-(-total // np.maximum(capacity, 1))).max(initial=0))


def _searched(
    sizes: Ints, capacity: Ints, home: Ints, piece: Ints, moves: int, chance: np.random.Generator
) -> tuple[Ints, int]:
    members = np.isin(home, piece).nonzero()[0]
    part = sizes[members]
    inner, spent = emptied(
        part, capacity, numbered(home[members]), moves, least(part, capacity), chance
    )
    home = home.copy()
    home[members] = piece[inner]
    return home, spent


def emptied(
    sizes: Ints, capacity: Ints, home: Ints, moves: int, bound: int, chance: np.random.Generator
) -> tuple[Ints, int]:
    """Take bins away while that can be repaired; return the packing and the moves made."""
    spent = 0
    bins = int(home.max(initial=-1)) + 1
    while bins > max(bound, 1) and spent < moves:
        start = spread(sizes, capacity, home, bins)
        better, made = _repaired(sizes, capacity, start, bins - 1, moves - spent, chance)
        spent += made
        if better is None:
            break
        bins -= 1
        home = better
    return home, spent


def _repaired(
    sizes: Ints, capacity: Ints, start: Ints, bins: int, moves: int, chance: np.random.Generator
) -> tuple[Ints | None, int]:
    """Return a valid packing into `bins` bins, if found, and the moves made."""
    work = Repair(sizes, capacity, start, bins)
    crew = searches(sizes, bins)
    alone = moves if crew == 1 else min(ALONE, moves)
    spent = 0
    while spent < alone:
        spent += max(1, work.run(min(STEP, alone - spent), chance))
        if work.done:
            return work.home[: len(sizes)].copy(), spent
    if spent >= moves:
        return None, spent
    together = Crew(sizes, capacity, work.home[: len(sizes)], bins, crew)
    while spent < moves:
        spent += together.run(min(STEP * crew, moves - spent), chance)
        better = together.solved()
        if better is not None:
            return better, spent
    return None, spent


def spread(sizes: Ints, capacity: Ints, home: Ints, bins: int) -> Ints:
    """Spread the items of the emptiest bin over the others, where they overload least."""
    load = np.zeros((bins, sizes.shape[1]), dtype=np.int64)
    np.add.at(load, home, sizes)
    gone = int((load / np.maximum(capacity, 1)).sum(axis=1).argmin())
    home = home.copy()
    over = np.maximum(load - capacity, 0).sum(axis=1)
    for item in (home == gone).nonzero()[0].tolist():
        after = np.maximum(load + sizes[item] - capacity, 0).sum(axis=1)
        change = after - over
        change[gone] = np.iinfo(np.int64).max
        chosen = int(change.argmin())
        load[chosen] += sizes[item]
        over[chosen] = after[chosen]
        home[item] = chosen
    home[home > gone] -= 1
    return home
