"""Pack vectors into equal bins, as few as possible.

The search empties a bin: its items go into the others, and the overload is repaired by tabu
search. Large packings are searched in random chunks of bins, drawn anew in every round.
"""

from collections.abc import Sequence

import numpy as np

from fleet.packing.bounds import fewest_bins
from fleet.packing.columns import cover, is_worthwhile
from fleet.packing.construct import construct_bins
from fleet.packing.problem import BinPacking, Effort, Ints, Rng, bins_of
from fleet.packing.proofs import are_few, fewer
from fleet.packing.solver import available
from fleet.packing.tabu import BinTabu
from fleet.packing.tabu_many import ParallelTabu, searches

MOVES: dict[Effort, int] = {"fast": 8_000, "balanced": 200_000, "proof": 500_000}
"""Upper bound of the moves, for few items."""
MANY = 5_000
"""Items times dimensions whose moves take twice as long, so that half as many are made."""
BEFORE, AFTER_SUCCESS, AFTER_FAILURE = 10, 8, 2
"""Divisors of all moves: for moves before columns are priced, and after, if they helped or not."""
COLUMNS: dict[Effort, int] = {"balanced": 12 * 10**9, "proof": 250 * 10**9}
"""Work of the dives, see `cover`."""

CHUNK, CHUNK_DIMENSIONS = 60, 12
"""Bins searched together where items have more than `CHUNK_DIMENSIONS` dimensions; else eight times
as many: a numpy pass stays short."""
STEP = 250
"""Moves drawn at a time, per search."""
ALONE = 500
"""Moves of a single search, before several go on side by side."""
OVERHEAD = 40
"""Cost of drawing a chunk, in moves."""
EMPTY_FIRST = 0.7
"""Share of rounds in which bins with room are drawn together; the others draw any bins."""
ROUND_MOVES = 6_000
"""Moves spent on a chunk before the chunks are drawn anew."""


def pack_vectors(
    sizes: Sequence[Sequence[int]],
    capacity: Sequence[int],
    *,
    demand: Sequence[int] | None = None,
    effort: Effort = "balanced",
) -> BinPacking:
    """Pack every item into as few bins as the search finds.

    Items are numbered in the order of the rows, copies one after the other; `demand` is the number
    of items per row, by default 1. A negative size makes room for others.

    Deterministic: the same items need the same number of bins in any order, because items are
    sorted first. `fast` takes about 1 CPU second for 500 items, `balanced` about 5, `proof` more.
    Where the extra `proof` is installed, HiGHS helps: `balanced` prices columns where bins hold few
    items, `proof` also decides small cases.

    Raises:
        ValueError: Lengths differ, demand or capacity is negative, or an item exceeds the capacity.
    """
    rows, limit = _checked(sizes, capacity, demand)
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
    ordered = rows[order]
    useful = (ordered > 0).any(axis=0)
    ordered, limit = ordered[:, useful], limit[useful]
    if not len(ordered):
        return BinPacking((), 0, 0)
    if not ordered.shape[1]:
        return BinPacking((tuple(range(len(rows))),), 1, 1)
    floor = fewest_bins(ordered, limit)
    assignment = construct_bins(ordered, limit)
    moves = MOVES[effort] * MANY // (MANY + len(ordered) * (5 + len(limit)))
    assignment, floor = _searched(ordered, limit, assignment, moves, floor, effort)
    if effort == "proof" and available():
        assignment, floor = _proved(ordered, limit, assignment, floor)
    bins = bins_of(assignment.tolist(), order.tolist())
    return BinPacking(bins, len(bins), floor)


def _number(assignment: Ints) -> int:
    return int(assignment.max()) + 1


