"""Packing instances as text: vectors (`.vbp`) and fleets (JSON), each problem with its line."""

import json
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Place
from fleet.placement.servers import PRICE_UNIT, Market, Replica


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
    numbers = [_integer(word, file, line) for line, word in words]

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


def _integer(word: str, file: str, line: int) -> int:
    try:
        return int(word)
    except ValueError:
        raise _vbp(file, line, f"`{word}` is not an integer.") from None


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
        place = Place(file, error.lineno, error.colno)
        raise ConfigError(
            Diagnostic("FC2051", "Fleet or capacity file is malformed", error.msg + ".", place)
        ) from None


def _entry(value: Any, key: str, kind: type, file: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(key), kind):
        raise _fleet(file, f"`{key}` is missing or of the wrong kind.")
    return value[key]


def _vbp(file: str, line: int, detail: str) -> ConfigError:
    return ConfigError(
        Diagnostic("FC2050", "Vector packing file is malformed", detail, Place(file, line, 1))
    )


def _fleet(file: str, detail: str) -> ConfigError:
    return ConfigError(
        Diagnostic("FC2051", "Fleet or capacity file is malformed", detail, Place(file, 1, 1))
    )
