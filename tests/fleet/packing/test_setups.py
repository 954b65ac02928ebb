"""Items whose classes pay set-ups, against brute force and an independent checker."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Effort, pack_setups
from fleet.packing.bins import BinPacking, SetupInstance
from tests.fleet.packing.oracle import chance, partitions

Case = tuple[list[int], list[int], list[int], list[int], int]
CAPACITY = 20


@st.composite
def tiny(draw: st.DrawFn) -> Case:
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


def check(packing: BinPacking, case: Case) -> None:
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
@given(tiny())
def test_a_tiny_case_costs_little_more_than_what_trying_everything_finds(case: Case) -> None:
    packing = packed(case, effort="fast")
    check(packing, case)
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
        check(packing, case)
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
def test_what_cannot_be_packed_is_said(case: Case, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        packed(case)
