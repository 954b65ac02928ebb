"""Pack items with set-ups: a class of items takes room and costs once per bin with the class.

Bin packing with set-up costs, for example base weights on a GPU, shared by the adapters of a base.
The search ruins a few bins and recreates them, an item in the bin where cost and then free space
are least (Schrimpf et al. 2000; Baldacci et al. 2025, arXiv:2509.10075, for problem and bounds).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp

import numpy as np

from fleet.packing.problem import BinPacking, Effort, Rng, bins_of

MOVES: dict[Effort, int] = {"fast": 10_000, "balanced": 100_000, "proof": 400_000}
"""Items placed in all; about a quarter of a million a CPU second, fewer with many bins."""
RUINED = 4
"""Upper bound of the bins emptied at once, less 1."""
HEAT = 0.35
"""Price of a worse packing that is accepted with chance 1/e at the start, in bins."""
BLINK = 0.01
"""Share of fitting bins that are overlooked."""
DRAWS = 4096
"""Random numbers drawn at a time."""


@dataclass(frozen=True, slots=True)
class SetupInstance:
    """Items with classes; every item fits an empty bin with its class's set-up."""

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

    def part(self, items: Sequence[int]) -> "SetupInstance":
        """Return the instance of some items, in their order."""
        sizes, classes = ([row[item] for item in items] for row in (self.sizes, self.classes))
        return SetupInstance(self.capacity, self.bin_price, self.setup, self.price, sizes, classes)

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
            taken = size + self.setup[class_]
            if taken > self.capacity:
                raise ValueError(f"item {item} takes {taken}: capacity is {self.capacity}")


def pack_setups(instance: SetupInstance, *, effort: Effort = "balanced") -> BinPacking:
    """Pack every item, at the least cost of bins and set-ups that the search finds.

    Deterministic: the same items cost the same in any order, because items are sorted first. The
    efforts take about 0.05, 0.5 and 2 CPU seconds for 100 items.

    Raises:
        ValueError: Lengths differ, a number is negative, or an item with its set-up fits no bin.
    """
    instance.check()
    sizes, classes = instance.sizes, instance.classes
    if not sizes:
        return BinPacking((), 0, 0)
    order = sorted(range(len(sizes)), key=lambda item: (classes[item], sizes[item], item))
    ordered = instance.part(order)
    floor = ordered.bound()
    search = _RuinAndRecreate(ordered)
    search.run(MOVES[effort], floor)
    return BinPacking(bins_of(search.best, order), ordered.cost(search.best), floor)


@dataclass(slots=True, eq=False)
class _Bin:
    free: int
    items: dict[int, list[int]] = field(default_factory=dict)

    def copy(self) -> "_Bin":
        return _Bin(self.free, {class_: items.copy() for class_, items in self.items.items()})


