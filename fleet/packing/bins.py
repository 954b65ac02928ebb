"""Pack vectors into equal bins, and items of classes into bins with set-ups.

Equal bins are servers of a single type whose dimensions are hours, so `pack` searches them. A class
of items with set-ups takes room and costs once per bin that holds the class, which servers do not
know: the best of several greedy orders is taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.packing.problem import Effort, Instance, Ints, Rng, Status
from fleet.packing.servers import pack

ORDERS: dict[Effort, int] = {"fast": 20, "balanced": 200, "proof": 1_000}
"""Orders of the classes in which items with set-ups are placed; the best packing is taken."""
LARGEST = 1 << 60
"""Upper bound of the sums of scaled sizes."""


@dataclass(frozen=True, slots=True)
class BinPacking:
    """Items in bins, and the cost of bins and set-ups; equal bins cost 1."""

    bins: tuple[tuple[int, ...], ...]
    """Items of the bins."""
    cost: int
    bound: int
    """Lower bound of the cost."""

    @property
    def status(self) -> Status:
        """Say whether the packing is proved to be the cheapest."""
        return "optimal" if self.cost == self.bound else "feasible"


def _items_by_bin(assignment: Iterable[int], items: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Return the items of the bins, sorted, from the bins of the items."""
    bins: dict[int, list[int]] = {}
    for bin_, item in zip(assignment, items, strict=True):
        bins.setdefault(bin_, []).append(item)
    return tuple(sorted(tuple(sorted(members)) for members in bins.values()))


def pack_vectors(
    sizes: Sequence[Sequence[int]],
    capacity: Sequence[int],
    *,
    demand: Sequence[int] | None = None,
    effort: Effort = "balanced",
) -> BinPacking:
    """Pack every item into as few bins as the search for servers finds.

    Items are numbered in the order of the rows, copies one after the other; `demand` is the number
    of items per row, by default 1. A negative size makes room for others. Deterministic: the same
    items need the same number of bins in any order, because items are sorted first.

    Raises:
        ValueError: Lengths differ, demand or capacity is negative, an item exceeds the capacity,
            or numbers are too large for exact sums.
    """
    rows, limit = _checked(sizes, capacity, demand)
    order = np.lexsort(rows.T[::-1]) if rows.shape[1] else np.arange(len(rows))
    ordered = rows[order]
    needed = (ordered > 0).any(axis=0)
    ordered, limit = ordered[:, needed], limit[needed]
    if not len(ordered):
        return BinPacking((), 0, 0)
    if not ordered.shape[1]:
        return BinPacking((tuple(range(len(rows))),), 1, 1)
    packing, floor = pack(_equal_servers(ordered, limit), effort)
    bins = _items_by_bin(packing.assignment.tolist(), order.tolist())
    return BinPacking(bins, len(bins), max(floor, _large_items(ordered, limit)))


def _large_items(sizes: Ints, capacity: Ints) -> int:
    """Return the most items above half of a dimension's capacity; none may make room there."""
    return int(((2 * sizes > capacity) & (sizes >= 0).all(axis=0)).sum(axis=0).max())


