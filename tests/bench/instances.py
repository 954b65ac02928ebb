"""Write packing instances of the families that `tests.bench.placement` measures, from a seed.

    .venv/bin/python -m tests.bench.instances FOLDER --capacity CAPACITY.json [--seed 1]

Beside each family lies a `.tsv` with what is known of it: the optimum, where it is planted.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Chance = np.random.Generator
HOURS = 24
RANKS = (0.2, 0.4, 0.2, 0.15, 0.05)
BASES = (0.4, 0.25, 0.15, 0.12, 0.08)
REPLICATED = 0.17


def profile(chance: Chance) -> NDArray[np.float64]:
    """Return a day of one client: working hours, evenings, always, or a nightly batch."""
    hours = np.arange(HOURS)
    kind = int(chance.integers(4))
    if kind == 0:
        shape = 0.06 + np.clip(np.minimum(hours - 6, 19 - hours) / 3, 0, 1) ** 2
        shape[12:14] *= 0.8
    elif kind == 1:
        shape = 0.25 + np.exp(-(((hours - 20) / 4) ** 2)) + 0.5 * np.exp(-(((hours - 11) / 4) ** 2))
    elif kind == 2:
        shape = np.ones(HOURS)
    else:
        shape = np.full(HOURS, 0.02)
        shape[2 : 2 + int(chance.integers(2, 5))] = 1.0
    zone = int(chance.integers(5)) * 5
    noise = np.exp(0.1 * chance.standard_normal(HOURS))
    day = np.roll(shape, zone) * noise
    return np.asarray(day / day.mean())


def weighted_choice(chance: Chance, odds: Sequence[float]) -> int:
    """Draw the place of one of the odds, which need not add up to 1."""
    total = sum(odds)
    return int(chance.choice(len(odds), p=[part / total for part in odds]))


def fleet(chance: Chance, adapters: int, capacity: dict[str, Any]) -> dict[str, Any]:
    """Return adapters with lognormal loads; replicas as declared, more where one is not enough."""
    tables = capacity["capacity_tenths"]
    bases = list(tables)
    items: list[list[Any]] = []
    for adapter in range(adapters):
        base = weighted_choice(chance, BASES[: len(bases)])
        rank = weighted_choice(chance, RANKS[: len(capacity["ranks"])])
        mean = 250 * float(np.exp(1.2 * chance.standard_normal() - 0.72))
        loads = mean * profile(chance)
        most = max(table[rank][1] for table in tables[bases[base]].values())
        copies = int(chance.integers(2, 4)) if chance.random() < REPLICATED else 1
        copies = max(copies, ceil(float(loads.max()) / (0.6 * most)))
        row = np.maximum(1, np.ceil(loads / copies)).astype(int).tolist()
        items += [[adapter, base, rank, row]] * copies
    return {"bases": bases, "items": items}


def planted(chance: Chance, bins: int, each: int) -> list[list[int]]:
    """Cut full bins of 26 dimensions into items: memory, 24 hours, slots; capacity 1000."""
    items: list[list[int]] = []
    for _ in range(bins):
        number = int(chance.integers(each - each // 4, each + each // 4 + 1))
        memory = np.exp(0.9 * chance.standard_normal(number))
        days = np.array([profile(chance) for _ in range(number)])
        days *= np.exp(0.6 * chance.standard_normal(number))[:, None]
        slots = chance.random(number) + 0.2
        columns = [memory / memory.sum(), *(days / days.sum(axis=0).max()).T, slots / slots.sum()]
        items += np.floor(1000 * np.array(columns).T).astype(int).tolist()
    order = chance.permutation(len(items)).tolist()
    return [items[place] for place in order]


def triplets(chance: Chance, bins: int, dimensions: int) -> list[list[int]]:
    """Cut full bins into three items each; capacity 100."""
    items: list[list[int]] = []
    for _ in range(bins):
        first = chance.integers(20, 50, size=dimensions)
        second = chance.integers(20, np.maximum(100 - first - 10, 21))
        items += [first.tolist(), second.tolist(), (100 - first - second).tolist()]
    order = chance.permutation(len(items)).tolist()
    return [items[place] for place in order]


def uniform(chance: Chance, kind: int, items: int, dimensions: int) -> tuple[list[list[int]], int]:
    """Return items of one of the classes of Caprara and Toth 2001, and the capacity."""
    low, high, capacity = (
        (100, 400, 1000), (1, 1000, 1000), (200, 800, 1000), (50, 200, 1000), (25, 100, 1000),
        (20, 100, 150), (20, 100, 150), (20, 100, 150),
    )[kind - 1]  # fmt: skip
    sizes = chance.integers(low, high + 1, size=(items, dimensions))
    if kind in {7, 8}:
        other = sizes[:, :1] if kind == 7 else 120 - sizes[:, :1]
        near = other + chance.integers(-10, 11, size=(items, dimensions))
        sizes[:, 1:] = np.clip(near, 1, capacity)[:, 1:]
    return sizes.tolist(), capacity


def classed(chance: Chance, items: int, classes: int, large: float) -> str:
    """Return items whose classes pay set-ups, as text."""
    counts = chance.multinomial(items - classes, np.ones(classes) / classes) + 1
    price = int(chance.choice([1, 10]))
    lines = [f"{items} {classes} 100 {price}"]
    lines += [
        f"{int(chance.integers(6))} {int(chance.integers(1, 21))} {count}"
        for count in counts.tolist()
    ]
    lines += [str(int(chance.integers(1, int(100 * large)))) for _ in range(items)]
    return "\n".join(lines) + "\n"


def vbp(rows: list[list[int]], capacity: int) -> str:
    """Return vectors as text."""
    width = len(rows[0])
    head = [str(width), " ".join([str(capacity)] * width), str(len(rows))]
    return "\n".join(head + [" ".join(map(str, [*row, 1])) for row in rows]) + "\n"


def main() -> None:
    """Write all families."""
    parser = argparse.ArgumentParser(description="Write packing instances from a seed.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--capacity", type=Path, required=True, help="GPU types, as for pack.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fleets", type=int, nargs="*", default=[50, 200, 1000, 10000])
    options = parser.parse_args()
    chance = np.random.Generator(np.random.PCG64(options.seed))
    for name in ("fleets", "planted", "triplets", "uniform", "setups"):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(options.capacity, options.folder / "fleets" / "capacity.json")
    sold = json.loads(options.capacity.read_text(encoding="utf-8"))
    for number in options.fleets:
        path = options.folder / "fleets" / f"fleet_{number}.json"
        path.write_text(json.dumps(fleet(chance, number, sold)), encoding="utf-8")
    optimum = ["instance\topt"]
    for bins, each in ((4, 13), (8, 20), (20, 20), (50, 20), (100, 30), (320, 31)):
        name = f"planted_{bins}.vbp"
        rows = planted(chance, bins, each)
        (options.folder / "planted" / name).write_text(vbp(rows, 1000), encoding="utf-8")
        optimum.append(f"{name}\t{bins}")
    for bins, dimensions in ((20, 3), (40, 3), (83, 3), (20, 5)):
        name = f"triplets_{bins}_{dimensions}.vbp"
        rows = triplets(chance, bins, dimensions)
        (options.folder / "triplets" / name).write_text(vbp(rows, 100), encoding="utf-8")
        optimum.append(f"{name}\t{bins}")
    (options.folder / "planted.tsv").write_text("\n".join(optimum) + "\n", encoding="utf-8")
    for kind in range(1, 9):
        for items, dimensions in ((50, 2), (200, 2), (500, 5)):
            rows, capacity = uniform(chance, kind, items, dimensions)
            name = f"class{kind}_{items}_{dimensions}.vbp"
            (options.folder / "uniform" / name).write_text(vbp(rows, capacity), encoding="utf-8")
    for items, classes in ((25, 5), (50, 10), (100, 10), (100, 25), (200, 25)):
        for large in (0.25, 0.7):
            name = f"setups_{items}_{classes}_{'large' if large > 0.5 else 'small'}.bpps"
            text = classed(chance, items, classes, large)
            (options.folder / "setups" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