class _RuinAndRecreate:
    def __init__(self, instance: SetupInstance) -> None:
        self.instance = instance
        self.rng = Rng(np.random.PCG64(0))
        self.drawn: list[float] = []
        self.bins: list[_Bin] = []
        self.saved: dict[int, _Bin | None] = {}
        sizes, classes = instance.sizes, instance.classes
        first = sorted(range(len(sizes)), key=lambda i: (classes[i], -sizes[i], i))
        self._recreate(first, blink=0.0)
        self.best = self._assignment()

    def _draw(self) -> float:
        if not self.drawn:
            self.drawn = self.rng.random(DRAWS).tolist()
        return self.drawn.pop()

    def run(self, moves: int, floor: int) -> None:
        """Ruin and recreate until `moves` items were placed."""
        least, spent = sum(map(self._paid, self.bins)), 0
        heat = HEAT * max(1, self.instance.bin_price, *self.instance.price)
        while spent < moves and least > floor:
            self.saved = {}
            gone = self._ordered(self._ruined())
            self._recreate(gone, blink=BLINK)
            spent += len(gone) + 2
            before = sum(self._worth(old) for old in self.saved.values() if old is not None)
            change = sum(self._worth(self.bins[index]) for index in self.saved) - before
            cooled = heat * (1 - spent / moves) ** 2 + 1e-9
            if change <= 0 or self._draw() < exp(-min(change / cooled, 700.0)):
                if (cost := sum(map(self._paid, self.bins))) < least:
                    least, self.best = cost, self._assignment()
            else:
                self._undo()

    def _undo(self) -> None:
        for index, old in self.saved.items():
            if old is not None:
                self.bins[index] = old
        fresh = [index for index, old in self.saved.items() if old is None]
        if fresh:
            del self.bins[min(fresh) :]

    def _paid(self, bin_: _Bin) -> int:
        price = self.instance.price
        used = self.instance.bin_price if bin_.items else 0
        return used + sum(price[class_] for class_ in bin_.items)

    def _worth(self, bin_: _Bin) -> float:
        """Return the cost of a bin, less a little for the square of its free space."""
        if not bin_.items:
            return 0.0
        free = bin_.free / max(self.instance.capacity, 1)
        return self._paid(bin_) - max(self.instance.bin_price, 1) * free * free

    def _assignment(self) -> list[int]:
        assignment = [0] * len(self.instance.sizes)
        for index, bin_ in enumerate(self.bins):
            for items in bin_.items.values():
                for item in items:
                    assignment[item] = index
        return assignment

    def _save(self, index: int) -> _Bin:
        if index not in self.saved:
            self.saved[index] = self.bins[index].copy()
        return self.bins[index]

    def _ruined(self) -> list[int]:
        """Empty a few bins, or take a class out of the bins with the fewest items of the class."""
        filled = [index for index, bin_ in enumerate(self.bins) if bin_.items]
        number = 1 + int(self._draw() * RUINED)
        turn = self._draw()
        if turn < 0.4:  # noqa: PLR2004 (any bins)
            keys = [(self._draw(), index) for index in filled]
            chosen = [index for _, index in sorted(keys)[: number + 1]]
            return [item for index in chosen for item in self._emptied(index)]
        class_ = self.instance.classes[int(self._draw() * len(self.instance.classes))]
        holding = sorted(
            (len(self.bins[index].items[class_]) + self._draw() * 3, index)
            for index in filled
            if class_ in self.bins[index].items
        )
        chosen = [index for _, index in holding[: number + 1]]
        if turn < 0.7:  # noqa: PLR2004 (bins of a class)
            return [item for index in chosen for item in self._emptied(index)]
        gone = [item for index in chosen for item in self._without(index, class_)]
        other = filled[int(self._draw() * len(filled))]
        return gone + self._emptied(other)

    def _emptied(self, index: int) -> list[int]:
        bin_ = self._save(index)
        gone = [item for items in bin_.items.values() for item in items]
        self.bins[index] = _Bin(self.instance.capacity)
        return gone

    def _without(self, index: int, class_: int) -> list[int]:
        bin_ = self._save(index)
        gone = bin_.items.pop(class_)
        bin_.free += self.instance.setup[class_] + sum(self.instance.sizes[item] for item in gone)
        return gone

    def _ordered(self, gone: list[int]) -> list[int]:
        sizes, classes = self.instance.sizes, self.instance.classes
        turn = self._draw()
        if turn < 0.4:  # noqa: PLR2004 (classes together, in any order)
            keys = {class_: self._draw() for class_ in sorted({classes[item] for item in gone})}
            return sorted(gone, key=lambda i: (keys[classes[i]], -sizes[i], i))
        if turn < 0.8:  # noqa: PLR2004 (the largest first)
            return sorted(gone, key=lambda i: (-sizes[i], i))
        return [item for _, item in sorted((self._draw(), item) for item in gone)]

    def _recreate(self, order: Sequence[int], blink: float) -> None:
        """Place items in an order, in the bin that costs least, then leaves least room."""
        instance, bins = self.instance, self.bins
        for item in order:
            size, class_ = instance.sizes[item], instance.classes[item]
            both, paid = size + instance.setup[class_], instance.price[class_]
            best, chosen = (paid + instance.bin_price, instance.capacity - both), -1
            for index, bin_ in enumerate(bins):
                left = bin_.free - size
                if left < 0:
                    continue
                if class_ in bin_.items:
                    found = (0, left)
                elif bin_.free >= both:
                    found = (paid if bin_.items else paid + instance.bin_price, bin_.free - both)
                else:
                    continue
                if (found < best or (chosen < 0 and found <= best)) and (
                    not blink or self._draw() >= blink
                ):
                    best, chosen = found, index
            if chosen < 0:
                chosen = len(bins)
                bins.append(_Bin(instance.capacity))
                self.saved.setdefault(chosen, None)
            elif chosen not in self.saved:
                self.saved[chosen] = bins[chosen].copy()
            bin_ = bins[chosen]
            bin_.free -= size if class_ in bin_.items else both
            bin_.items.setdefault(class_, []).append(item)