def _searched(
    sizes: Ints, capacity: Ints, assignment: Ints, moves: int, floor: int, effort: Effort
) -> tuple[Ints, int]:
    """Search by moves, with columns in between where they are few and HiGHS is installed."""
    bins = _number(assignment)
    if effort == "fast" or not available() or not is_worthwhile(len(sizes), bins):
        return _improved(sizes, capacity, assignment, moves, floor), floor
    assignment = _improved(sizes, capacity, assignment, moves // BEFORE, floor)
    bins = _number(assignment)
    if bins > floor:
        assignment, floor = cover(sizes, capacity, assignment, effort=COLUMNS[effort], bound=floor)
    left = moves // (AFTER_SUCCESS if _number(assignment) < bins else AFTER_FAILURE)
    return _improved(sizes, capacity, assignment, left, floor), floor


def _proved(sizes: Ints, capacity: Ints, assignment: Ints, floor: int) -> tuple[Ints, int]:
    while (bins := _number(assignment)) > floor and are_few(len(sizes), bins - 1):
        decided, better = fewer(sizes, capacity, bins - 1)
        if better is None:
            return assignment, bins if decided else floor
        assignment = _numbered(better)
    return assignment, floor


def _improved(sizes: Ints, capacity: Ints, assignment: Ints, moves: int, bound: int) -> Ints:
    """Return a packing with at most as many bins, after about `moves` moves or at the bound."""
    rng = Rng(np.random.PCG64(0))
    wide, limit = _scaled(sizes, capacity)
    bins = _number(assignment)
    size = CHUNK if sizes.shape[1] > CHUNK_DIMENSIONS else 8 * CHUNK
    if bins <= size + size // 2:
        return _emptied(wide, limit, assignment, moves, bound, rng)[0]
    while moves > 0 and bins > bound:
        # Bins that have room are drawn together, so that a bin may be emptied into the others.
        full = (_loads(wide, assignment, bins) / np.maximum(limit, 1)).max(axis=1)
        deviation = float(full.std()) if rng.random() < EMPTY_FIRST else 1e6
        order = np.argsort(full + deviation * rng.random(bins), kind="stable")
        parts = max(1, round(bins / size))
        share = max(STEP, min(moves, ROUND_MOVES * parts) // parts)
        for chunk in np.array_split(order, parts):
            if moves <= 0:
                break
            assignment, spent = _chunk_searched(wide, limit, assignment, chunk, share, rng)
            moves -= max(spent, OVERHEAD)
        assignment = _numbered(assignment)
        bins = _number(assignment)
    return assignment


def _scaled(sizes: Ints, capacity: Ints) -> tuple[Ints, Ints]:
    """Bring dimensions to comparable units, exactly: both sides are multiplied by an integer."""
    top = int(capacity.max(initial=1))
    factor = np.maximum(1, np.minimum(top, 1 << 20) // np.maximum(capacity, 1))
    return sizes * factor, capacity * factor


def _loads(sizes: Ints, assignment: Ints, bins: int) -> Ints:
    load = np.zeros((bins, sizes.shape[1]), dtype=np.int64)
    np.add.at(load, assignment, sizes)
    return load


def _numbered(assignment: Ints) -> Ints:
    """Number bins from 0 without gaps, keeping their order."""
    return np.unique(assignment, return_inverse=True)[1].astype(np.int64)


def _chunk_searched(
    sizes: Ints, capacity: Ints, assignment: Ints, chunk: Ints, moves: int, rng: Rng
) -> tuple[Ints, int]:
    chunk = np.sort(chunk)
    members = np.isin(assignment, chunk).nonzero()[0]
    part = sizes[members]
    total = part.sum(axis=0)
    least = int((-(-total // np.maximum(capacity, 1))).max(initial=0))
    inner, spent = _emptied(part, capacity, _numbered(assignment[members]), moves, least, rng)
    assignment = assignment.copy()
    assignment[members] = chunk[inner]
    return assignment, spent


def _emptied(
    sizes: Ints, capacity: Ints, assignment: Ints, moves: int, bound: int, rng: Rng
) -> tuple[Ints, int]:
    """Take bins away while that can be repaired; return the packing and the number of moves."""
    spent = 0
    bins = _number(assignment)
    while bins > max(bound, 1) and spent < moves:
        start = _spread(sizes, capacity, assignment, bins)
        better, count = _repaired(sizes, capacity, start, bins - 1, moves - spent, rng)
        spent += count
        if better is None:
            break
        bins -= 1
        assignment = better
    return assignment, spent


def _repaired(
    sizes: Ints, capacity: Ints, start: Ints, bins: int, moves: int, rng: Rng
) -> tuple[Ints | None, int]:
    """Return a valid packing into `bins` bins, if found, and the number of moves."""
    search = BinTabu(sizes, capacity, start, bins)
    number = searches(sizes, bins)
    alone = moves if number == 1 else min(ALONE, moves)
    spent = 0
    while spent < alone:
        spent += max(1, search.run(min(STEP, alone - spent), rng))
        if search.done:
            return search.assignment, spent
    if spent >= moves:
        return None, spent
    together = ParallelTabu(sizes, capacity, search.assignment, bins, number)
    while spent < moves:
        spent += together.run(min(STEP * number, moves - spent), rng)
        better = together.solved()
        if better is not None:
            return better, spent
    return None, spent


def _spread(sizes: Ints, capacity: Ints, assignment: Ints, bins: int) -> Ints:
    """Spread the items of the emptiest bin over the others, where they overload least."""
    load = _loads(sizes, assignment, bins)
    gone = int((load / np.maximum(capacity, 1)).sum(axis=1).argmin())
    assignment = assignment.copy()
    over = np.maximum(load - capacity, 0).sum(axis=1)
    for item in (assignment == gone).nonzero()[0].tolist():
        after = np.maximum(load + sizes[item] - capacity, 0).sum(axis=1)
        change = after - over
        change[gone] = np.iinfo(np.int64).max
        chosen = int(change.argmin())
        load[chosen] += sizes[item]
        over[chosen] = after[chosen]
        assignment[item] = chosen
    assignment[assignment > gone] -= 1
    return assignment


def _checked(
    sizes: Sequence[Sequence[int]], capacity: Sequence[int], demand: Sequence[int] | None
) -> tuple[Ints, Ints]:
    times = [1] * len(sizes) if demand is None else list(demand)
    if len(times) != len(sizes):
        raise ValueError(f"demand has {len(times)} entries for {len(sizes)} rows of sizes")
    for index, row in enumerate(sizes):
        if len(row) != len(capacity):
            raise ValueError(f"item {index} has {len(row)} sizes for {len(capacity)} dimensions")
        for dimension, (size, limit) in enumerate(zip(row, capacity, strict=True)):
            if size > limit:
                raise ValueError(
                    f"item {index} has size {size} in dimension {dimension}: capacity is {limit}"
                )
    if any(number < 0 for number in (*times, *capacity)):
        raise ValueError("demand and capacity must not be negative")
    rows = np.array(sizes, dtype=np.int64).reshape(len(sizes), len(capacity))
    return np.repeat(rows, times, axis=0), np.array(capacity, dtype=np.int64)
