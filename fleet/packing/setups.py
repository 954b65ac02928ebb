"""Bins in which each class of items pays a set-up: weight and cost, once a bin.

Base weights on a GPU are such a set-up: the adapters of a base share one copy. The search ruins
a few bins and recreates them, item by item where it costs least and leaves least room (Schrimpf
et al. 2000; Baldacci et al. 2025, arXiv:2509.10075, for the problem and its bounds).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp

import numpy as np

RUINED = 4
"""Most bins emptied at once, and one more."""
HEAT = 0.35
"""Price of the worse packing that is accepted one time in e at the start, in bins."""
BLINK = 0.01
"""How often a fitting bin is overlooked."""
DRAWS = 4096
"""Random numbers drawn at a time."""


@dataclass(frozen=True, slots=True)
class Classed:
    """Items with classes; every item fits an empty bin with its class's set-up."""

    sizes: Sequence[int]
    """From 0."""
    classes: Sequence[int]
    """Class of each item."""
    capacity: int
    setup: Sequence[int]
    """What a bin loses to each class that it holds."""
    price: Sequence[int]
    """Cost of each class in each bin that holds it, from 0."""
    bin_price: int
    """Cost of a bin itself, from 0."""


@dataclass(slots=True, eq=False)
class _Bin:
    """Items in one bin, by class."""

    free: int
    held: dict[int, list[int]] = field(default_factory=dict)

    def copy(self) -> "_Bin":
        return _Bin(self.free, {key: each.copy() for key, each in self.held.items()})


