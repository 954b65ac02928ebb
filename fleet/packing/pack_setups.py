"""The plain packer of items with classes: each class pays a set-up in every bin that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.packing.setups import Classed, bound, cost, pack
from fleet.packing.vectors import Effort, Status

MOVES: dict[Effort, int] = {"fast": 10_000, "balanced": 100_000, "proof": 400_000}
"""Items placed in all; about a quarter of a million a CPU second, fewer with many bins."""


@dataclass(frozen=True, slots=True)
class SetupPacking:
    """Items in bins, and what bins and set-ups cost."""

    bins: tuple[tuple[int, ...], ...]
    cost: int
    bound: int
    """No packing costs less."""
    status: Status


def pack_setups(
    sizes: Sequence[int],
    classes: Sequence[int],
    capacity: int,
    *,
    setup: Sequence[int],
    price: Sequence[int],
    bin_price: int = 1,
    effort: Effort = "balanced",
    seed: int = 0,
) -> SetupPacking:
    """Pack every item, at the least cost of bins and set-ups that the search finds.

    Deterministic: the same items cost the same in whatever order they come, because they are
    sorted first.

    Args:
        sizes: Of each item, from 0.
        classes: Class of each item, an index into `setup`.
        capacity: Of every bin.
        setup: What each class takes in a bin beside its items, once.
        price: What each class costs in each bin that holds it, from 0.
        bin_price: What a bin costs.
        effort: How many moves to search for: about 0.05, 0.5 and 2 CPU seconds for 100 items.
        seed: Another seed may find another packing.

    Raises:
        ValueError: Lengths differ, something is negative, or an item with its set-up fits no bin.
    """
    _check(sizes, classes, capacity, setup, price, bin_price)
    if not sizes:
        return SetupPacking((), 0, 0, "optimal")
    order = sorted(range(len(sizes)), key=lambda item: (classes[item], sizes[item], item))
    case = Classed(
        [sizes[item] for item in order], [classes[item] for item in order], capacity, setup, price,
        bin_price,
    )  # fmt: skip
    floor = bound(case)
    home = pack(case, moves=MOVES[effort], floor=floor, seed=seed)
    bins: list[list[int]] = [[] for _ in range(max(home) + 1)]
    for place, item in sorted(zip(home, order, strict=True)):
        bins[place].append(item)
    paid = cost(case, home)
    status: Status = "optimal" if paid == floor else "feasible"
    return SetupPacking(tuple(sorted(tuple(each) for each in bins)), paid, floor, status)


def _check(
    sizes: Sequence[int],
    classes: Sequence[int],
    capacity: int,
    setup: Sequence[int],
    price: Sequence[int],
    bin_price: int,
) -> None:
    if len(sizes) != len(classes) or len(setup) != len(price):
        raise ValueError("sizes and classes, and setup and price, must be as long as each other")
    if any(each < 0 for each in (*sizes, *setup, *price, capacity, bin_price)):
        raise ValueError("sizes, set-ups, prices and the capacity must not be negative")
    for item, (size, which) in enumerate(zip(sizes, classes, strict=True)):
        if not 0 <= which < len(setup):
            raise ValueError(f"item {item} is of class {which}: there are {len(setup)}")
        if size + setup[which] > capacity:
            raise ValueError(f"item {item} takes {size + setup[which]}: capacity is {capacity}")
