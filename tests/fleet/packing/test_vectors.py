"""Vector packing, against brute force, planted optima and an independent checker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.packing import Effort, pack_vectors
from fleet.packing.bins import BinPacking
from fleet.packing.solver import available
from tests.drawn import drawn, examples
from tests.fleet.packing.oracle import chance, fewest_bins

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
