"""Vector packing, against brute force, planted optima and an independent checker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Effort, pack_setups, pack_vectors
from fleet.packing.bins import BinPacking, SetupInstance
from fleet.packing.solver import available
from tests.drawn import drawn, examples
from tests.fleet.packing.oracle import chance, fewest_bins, partitions

REPOSITORY = Path(__file__).parents[3]


def planted(seed: int, bins: int, dimensions: int, full: int) -> list[list[int]]:
    """Cut bins that are so full into items."""
    draw = chance(seed)
    items: list[list[int]] = []
    for _ in range(bins):
        left = [full] * dimensions
        for pieces in range(draw.randint(8, 12), 1, -1):
            piece = [draw.randint(0, 2 * each // pieces) for each in left]
            left = [each - part for each, part in zip(left, piece, strict=True)]
            items.append(piece)
        items.append(left)
    draw.shuffle(items)
    return items


def check(packing: BinPacking, sizes: list[list[int]], capacity: list[int]) -> None:
    placed = sorted(item for items in packing.bins for item in items)
    assert placed == list(range(len(sizes)))
    assert all(packing.bins)
    for items in packing.bins:
        for dimension, limit in enumerate(capacity):
            assert sum(sizes[item][dimension] for item in items) <= limit
    assert packing.bound <= len(packing.bins)
    assert (packing.status == "optimal") == (packing.bound == len(packing.bins))


@st.composite
def tiny(draw: st.DrawFn, *, least: int = 0) -> tuple[list[list[int]], list[int]]:
    capacity = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    row = st.tuples(*(st.integers(least, limit) for limit in capacity)).map(list)
    return draw(st.lists(row, max_size=7)), capacity


@drawn
@settings(deadline=None, max_examples=examples(30, 60))
@given(tiny())
def test_a_tiny_case_is_packed_as_well_as_by_trying_everything(
    case: tuple[list[list[int]], list[int]],
) -> None:
    sizes, capacity = case
    packing = pack_vectors(sizes, capacity, effort="proof")
    check(packing, sizes, capacity)
    assert packing.bound <= fewest_bins(sizes, capacity) <= len(packing.bins)
    if available():
        assert packing.status == "optimal"


@settings(deadline=None, max_examples=60)
@given(tiny(least=-5), st.sampled_from(["fast", "balanced"]))
def test_sizes_below_zero_make_room(
    case: tuple[list[list[int]], list[int]], effort: Effort
) -> None:
    packing = pack_vectors(*case, effort=effort)
    check(packing, *case)
    assert packing.bound <= fewest_bins(*case)


@pytest.mark.parametrize(("bins", "dimensions", "full"), [(4, 26, 850), (9, 5, 930), (30, 3, 970)])
def test_a_planted_optimum_is_found(bins: int, dimensions: int, full: int) -> None:
    sizes = planted(bins, bins, dimensions, full)
    packing = pack_vectors(sizes, [1000] * dimensions)
    check(packing, sizes, [1000] * dimensions)
    assert (len(packing.bins), packing.bound, packing.status) == (bins, bins, "optimal")


def test_many_items_are_searched_in_parts() -> None:
    sizes = planted(1, 120, 14, 480)
    packing = pack_vectors(sizes, [500] * 14, effort="fast")
    check(packing, sizes, [500] * 14)
    assert len(packing.bins) <= 130


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_the_number_of_bins_does_not_depend_on_the_order_of_items(effort: Effort) -> None:
    sizes = [[i * 37 % 41 + 20, i * 53 % 43 + 20] for i in range(24)]
    found = set()
    for seed in range(2):
        shuffled = chance(seed).sample(sizes, len(sizes))
        packing = pack_vectors(shuffled, [100, 100], effort=effort)
        check(packing, shuffled, [100, 100])
        found.add(tuple(sorted(str(sorted(shuffled[i] for i in b)) for b in packing.bins)))
    assert len(found) == 1


def test_the_packing_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "from fleet.packing import pack_vectors;"
        "sizes = [[i * 37 % 41 + 10, i * 53 % 47 + 10] for i in range(60)];"
        "print(pack_vectors(sizes, [100, 100], effort='fast'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "random")
    }
    assert len(outputs) == 1


def test_demand_repeats_a_row() -> None:
    packing = pack_vectors([[5], [3]], [10], demand=[3, 2])
    assert packing.status == "optimal"
    assert len(packing.bins) == 3
    assert sorted(item for items in packing.bins for item in items) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("sizes", "bins"),
    [([], 0), ([[0, 0]], 1), ([[0, 0], [1, 0]], 1), ([[10, 10], [10, 10]], 2), ([[6, 0]] * 3, 3)],
)
def test_the_smallest_cases(sizes: list[list[int]], bins: int) -> None:
    packing = pack_vectors(sizes, [10, 10])
    check(packing, sizes, [10, 10])
    assert (len(packing.bins), packing.bound, packing.status) == (bins, bins, "optimal")


@pytest.mark.parametrize(
    ("sizes", "demand", "says"),
    [
        ([[11]], None, "item 0 has size 11 in dimension 0: capacity is 10"),
        ([[1, 2]], None, "item 0 has 2 sizes for 1 dimensions"),
        ([[1]], [1, 2], "demand has 2 entries for 1 rows of sizes"),
        ([[1]], [-1], "demand and capacity must not be negative"),
    ],
)
def test_what_cannot_be_packed_is_said(
    sizes: list[list[int]], demand: list[int] | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        pack_vectors(sizes, [10], demand=demand)


Case = tuple[list[int], list[int], list[int], list[int], int]
CAPACITY = 20


@st.composite
def tiny_case(draw: st.DrawFn) -> Case:
    kinds = draw(st.integers(1, 3))
    setup = draw(st.lists(st.integers(0, 6), min_size=kinds, max_size=kinds))
    price = draw(st.lists(st.integers(0, 4), min_size=kinds, max_size=kinds))
    items = draw(st.lists(st.tuples(st.integers(0, 14), st.integers(0, kinds - 1)), max_size=7))
    sizes, classes = [size for size, _ in items], [which for _, which in items]
    return sizes, classes, setup, price, draw(st.integers(0, 5))


def paid(case: Case, groups: list[list[int]]) -> int | None:
    """Return the cost of a packing; None where a bin is too full."""
    sizes, classes, setup, price, bin_price = case
    total = 0
    for group in groups:
        held = {classes[item] for item in group}
        if sum(sizes[item] for item in group) + sum(setup[each] for each in held) > CAPACITY:
            return None
        total += bin_price + sum(price[each] for each in held)
    return total


def check_setups(packing: BinPacking, case: Case) -> None:
    groups = [list(each) for each in packing.bins]
    assert sorted(item for group in groups for item in group) == list(range(len(case[0])))
    assert all(groups)
    assert paid(case, groups) == packing.cost
    assert packing.bound <= packing.cost
    assert (packing.status == "optimal") == (packing.bound == packing.cost)


def packed(case: Case, effort: Effort = "balanced") -> BinPacking:
    sizes, classes, setup, price, bin_price = case
    instance = SetupInstance(CAPACITY, bin_price, setup, price, sizes, classes)
    return pack_setups(instance, effort=effort)


@settings(deadline=None, max_examples=60)
@given(tiny_case())
def test_a_tiny_case_costs_little_more_than_what_trying_everything_finds(case: Case) -> None:
    packing = packed(case, effort="fast")
    check_setups(packing, case)
    costs = [paid(case, groups) for groups in partitions(range(len(case[0])))]
    least = min(each for each in costs if each is not None)
    assert packing.bound <= least <= packing.cost <= 1.5 * least


def test_a_class_stays_together_where_its_set_up_is_dear() -> None:
    case: Case = ([5, 5, 5, 5], [0, 1, 0, 1], [6, 6], [3, 3], 1)
    packing = packed(case)
    assert packing.bins == ((0, 2), (1, 3))
    assert (packing.cost, packing.status) == (8, "optimal")


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_the_cost_does_not_depend_on_the_order_of_items(effort: Effort) -> None:
    draw = chance(1)
    items = [(draw.randint(1, 9), draw.randrange(4)) for _ in range(60)]
    found = set()
    for seed in range(3):
        shuffled = chance(seed).sample(items, len(items))
        case: Case = ([a for a, _ in shuffled], [b for _, b in shuffled], [3] * 4, [2] * 4, 5)
        packing = packed(case, effort=effort)
        check_setups(packing, case)
        found.add(packing.cost)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (([1], [0, 0], [1], [1], 1), "must be as long as each other"),
        (([1], [0], [-1], [1], 1), "must not be negative"),
        (([1], [2], [1], [1], 1), "item 0 is of class 2: there are 1"),
        (([1, 18], [0, 0], [3], [1], 1), "item 1 takes 21: capacity is 20"),
    ],
)
def test_set_ups_that_cannot_be_packed_are_said(case: Case, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        packed(case)