def bound(case: Classed) -> int:
    """Return a valid lower bound of the cost of one item or more: volume, and set-ups.

    A class needs as many bins as its items fill without what its set-up takes, and as many as
    it has items of which no two fit together; that many set-ups are paid, and take room.
    """
    times = [0] * len(case.price)
    for each in sorted(set(case.classes)):
        sizes = [s for s, c in zip(case.sizes, case.classes, strict=True) if c == each]
        room = case.capacity - case.setup[each]
        alone = sum(2 * size > room for size in sizes)
        times[each] = max(1, alone, -(-sum(sizes) // room) if room else 1)
    volume = sum(case.sizes) + sum(t * s for t, s in zip(times, case.setup, strict=True))
    large = sum(2 * size > case.capacity for size in case.sizes)
    bins = -(-volume // case.capacity) if case.capacity else 0
    least = max(bins, large, *times)
    return case.bin_price * least + sum(t * p for t, p in zip(times, case.price, strict=True))


def cost(case: Classed, home: Sequence[int]) -> int:
    """Return what bins and set-ups cost."""
    pairs = set(zip(home, case.classes, strict=True))
    return case.bin_price * len(set(home)) + sum(case.price[which] for _, which in pairs)


def pack(case: Classed, *, moves: int, floor: int, seed: int) -> list[int]:
    """Return the bin of each item, counted from 0 without gaps.

    Args:
        case: What is packed.
        moves: Items placed in all.
        floor: A lower bound of the cost, where the search ends.
        seed: Start of the chance.
    """
    search = _Search(case, seed)
    search.run(moves, floor)
    names = {each: place for place, each in enumerate(dict.fromkeys(search.best))}
    return [names[each] for each in search.best]


class _Search:
    """Bins under ruin and repair."""

    def __init__(self, case: Classed, seed: int) -> None:
        self.case = case
        self.chance = np.random.Generator(np.random.PCG64(seed))
        self.drawn: list[float] = []
        self.bins: list[_Bin] = []
        self.saved: dict[int, _Bin | None] = {}
        first = sorted(range(len(case.sizes)), key=lambda i: (case.classes[i], -case.sizes[i], i))
        self._recreate(first, blink=0.0)
        self.now = self._cost()
        self.best = self._homes()

    def _draw(self) -> float:
        if not self.drawn:
            self.drawn = self.chance.random(DRAWS).tolist()
        return self.drawn.pop()

    def run(self, moves: int, floor: int) -> None:
        """Ruin and recreate until so many items were placed."""
        least, spent = self.now, 0
        energy = self._energy(range(len(self.bins)))
        heat = HEAT * max(1, self.case.bin_price, *self.case.price)
        while spent < moves and least > floor:
            self.saved = {}
            gone = self._ordered(self._ruined())
            self._recreate(gone, blink=BLINK)
            spent += len(gone) + 2
            before = sum(self._worth(each) for each in self.saved.values() if each is not None)
            change = self._energy(self.saved) - before
            cooled = heat * (1 - spent / moves) ** 2 + 1e-9
            if change <= 0 or self._draw() < exp(-min(change / cooled, 700.0)):
                energy += change
                self.now = self._cost()
                if self.now < least:
                    least, self.best = self.now, self._homes()
            else:
                self._undo()

    def _undo(self) -> None:
        for place, old in self.saved.items():
            if old is not None:
                self.bins[place] = old
        fresh = [place for place, old in self.saved.items() if old is None]
        if fresh:
            del self.bins[min(fresh) :]

    def _cost(self) -> int:
        case = self.case
        return sum(
            case.bin_price + sum(case.price[which] for which in each.held)
            for each in self.bins
            if each.held
        )

    def _energy(self, places: Iterable[int]) -> float:
        return sum(self._worth(self.bins[each]) for each in places)

    def _worth(self, bin_: _Bin) -> float:
        """Return what a bin costs, less a little where its free space lies together."""
        if not bin_.held:
            return 0.0
        case = self.case
        paid = case.bin_price + sum(case.price[which] for which in bin_.held)
        free = bin_.free / max(case.capacity, 1)
        return paid - max(case.bin_price, 1) * free * free

    def _homes(self) -> list[int]:
        home = [0] * len(self.case.sizes)
        for place, bin_ in enumerate(self.bins):
            for items in bin_.held.values():
                for item in items:
                    home[item] = place
        return home

    def _save(self, place: int) -> _Bin:
        if place not in self.saved:
            self.saved[place] = self.bins[place].copy()
        return self.bins[place]

    def _ruined(self) -> list[int]:
        """Empty a few bins, or take a class out of those that hold least of it."""
        filled = [place for place, each in enumerate(self.bins) if each.held]
        number = 1 + int(self._draw() * RUINED)
        turn = self._draw()
        if turn < 0.4:  # noqa: PLR2004 (any bins)
            keys = [(self._draw(), place) for place in filled]
            chosen = [place for _, place in sorted(keys)[: number + 1]]
            return [item for place in chosen for item in self._emptied(place)]
        which = self.case.classes[int(self._draw() * len(self.case.classes))]
        holding = sorted(
            (len(self.bins[place].held[which]) + self._draw() * 3, place)
            for place in filled
            if which in self.bins[place].held
        )
        chosen = [place for _, place in holding[: number + 1]]
        if turn < 0.7:  # noqa: PLR2004 (bins of a class)
            return [item for place in chosen for item in self._emptied(place)]
        gone = [item for place in chosen for item in self._without(place, which)]
        other = filled[int(self._draw() * len(filled))]
        return gone + self._emptied(other)

    def _emptied(self, place: int) -> list[int]:
        bin_ = self._save(place)
        gone = [item for items in bin_.held.values() for item in items]
        self.bins[place] = _Bin(self.case.capacity)
        return gone

    def _without(self, place: int, which: int) -> list[int]:
        bin_ = self._save(place)
        gone = bin_.held.pop(which)
        bin_.free += self.case.setup[which] + sum(self.case.sizes[item] for item in gone)
        return gone

    def _ordered(self, gone: list[int]) -> list[int]:
        sizes, classes = self.case.sizes, self.case.classes
        turn = self._draw()
        if turn < 0.4:  # noqa: PLR2004 (classes together, in any order)
            luck = {each: self._draw() for each in sorted({classes[item] for item in gone})}
            return sorted(gone, key=lambda i: (luck[classes[i]], -sizes[i], i))
        if turn < 0.8:  # noqa: PLR2004 (the largest first)
            return sorted(gone, key=lambda i: (-sizes[i], i))
        return [item for _, item in sorted((self._draw(), item) for item in gone)]

    def _recreate(self, order: Sequence[int], blink: float) -> None:
        """Place each item in the bin that costs least, then leaves least room."""
        case, bins = self.case, self.bins
        for item in order:
            size, which = case.sizes[item], case.classes[item]
            both, paid = size + case.setup[which], case.price[which]
            best, chosen = (paid + case.bin_price, case.capacity - both), -1
            for place, bin_ in enumerate(bins):
                left = bin_.free - size
                if left < 0:
                    continue
                if which in bin_.held:
                    found = (0, left)
                elif bin_.free >= both:
                    found = (paid if bin_.held else paid + case.bin_price, bin_.free - both)
                else:
                    continue
                if (found < best or (chosen < 0 and found <= best)) and (
                    not blink or self._draw() >= blink
                ):
                    best, chosen = found, place
            if chosen < 0:
                chosen = len(bins)
                bins.append(_Bin(case.capacity))
                self.saved.setdefault(chosen, None)
            elif chosen not in self.saved:
                self.saved[chosen] = bins[chosen].copy()
            bin_ = bins[chosen]
            bin_.free -= size if which in bin_.held else both
            bin_.held.setdefault(which, []).append(item)
