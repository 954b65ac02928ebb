"""Instance sets made again by their published recipes, for the rows of `tests.bench.acceptance`.

Items with set-ups: Baldacci, Ciccarelli, Coniglio, Dose and Furini 2025 (arXiv:2509.10075), all 480
instances; the recipe draws from Python's `random` with seeds 0 and 1, so they are the published
ones number by number. Two dimensions: the ten classes of Caprara and Toth 2001 (classes 6 to 8
after Spieksma 1994) from a seed of ours, so other instances than the published ones.
Gaussian sizes with two peaks: the classes 4 to 6 of Mommessin, Erlebach and Shakhlevich 2024, from
a seed of ours, for where the published sample is not at hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, floor
from random import Random

from fleet.packing.bins import SetupInstance

Rows = list[list[int]]
UNIFORM = {
    1: (100, 400, 1000), 2: (1, 1000, 1000), 3: (200, 800, 1000), 4: (50, 200, 1000),
    5: (25, 100, 1000), 6: (20, 100, 150),
}  # fmt: skip
PEAKS = {4: (70, 30, 15), 5: (80, 20, 10), 6: (70, 15, 10)}
"""By class: mean of the large sizes, of the small ones, and the deviation of both."""
LARGE = 0.1
"""Share of items that are large in a dimension."""
BEST_KNOWN = 62_791
"""Sum of the least costs known of the 480 instances with set-ups."""


@dataclass(frozen=True, slots=True)
class Case:
    """Vectors of one instance, and its least number of bins where it is planted."""

    sizes: Rows
    capacity: list[int]
    optimum: int | None = None


def two_dimensional(seeds: int) -> Iterator[Case]:
    """Yield so many instances of each of ten classes and four sizes."""
    for kind, items, seed in product(range(1, 11), (24, 51, 99, 201), range(seeds)):
        yield _two_dimensional(Random(f"{kind} {items} {seed}"), kind, items)  # noqa: S311


def _two_dimensional(draw: Random, kind: int, items: int) -> Case:
    if kind in UNIFORM:
        low, high, capacity = UNIFORM[kind]
        sizes = [[draw.randint(low, high) for _ in range(2)] for _ in range(items)]
        return Case(sizes, [capacity] * 2)
    if kind in {7, 8}:
        sizes = []
        for _ in range(items):
            first = draw.randint(20, 100)
            middle = first if kind == 7 else 120 - first
            sizes.append([first, draw.randint(middle - 10, middle + 10)])
        return Case(sizes, [150] * 2)
    if kind == 9:
        sizes = [[draw.randint(100, 400) for _ in range(2)] for _ in range(items)]
        totals = [sum(column) for column in zip(*sizes, strict=True)]
        bins = ceil(max(totals) / 1000)
        return Case(sizes, [ceil(total / bins) for total in totals])
    sizes = [[draw.randint(25, 50) for _ in range(2)] for _ in range(items // 3 * 2)]
    pairs = zip(sizes[::2], sizes[1::2], strict=True)
    sizes += [[100 - a - b for a, b in zip(*pair, strict=True)] for pair in list(pairs)]
    return Case(sizes, [100] * 2, items // 3)


def two_peaks(seeds: int) -> Iterator[Case]:
    """Yield so many instances of each of three classes, four sizes and three dimensions."""
    for kind, items, width, seed in product(PEAKS, (20, 60, 120, 500), (3, 5, 10), range(seeds)):
        draw = Random(f"{kind} {items} {width} {seed}")  # noqa: S311
        columns = [_peaked(draw, items, *PEAKS[kind]) for _ in range(width)]
        yield Case([list(row) for row in zip(*columns, strict=True)], [100] * width)


def _peaked(draw: Random, items: int, high: int, low: int, deviation: int) -> list[int]:
    large = min(items, max(0, round(draw.gauss(int(items * LARGE), (items / 4) ** 0.5))))
    found: list[int] = []
    while len(found) < items:
        size = round(draw.gauss(high if len(found) < large else low, deviation))
        if 0 <= size <= 100:
            found.append(size)
    draw.shuffle(found)
    return found


def with_setups() -> Iterator[SetupInstance]:
    """Yield the 480 published instances."""
    weights, setups = ((0.05, 0.15), (0.15, 0.30)), ((0.01, 0.10), (0.10, 0.20))
    for classes, items, capacity, weight, setup, priced, seed in product(
        (5, 10), (25, 50, 75, 100, 200), (200, 1000, 10_000), weights, setups, (0, 1), (0, 1)
    ):
        sizes = (floor(capacity * weight[0]), ceil(capacity * weight[1]))
        extra = (floor(capacity * setup[0]), ceil(capacity * setup[1]))
        found = None
        while found is None:
            found = _with_setups(Random(seed), classes, items, capacity, sizes, extra, priced)  # noqa: S311
            seed += 1  # noqa: PLW2901 (the recipe's: draw again where a class has one item or none)
        yield found


def _with_setups(
    draw: Random, classes: int, items: int, capacity: int, sizes: tuple[int, int],
    setups: tuple[int, int], priced: int,
) -> SetupInstance | None:  # fmt: skip
    price = [draw.randint(1, 5) if priced else 0 for _ in range(classes)]
    drawn = [(draw.randint(0, classes - 1), draw.randint(*sizes)) for _ in range(items)]
    setup = [draw.randint(*setups) for _ in range(classes)]
    counts = [sum(which == each for which, _ in drawn) for each in range(classes)]
    if min(counts) < 2:
        return None
    drawn.sort(key=lambda pair: pair[0])
    weights, which = [size for _, size in drawn], [which for which, _ in drawn]
    return SetupInstance(capacity, 10 if priced else 1, setup, price, weights, which)
