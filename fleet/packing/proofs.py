"""Proof that no cheaper servers hold a group, or cheaper ones: HiGHS, see `Program`.

Capacity over the number of adapters is replaced by straight lines a little above the table, so
the program allows a little more than the table does: what it rules out is ruled out, and what
it finds is checked against the table.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fleet.packing.bounds import rounded, step
from fleet.packing.problem import Group, Rack
from fleet.packing.solver import Program

CELLS = 700
"""Largest number of items times servers that is tried."""
NODES = 400
TOLERANCE = 0.004
"""How far a line may lie above the table, as a share."""


@dataclass(frozen=True, slots=True)
class Line:
    """Capacity of a GPU type at a highest rank, for so many adapters: `base + slope * count`."""

    gpu: int
    rank: int
    least: int
    most: int
    base: float
    slope: float


def lines(group: Group) -> list[Line]:
    """Return lines that together lie on or above the capacity table."""
    found: list[Line] = []
    for gpu in range(len(group.price)):
        for rank in np.unique(group.rank).tolist():
            found += _lines(group, gpu, rank)
    return found


def _lines(group: Group, gpu: int, rank: int) -> list[Line]:
    table = group.capacity[gpu, rank].astype(float)
    last = min(group.most, len(group.rank))
    found: list[Line] = []
    least = 1
    while least <= last:
        if table[least] <= 0:
            least += 1
            continue
        best = Line(gpu, rank, least, least, float(table[least]), 0.0)
        for most in range(least + 1, last + 1):
            slope = float(table[most] - table[least]) / (most - least)
            line = table[least] + slope * np.arange(most - least + 1)
            above = float((table[least : most + 1] - line).max())
            gap = line + above - table[least : most + 1]
            if bool((gap > TOLERANCE * table[least : most + 1] + 1).any()):
                break
            base = float(table[least]) + above - slope * least
            best = Line(gpu, rank, least, most, base, slope)
        found.append(best)
        least = best.most + 1
    return found


def aggregate(group: Group, nodes: int = 200) -> int:
    """Return a lower bound from numbers of servers by line, not told which adapter is where."""
    program = Program()
    unit = step(group)
    terms: list[tuple[Line, int, int]] = []
    for line in lines(group):
        servers = program.variable(cost=float(group.price[line.gpu]) / unit, upper=1e4)
        held = program.variable(upper=1e6)
        program.row([(held, 1.0), (servers, -float(line.most))], high=0.0)
        program.row([(held, 1.0), (servers, -float(line.least))], low=0.0)
        terms.append((line, servers, held))
    for rank in np.unique(group.rank).tolist():
        members = group.rank >= rank
        above = [each for each in terms if each[0].rank >= rank]
        low = float(members.sum())
        high = low if members.all() else float("inf")
        if (group.loads[members].max(axis=1) > 0).all():
            program.row([(held, 1.0) for _, _, held in above], low, high)
        peak = float(group.loads[members].sum(axis=0).max())
        carried = [
            pair
            for line, servers, held in above
            for pair in ((servers, line.base), (held, line.slope))
        ]
        program.row([pair for pair in carried if pair[1]], low=peak)
        replicas = int(np.unique(group.owner[members], return_counts=True)[1].max())
        program.row([(servers, 1.0) for _, servers, _ in above], low=float(replicas))
    answer = program.solve(nodes)
    return rounded(group, max(answer.bound, 0.0) * unit) if np.isfinite(answer.bound) else 0


def most_servers(group: Group, budget: int) -> int:
    """Return how many servers a budget buys at most, of types that hold anything."""
    usable = (group.capacity[:, int(group.rank.min()), 1:] > 0).any(axis=1)
    return int(budget // int(group.price[usable].min())) if usable.any() else 0


def within_reach(group: Group, rack: Rack) -> bool:
    """Say whether a proof is worth trying."""
    bins = most_servers(group, rack.price(group) - step(group))
    return len(group.rank) * bins <= CELLS


def cheaper(group: Group, rack: Rack, floor: int) -> tuple[int, Rack | None]:
    """Look for a rack below this one's price; return a lower bound and the rack, if any."""
    unit = step(group)
    target = rack.price(group) - unit
    bins = most_servers(group, target)
    if bins == 0:
        return rack.price(group), None
    program, cell, kind = _program(group, bins, target, floor, unit)
    answer = program.solve(NODES)
    if answer.finished and answer.values is None:
        return rack.price(group), None
    low = floor
    if np.isfinite(answer.bound):
        low = min(rack.price(group), max(floor, rounded(group, answer.bound * unit)))
    if answer.values is None:
        return low, None
    home = np.zeros(len(group.rank), dtype=np.int64)
    for (item, bin_), column in cell.items():
        if answer.values[column] > 0.5:  # noqa: PLR2004 (a binary)
            home[item] = bin_
    kept, inner = np.unique(home, return_inverse=True)
    gpus = np.zeros(len(kept), dtype=np.int64)
    for place, each in enumerate(kept.tolist()):
        for line, column in kind[each]:
            if answer.values[column] > 0.5:  # noqa: PLR2004
                gpus[place] = line.gpu
    return low, Rack(gpus, inner.astype(np.int64))


def _program(
    group: Group, bins: int, target: int, floor: int, unit: int
) -> tuple[Program, dict[tuple[int, int], int], list[list[tuple[Line, int]]]]:
    program = Program()
    cell: dict[tuple[int, int], int] = {}
    kind: list[list[tuple[Line, int]]] = []
    shapes = lines(group)
    items = range(len(group.rank))
    price = (group.price / unit).tolist()
    for bin_ in range(bins):
        chosen: list[tuple[Line, int]] = []
        room: list[tuple[int, float]] = []
        number: list[tuple[int, float]] = []
        for line in shapes:
            used = program.variable(cost=float(price[line.gpu]))
            held = program.variable(upper=float(line.most))
            program.row([(held, 1.0), (used, -float(line.most))], high=0.0)
            program.row([(held, 1.0), (used, -float(line.least))], low=0.0)
            chosen.append((line, used))
            room += [(used, -line.base)] + ([(held, -line.slope)] if line.slope else [])
            number.append((held, -1.0))
        kind.append(chosen)
        program.row([(used, 1.0) for _, used in chosen], high=1.0)
        for item in items:
            cell[item, bin_] = program.variable()
            fitting = [(u, -1.0) for line, u in chosen if line.rank >= group.rank[item]]
            program.row([(cell[item, bin_], 1.0), *fitting], high=0.0)
        program.row([*((cell[item, bin_], 1.0) for item in items), *number], 0.0, 0.0)
        for hour in range(group.loads.shape[1]):
            load = [(cell[i, bin_], float(group.loads[i, hour])) for i in items]
            program.row([*(pair for pair in load if pair[1]), *room], high=0.0)
        for owner, times in zip(*np.unique(group.owner, return_counts=True), strict=True):
            if times > 1:
                mates = (group.owner == owner).nonzero()[0].tolist()
                program.row([(cell[item, bin_], 1.0) for item in mates], high=1.0)
    for item in items:
        program.row([(cell[item, bin_], 1.0) for bin_ in range(bins)], 1.0, 1.0)
    spent = [(used, float(price[line.gpu])) for each in kind for line, used in each]
    program.row(spent, float(floor // unit), float(target // unit))
    for left, right in pairwise(kind):
        order = [(used, float(price[line.gpu])) for line, used in left]
        order += [(used, -float(price[line.gpu])) for line, used in right]
        program.row(order, low=0.0)
    return program, cell, kind