def _equal_servers(sizes: Ints, capacity: Ints) -> Instance:
    """Return equal bins as servers of a single type, which carry the same in every dimension.

    Where capacities differ, sizes are scaled to a common capacity above items times the highest
    capacity. Rounding each size down then changes no answer: scaled, a load beyond the capacity
    exceeds it by more than 1 per item.
    """
    items, common = len(sizes), int(capacity.max())
    if (capacity != common).any():
        common = items * common + 1
        if items * common >= LARGEST:
            raise ValueError(f"{items} items in bins of up to {capacity.max()} are too large")
        sizes = (sizes.astype(object) * common // capacity).astype(np.int64)
    return Instance(
        loads=sizes,
        rank=np.zeros(items, dtype=np.int64),
        owner=np.arange(items),
        capacity=np.full((1, 1, items + 1), common, dtype=np.int64),
        price=np.ones(1, dtype=np.int64),
    )


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


@dataclass(frozen=True, slots=True)
class SetupInstance:
    """Items with classes; every item fits an empty bin with its class's set-up.

    Bin packing with set-up costs: Baldacci et al. 2025, arXiv:2509.10075, for problem and bound.
    """

    capacity: int
    """Capacity of every bin."""
    bin_price: int
    """Cost of a bin itself, from 0."""
    setup: Sequence[int]
    """Room of the classes' set-ups in a bin, beside the items."""
    price: Sequence[int]
    """Costs of the classes' set-ups in a bin, from 0."""
    sizes: Sequence[int]
    """Sizes of the items, from 0."""
    classes: Sequence[int]
    """Classes of the items, as indices into `setup`."""

    def cost(self, assignment: Sequence[int]) -> int:
        """Return the cost of bins and set-ups."""
        pairs = set(zip(assignment, self.classes, strict=True))
        return self.bin_price * len(set(assignment)) + sum(
            self.price[class_] for _, class_ in pairs
        )

    def bound(self) -> int:
        """Return a lower bound of the cost, from volume and set-ups, of 1 or more items.

        A class needs as many bins as its items fill without the room of its set-up, and as many as
        its items of which no two fit together; that many set-ups are paid, and take room.
        """
        times = [0] * len(self.price)
        for class_ in sorted(set(self.classes)):
            sizes = [s for s, c in zip(self.sizes, self.classes, strict=True) if c == class_]
            room = self.capacity - self.setup[class_]
            alone = sum(2 * size > room for size in sizes)
            times[class_] = max(1, alone, -(-sum(sizes) // room) if room else 1)
        volume = sum(self.sizes) + sum(t * s for t, s in zip(times, self.setup, strict=True))
        large = sum(2 * size > self.capacity for size in self.sizes)
        bins = -(-volume // self.capacity) if self.capacity else 0
        least = max(bins, large, *times)
        return self.bin_price * least + sum(t * p for t, p in zip(times, self.price, strict=True))

    def check(self) -> None:
        """Raise `ValueError` where lengths differ, a number is negative, or an item fits no bin."""
        if len(self.sizes) != len(self.classes) or len(self.setup) != len(self.price):
            raise ValueError(
                "sizes and classes, and setup and price, must be as long as each other"
            )
        numbers = (*self.sizes, *self.setup, *self.price, self.capacity, self.bin_price)
        if min(numbers) < 0:
            raise ValueError("sizes, set-ups, prices and the capacity must not be negative")
        for item, (size, class_) in enumerate(zip(self.sizes, self.classes, strict=True)):
            if not 0 <= class_ < len(self.setup):
                raise ValueError(f"item {item} is of class {class_}: there are {len(self.setup)}")
            needed = size + self.setup[class_]
            if needed > self.capacity:
                raise ValueError(f"item {item} takes {needed}: capacity is {self.capacity}")


def pack_setups(instance: SetupInstance, *, effort: Effort = "balanced") -> BinPacking:
    """Pack every item, at the least cost of bins and set-ups of several greedy orders.

    Deterministic: the same items cost the same in any order, because items are sorted first.

    Raises:
        ValueError: Lengths differ, a number is negative, or an item with its set-up fits no bin.
    """
    instance.check()
    items = range(len(instance.sizes))
    if not items:
        return BinPacking((), 0, 0)
    floor = instance.bound()
    best: list[int] = []
    for order in _orders(instance, ORDERS[effort]):
        assignment = _placed(instance, order)
        if not best or instance.cost(assignment) < instance.cost(best):
            best = assignment
        if instance.cost(best) == floor:
            break
    return BinPacking(_items_by_bin(best, items), instance.cost(best), floor)


def _orders(instance: SetupInstance, number: int) -> Iterator[list[int]]:
    """Yield orders of the items: the largest first, then class by class in any order of these."""
    sizes, classes, items = instance.sizes, instance.classes, range(len(instance.sizes))
    yield sorted(items, key=lambda item: (-sizes[item], classes[item], item))
    rng = Rng(np.random.PCG64(0))
    for _ in range(number):
        turn = rng.permutation(len(instance.setup)).tolist()
        yield sorted(items, key=lambda item: (turn[classes[item]], -sizes[item], item))


def _placed(instance: SetupInstance, order: Sequence[int]) -> list[int]:
    """Place items in an order, in the bin that costs least, then leaves least room."""
    free: list[int] = []
    classes_by_bin: list[set[int]] = []
    assignment = [0] * len(order)
    for item in order:
        size, class_ = instance.sizes[item], instance.classes[item]
        with_setup, price = size + instance.setup[class_], instance.price[class_]
        # A new bin is dearer than any other, or as dear and leaves most room.
        best = (price + instance.bin_price, instance.capacity - with_setup, len(free))
        for bin_, room in enumerate(free):
            if class_ in classes_by_bin[bin_] and room >= size:
                best = min(best, (0, room - size, bin_))
            elif class_ not in classes_by_bin[bin_] and room >= with_setup:
                best = min(best, (price, room - with_setup, bin_))
        chosen = best[2]
        if chosen == len(free):
            free.append(instance.capacity)
            classes_by_bin.append(set())
        free[chosen] -= size if class_ in classes_by_bin[chosen] else with_setup
        classes_by_bin[chosen].add(class_)
        assignment[item] = chosen
    return assignment
