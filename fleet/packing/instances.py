"""Packing instances as text: vectors, items with set-ups, fleets; each problem with its line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Position
from fleet.packing.servers import PRICE_UNIT, Market, Replica


@dataclass(frozen=True, slots=True)
class Vectors:
    """A `.vbp` file: capacities, then rows of sizes with their demand."""

    capacity: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    demand: tuple[int, ...]


def read_vectors(text: str, file: str) -> Vectors:
    """Read `d`, `d` capacities, the number of rows, and rows `w_1..w_d demand`.

    Raises:
        ConfigError: With file and line of what is wrong.
    """
    words = [
        (number, word)
        for number, line in enumerate(text.splitlines(), start=1)
        for word in line.split()
    ]
    numbers = [_integer(word, file, line, _vbp) for line, word in words]

    def wrong(index: int, detail: str) -> ConfigError:
        return _vbp(file, words[min(index, len(words) - 1)][0] if words else 1, detail)

    if not numbers or numbers[0] < 1:
        raise wrong(0, "It starts with the number of dimensions, 1 or more.")
    width = numbers[0]
    start = width + 2
    if len(numbers) < start:
        raise wrong(len(numbers), f"{width} capacities and the number of rows follow.")
    capacity, count = tuple(numbers[1 : start - 1]), numbers[start - 1]
    if len(numbers) - start != count * (width + 1):
        raise wrong(
            len(numbers),
            f"{count} rows of {width + 1} numbers are announced, which makes "
            f"{count * (width + 1)}; there are {len(numbers) - start}.",
        )
    if min(capacity) < 0:
        raise wrong(1, f"Capacity {min(capacity)} is negative.")
    rows = range(start, len(numbers), width + 1)
    sizes = tuple(tuple(numbers[first : first + width]) for first in rows)
    demand = tuple(numbers[first + width] for first in rows)
    for first, row, times in zip(rows, sizes, demand, strict=True):
        if times < 0:
            raise wrong(first + width, f"Demand {times} is negative.")
        if any(size > limit for size, limit in zip(row, capacity, strict=True)):
            raise wrong(first, f"Sizes {list(row)} exceed the capacities {list(capacity)}.")
    return Vectors(capacity, sizes, demand)


def _integer(word: str, file: str, line: int, wrong: Callable[[str, int, str], ConfigError]) -> int:
    try:
        return int(word)
    except ValueError:
        raise wrong(file, line, f"`{word}` is not an integer.") from None


@dataclass(frozen=True, slots=True)
class Setups:
    """A `.bpps` file: classes with set-ups, then items, class by class."""

    capacity: int
    bin_price: int
    setup: tuple[int, ...]
    price: tuple[int, ...]
    sizes: tuple[int, ...]
    classes: tuple[int, ...]


def read_setups(text: str, file: str) -> Setups:
    """Read items with set-ups, a line each; what follows the numbers named here is not read.

    `items classes capacity bin_cost`; for each class `cost weight items`, costs by their
    amount; for each item, class by class, `weight`.

    Raises:
        ConfigError: With file and line of what is wrong.
    """
    rows = [
        (number, line.split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]

    def row(index: int, width: int, what: str) -> list[int]:
        number, words = rows[index] if index < len(rows) else (len(text.splitlines()) or 1, [])
        if len(words) < width:
            raise _bpps(file, number, f"{what} is expected here.")
        found = [_integer(word, file, number, _bpps) for word in words[:width]]
        if index and min(found[1:], default=found[0]) < 0:
            raise _bpps(file, number, f"{min(found)} is negative.")
        return found

    items, many, capacity, bin_price = row(0, 4, "The line `items classes capacity bin_cost`")
    if min(items, many, capacity, bin_price) < 0:
        raise _bpps(file, rows[0][0], "A number of the first line is negative.")
    kinds = [row(1 + each, 3, f"Class {each + 1} of {many}, `cost weight items`,")
             for each in range(many)]  # fmt: skip
    if sum(count for *_, count in kinds) != items:
        total = sum(count for *_, count in kinds)
        raise _bpps(file, rows[0][0], f"{items} items are announced, and classes have {total}.")
    classes = tuple(which for which, kind in enumerate(kinds) for _ in range(kind[2]))
    sizes = []
    for item, which in enumerate(classes):
        (size,) = row(1 + many + item, 1, f"Item {item + 1} of {items}, its weight,")
        if size < 0 or size + kinds[which][1] > capacity:
            line = rows[1 + many + item][0]
            raise _bpps(file, line, f"Weight {size} with {kinds[which][1]} for its class is not "
                        f"between 0 and the capacity {capacity}.")  # fmt: skip
        sizes.append(size)
    price = tuple(abs(cost) for cost, *_ in kinds)
    setup = tuple(weight for _, weight, _ in kinds)
    return Setups(capacity, bin_price, setup, price, tuple(sizes), classes)


def read_fleet(
    fleet: str, fleet_file: str, capacity: str, capacity_file: str
) -> tuple[tuple[Replica, ...], Market]:
    """Read a fleet (`bases`, `items`) and its capacity table (`gpus`, `capacity_tenths`).

    Raises:
        ConfigError: With the file, and the line or the entry, of what is wrong.
    """
    asked, sold = _json(fleet, fleet_file), _json(capacity, capacity_file)
    bases = _entry(asked, "bases", list, fleet_file)
    gpus = _entry(sold, "gpus", dict, capacity_file)
    tables = _entry(sold, "capacity_tenths", dict, capacity_file)
    for base in bases:
        if base not in tables or set(tables[base]) < set(gpus):
            raise _fleet(capacity_file, f"`capacity_tenths` lacks base `{base}` or a GPU of it.")
    try:
        market = Market(
            tuple(str(each) for each in bases),
            tuple(gpus),
            tuple(round(gpus[name]["cost"] * PRICE_UNIT) for name in gpus),
            tuple(
                tuple(
                    tuple(tuple(int(cell) for cell in row) for row in tables[base][name])
                    for name in gpus
                )
                for base in bases
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _fleet(
            capacity_file, f"A cost or capacity is missing or no number: {error}"
        ) from None
    widths = {(len(table), len(row)) for base in market.capacity for table in base for row in table}
    if len(widths) != 1 or min(market.price) < 1:
        raise _fleet(capacity_file, "Tables differ in shape, or a cost is not above 0.")
    ranks = next(iter(widths))[0]
    items = _entry(asked, "items", list, fleet_file)
    return tuple(
        _replica(item, index, len(bases), ranks, fleet_file) for index, item in enumerate(items)
    ), market


def _replica(item: Any, index: int, bases: int, ranks: int, file: str) -> Replica:
    match item:
        case [int(adapter), int(base), int(rank), [*loads]] if (
            0 <= base < bases
            and 0 <= rank < ranks
            and loads
            and all(isinstance(load, int) and load >= 0 for load in loads)
        ):
            return Replica(adapter, base, rank, tuple(loads))
    raise _fleet(
        file,
        f"Item {index} is not [adapter, base index below {bases}, rank index below {ranks}, "
        "[hourly loads, integers from 0]].",
    )


def _json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except JSONDecodeError as error:
        place = Position(file, error.lineno, error.colno)
        raise ConfigError(
            Diagnostic("FC2051", "Fleet or capacity file is malformed", error.msg + ".", place)
        ) from None


def _entry(value: Any, key: str, kind: type, file: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(key), kind):
        raise _fleet(file, f"`{key}` is missing or of the wrong kind.")
    return value[key]


def _vbp(file: str, line: int, detail: str) -> ConfigError:
    return ConfigError(
        Diagnostic("FC2050", "Vector packing file is malformed", detail, Position(file, line, 1))
    )


def _bpps(file: str, line: int, detail: str) -> ConfigError:
    place = Position(file, line, 1)
    return ConfigError(
        Diagnostic("FC2053", "Packing file with set-ups is malformed", detail, place)
    )


def _fleet(file: str, detail: str) -> ConfigError:
    return ConfigError(
        Diagnostic("FC2051", "Fleet or capacity file is malformed", detail, Position(file, 1, 1))
    )
