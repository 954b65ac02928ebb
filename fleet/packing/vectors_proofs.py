"""Proof that a packing is the smallest, or a smaller one: HiGHS on bins and assignments."""

import numpy as np

from fleet.packing.solver import Program
from fleet.packing.vectors_bounds import clique_members
from fleet.packing.vectors_tabu import Ints

CELLS = 1_300
"""Largest number of items times bins that is tried."""
NODES = 3_000
"""Branch-and-bound nodes for one number of bins."""


def within_reach(items: int, bins: int) -> bool:
    """Say whether a proof is worth trying."""
    return items * bins <= CELLS


def fewer(sizes: Ints, capacity: Ints, bins: int) -> tuple[bool, Ints | None]:
    """Pack all items into `bins` bins; return whether that was decided, and the packing if any.

    Items of which no two fit together are put into bins of their own first, which removes most
    of the symmetry; another item goes only into bins up to its place in the order.
    """
    apart = clique_members(sizes, capacity)
    if len(apart) > bins:
        return True, None
    rest = np.setdiff1d(np.arange(len(sizes)), apart)
    rest = rest[np.argsort(-(sizes[rest] / np.maximum(capacity, 1)).sum(axis=1), kind="stable")]
    program = Program()
    cell: dict[tuple[int, int], int] = {}
    for place, item in enumerate(apart):
        cell[item, place] = program.variable()
        program.row([(cell[item, place], 1.0)], 1.0, 1.0)
    for place, item in enumerate(rest.tolist()):
        reach = min(bins, len(apart) + place + 1)
        for bin_ in range(reach):
            cell[item, bin_] = program.variable()
        program.row([(cell[item, bin_], 1.0) for bin_ in range(reach)], 1.0, 1.0)
    for bin_ in range(bins):
        inside = [(item, column) for (item, each), column in cell.items() if each == bin_]
        for dimension, limit in enumerate(capacity.tolist()):
            terms = [(column, float(sizes[item, dimension])) for item, column in inside]
            program.row(terms, high=float(limit))
    answer = program.solve(NODES)
    if answer.values is None:
        return answer.finished, None
    home = np.zeros(len(sizes), dtype=np.int64)
    for (item, bin_), column in cell.items():
        if answer.values[column] > 0.5:  # noqa: PLR2004 (a binary)
            home[item] = bin_
    load = np.zeros((bins, len(capacity)), dtype=np.int64)
    np.add.at(load, home, sizes)
    return True, home if bool((load <= capacity).all()) else None
