"""Prove with HiGHS that no cheaper packing exists, or find the packing.

Capacity over the number of items is replaced by straight lines a little above the table, so the
program of servers allows a little more than the table does: a price that the program rules out is
ruled out by the table too, and a packing that the program finds has to be checked.
"""

from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from fleet.packing.bounds import rounded
from fleet.packing.problem import Instance, Ints, Packing
from fleet.packing.solver import Program, SolverResult

CELLS, NODES = 700, 400
"""Upper bounds for servers: items times servers, and branch-and-bound nodes."""
AGGREGATE_NODES = 200
"""Upper bound of the nodes for `aggregate_bound`."""
TOLERANCE = 0.004
"""Upper bound of how far a line lies above the table, as a share."""

Cells = dict[tuple[int, int], int]
"""Variables by item and bin: 1 where the item is in the bin."""


class CapacityLine(NamedTuple):
    """Capacity of a type at a highest rank, for a range of counts: `base + slope * count`."""

    gpu: int
    rank: int
    least: int
    most: int
    base: float
    slope: float


def _lines(instance: Instance) -> list[CapacityLine]:
    """Return lines that together lie on or above the capacity table."""
    ranks = np.unique(instance.rank // instance.hastes) * instance.hastes
    tops = (ranks[:, None] + np.arange(instance.hastes)).ravel()
    pairs = product(range(len(instance.price)), tops.tolist())
    return [line for gpu, rank in pairs for line in _lines_of(instance, gpu, rank)]


def _lines_of(instance: Instance, gpu: int, rank: int) -> list[CapacityLine]:
    table = instance.capacity[gpu, rank].astype(float)
    last = min(instance.most, len(instance.rank))
    lines: list[CapacityLine] = []
    least = 1
    while least <= last:
        if table[least] <= 0:
            least += 1
            continue
        best = CapacityLine(gpu, rank, least, least, float(table[least]), 0.0)
        for most in range(least + 1, last + 1):
            slope = float(table[most] - table[least]) / (most - least)
            line = table[least] + slope * np.arange(most - least + 1)
            above = float((table[least : most + 1] - line).max())
            gap = line + above - table[least : most + 1]
            if bool((gap > TOLERANCE * table[least : most + 1] + 1).any()):
                break
            base = float(table[least]) + above - slope * least
            best = CapacityLine(gpu, rank, least, most, base, slope)
        lines.append(best)
        least = best.most + 1
    return lines


def _count_in_range(program: Program, line: CapacityLine, servers: int, count: int) -> None:
    """Add rows: the number of items is in the line's range for every server of the line."""
    program.row([(count, 1.0), (servers, -float(line.most))], high=0.0)
    program.row([(count, 1.0), (servers, -float(line.least))], low=0.0)


def aggregate_bound(instance: Instance) -> int:
    """Return a lower bound of the price from numbers of servers, without an assignment."""
    program = Program()
    step = instance.price_step
    terms: list[tuple[CapacityLine, int, int]] = []
    for line in _lines(instance):
        servers = program.variable(cost=float(instance.price[line.gpu]) / step, upper=1e4)
        count = program.variable(upper=1e6)
        _count_in_range(program, line, servers, count)
        terms.append((line, servers, count))
    for rank in np.unique(instance.rank).tolist():
        members = instance.covers(instance.rank, rank)
        above = [term for term in terms if instance.covers(term[0].rank, rank)]
        low = float(members.sum())
        high = low if members.all() else float("inf")
        if (instance.loads[members].max(axis=1) > 0).all():
            program.row([(count, 1.0) for _, _, count in above], low, high)
        peak = float(instance.loads[members].sum(axis=0).max())
        carried = [
            pair
            for line, servers, count in above
            for pair in ((servers, line.base), (count, line.slope))
        ]
        program.row([pair for pair in carried if pair[1]], low=peak)
        copies = instance.part(members.nonzero()[0]).copies()
        program.row([(servers, 1.0) for _, servers, _ in above], low=float(copies))
    bound = program.solve(AGGREGATE_NODES).bound
    return rounded(instance, max(bound, 0.0) * step) if np.isfinite(bound) else 0


def _most_servers(instance: Instance, budget: int) -> int:
    """Return the upper bound of the servers that a budget buys, of types that hold anything."""
    usable = (instance.capacity[:, instance.lowest, 1:] > 0).any(axis=1)
    return int(budget // int(instance.price[usable].min())) if usable.any() else 0


def is_small(instance: Instance, packing: Packing) -> bool:
    """Say whether an instance is small enough for `cheaper`."""
    servers = _most_servers(instance, packing.price(instance) - instance.price_step)
    return len(instance.rank) * servers <= CELLS


def cheaper(instance: Instance, packing: Packing, floor: int) -> tuple[int, Packing | None]:
    """Search for a cheaper packing; return a lower bound of the price, and the packing if any."""
    step, price = instance.price_step, packing.price(instance)
    servers = _most_servers(instance, price - step)
    if servers == 0:
        return price, None
    program, cells, lines = _program(instance, servers, price - step, floor)
    result = program.solve(NODES)
    if result.finished and result.values is None:
        return price, None
    low = floor
    if np.isfinite(result.bound):
        low = min(price, max(floor, rounded(instance, result.bound * step)))
    if result.values is None:
        return low, None
    opened, inner = np.unique(_assignment(result, cells, len(instance.rank)), return_inverse=True)
    gpus = [
        next((line.gpu for line, used in lines[server] if result.chosen(used)), 0)
        for server in opened.tolist()
    ]
    return low, Packing(np.array(gpus, dtype=np.int64), inner.astype(np.int64))


def _assignment(result: SolverResult, cells: Cells, items: int) -> Ints:
    assignment = np.zeros(items, dtype=np.int64)
    for (item, bin_), variable in cells.items():
        if result.chosen(variable):
            assignment[item] = bin_
    return assignment


def _program(
    instance: Instance, servers: int, budget: int, floor: int
) -> tuple[Program, Cells, list[list[tuple[CapacityLine, int]]]]:
    program = Program()
    cells: Cells = {}
    lines: list[list[tuple[CapacityLine, int]]] = []
    shapes = _lines(instance)
    items = range(len(instance.rank))
    tops = np.arange(instance.capacity.shape[1])
    above = [set(np.flatnonzero(instance.covers(tops, rank)).tolist()) for rank in instance.rank]
    step = instance.price_step
    price = (instance.price / step).tolist()
    for server in range(servers):
        chosen: list[tuple[CapacityLine, int]] = []
        limit: list[tuple[int, float]] = []
        number: list[tuple[int, float]] = []
        for line in shapes:
            used = program.variable(cost=float(price[line.gpu]))
            count = program.variable(upper=float(line.most))
            _count_in_range(program, line, used, count)
            chosen.append((line, used))
            limit += [(used, -line.base)] + ([(count, -line.slope)] if line.slope else [])
            number.append((count, -1.0))
        lines.append(chosen)
        program.row([(used, 1.0) for _, used in chosen], high=1.0)
        for item in items:
            cells[item, server] = program.variable()
            fitting = [(used, -1.0) for line, used in chosen if line.rank in above[item]]
            program.row([(cells[item, server], 1.0), *fitting], high=0.0)
        program.row([*((cells[item, server], 1.0) for item in items), *number], 0.0, 0.0)
        for loads in instance.loads.T.tolist():
            load = [(cells[item, server], float(loads[item])) for item in items if loads[item]]
            program.row([*load, *limit], high=0.0)
        for owner, times in zip(*np.unique(instance.owner, return_counts=True), strict=True):
            if times > 1:
                copies = (instance.owner == owner).nonzero()[0].tolist()
                program.row([(cells[item, server], 1.0) for item in copies], high=1.0)
    for item in items:
        program.one_of([cells[item, server] for server in range(servers)])
    costs = [[(used, float(price[line.gpu])) for line, used in chosen] for chosen in lines]
    program.row([term for cost in costs for term in cost], float(floor // step), budget // step)
    for dearer, cheaper_cost in pairwise(costs):  # cheaper servers come last
        program.row(dearer + [(used, -cost) for used, cost in cheaper_cost], low=0.0)
    return program, cells, lines
