"""The plain packer: vectors into equal bins, as few as possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fleet.packing.vectors_bounds import bound as lower_bound
from fleet.packing.vectors_construct import construct
from fleet.packing.vectors_improve import improve
from fleet.packing.vectors_tabu import Ints

Effort = Literal["fast", "balanced", "proof"]
Status = Literal["optimal", "feasible"]

MOVES: dict[Effort, int] = {"fast": 8_000, "balanced": 200_000, "proof": 500_000}
"""Most moves of the search, for few items."""
MANY = 5_000
"""With items times dimensions like this a move takes twice as long, so half as many are made."""

BEFORE, FEW, MANY_MORE = 10, 8, 2
"""Parts of the moves made before columns are priced, after them where they helped, and else."""
COLUMNS: dict[Effort, int] = {"balanced": 12 * 10**9, "proof": 250 * 10**9}
"""Work of the dives, see `cover`."""


@dataclass(frozen=True, slots=True)
class Packing:
    """Items in bins. An item is a row of `sizes`, as often as `demand` says."""

    bins: tuple[tuple[int, ...], ...]
    """Items of each bin, numbered in the order of the rows, copies one after the other."""
    bound: int
    """No packing has fewer bins."""
    status: Status
    """`optimal` when as many bins as `bound`."""


def pack_vectors(
    sizes: Sequence[Sequence[int]],
    capacity: Sequence[int],
    *,
    demand: Sequence[int] | None = None,
    effort: Effort = "balanced",
    seed: int = 0,
) -> Packing:
    """Pack every item into as few bins as the search finds.

    Deterministic: the same multiset of items gives the same number of bins in whatever order it
    comes, because items are sorted first.

    Args:
        sizes: One row for each kind of item, integers. A negative size makes room for others.
        capacity: Of every bin, one integer for each dimension.
        demand: How often each row is to be packed; default once.
        effort: `fast`: about 1 CPU second for 500 items; `balanced`: about 5; `proof`: more.
            Where the extra `proof` is installed, HiGHS helps: `balanced` prices columns where
            bins hold few items, `proof` also decides small cases.
        seed: Another seed may find another packing.

    Raises:
        ValueError: Lengths differ, demand or capacity is negative, or an item exceeds the capacity.
    """
    rows, limit = _checked(sizes, capacity, demand)
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
    ordered = rows[order]
    useful = (ordered > 0).any(axis=0)
    ordered, limit = ordered[:, useful], limit[useful]
    if not len(ordered):
        return Packing((), 0, "optimal")
    if not ordered.shape[1]:
        return Packing((tuple(range(len(rows))),), 1, "optimal")
    floor = lower_bound(ordered, limit)
    home = construct(ordered, limit)
    moves = MOVES[effort] * MANY // (MANY + len(ordered) * (5 + len(limit)))
    home, floor = _searched(ordered, limit, home, moves, floor, effort, seed)
    if effort == "proof":
        home, floor = _proved(ordered, limit, home, floor)
    bins: list[list[int]] = [[] for _ in range(int(home.max()) + 1)]
    for place, item in sorted(zip(home.tolist(), order.tolist(), strict=True)):
        bins[place].append(item)
    status: Status = "optimal" if len(bins) == floor else "feasible"
    return Packing(tuple(sorted(tuple(each) for each in bins)), floor, status)


def _searched(
    sizes: Ints, capacity: Ints, home: Ints, moves: int, floor: int, effort: Effort, seed: int
) -> tuple[Ints, int]:
    """Search by moves, with columns in between where they are few and HiGHS is there."""
    from fleet.packing.columns import cover, within_reach  # noqa: PLC0415
    from fleet.packing.solver import available  # noqa: PLC0415 (only for more than `fast`)

    bins = int(home.max()) + 1
    if effort == "fast" or not available() or not within_reach(len(sizes), bins):
        return improve(sizes, capacity, home, moves=moves, bound=floor, seed=seed), floor
    home = improve(sizes, capacity, home, moves=moves // BEFORE, bound=floor, seed=seed)
    bins = int(home.max()) + 1
    if bins > floor:
        better = cover(sizes, capacity, home, effort=COLUMNS[effort], bound=floor, seed=seed)
        home, floor = better.home, better.bound
    left = moves // (FEW if int(home.max()) + 1 < bins else MANY_MORE)
    return improve(sizes, capacity, home, moves=left, bound=floor, seed=seed), floor


def _proved(sizes: Ints, capacity: Ints, home: Ints, floor: int) -> tuple[Ints, int]:
    from fleet.packing.solver import available  # noqa: PLC0415 (only for proofs)
    from fleet.packing.vectors_proofs import fewer, within_reach  # noqa: PLC0415

    while (bins := int(home.max()) + 1) > floor and available():
        if not within_reach(len(sizes), bins - 1):
            break
        decided, better = fewer(sizes, capacity, bins - 1)
        if better is not None:
            home = np.unique(better, return_inverse=True)[1].astype(np.int64)
        elif decided:
            return home, bins
        else:
            break
    return home, floor


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
    if any(each < 0 for each in (*times, *capacity)):
        raise ValueError("demand and capacity must not be negative")
    rows = np.array(sizes, dtype=np.int64).reshape(len(sizes), len(capacity))
    return np.repeat(rows, times, axis=0), np.array(capacity, dtype=np.int64)
