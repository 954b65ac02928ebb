"""Read instances from text: vectors, items with set-ups, fleets; show a problem with its line."""

import json
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Position
from fleet.packing.bins import SetupInstance
from fleet.packing.problem import PRICE_UNIT
from fleet.packing.servers import Catalog, Replica


@dataclass(frozen=True, slots=True)
class _InstanceFile:
    """A file, and the error that its problems are."""

    code: str
    summary: str
    file: str

    def error(self, detail: str, line: int = 1, column: int = 1) -> ConfigError:
        place = Position(self.file, line, column)
        return ConfigError(Diagnostic(self.code, self.summary, detail, place))

    def integer(self, word: str, line: int) -> int:
        try:
            return int(word)
        except ValueError:
            raise self.error(f"`{word}` is not an integer.", line) from None


@dataclass(frozen=True, slots=True)
class VectorInstance:
    """A `.vbp` file: capacities, then rows of sizes with their demand."""

    capacity: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...]
    demand: tuple[int, ...]


def read_vectors(text: str, file: str) -> VectorInstance:
    """Read `d`, `d` capacities, the number of rows, and rows `w_1..w_d demand`.

    Raises:
        ConfigError: The text is malformed; with file and line.
    """
    source = _InstanceFile("FC2050", "Vector packing file is malformed", file)
    lines = enumerate(text.splitlines(), start=1)
    words = [(number, word) for number, line in lines for word in line.split()]
    numbers = [source.integer(word, line) for line, word in words]

    def error(index: int, detail: str) -> ConfigError:
        return source.error(detail, words[min(index, len(words) - 1)][0] if words else 1)

    if not numbers or numbers[0] < 1:
        raise error(0, "It starts with the number of dimensions, 1 or more.")
    width = numbers[0]
    start = width + 2
    if len(numbers) < start:
        raise error(len(numbers), f"{width} capacities and the number of rows follow.")
    capacity, count = tuple(numbers[1 : start - 1]), numbers[start - 1]
    if len(numbers) - start != count * (width + 1):
        raise error(
            len(numbers),
            f"{count} rows of {width + 1} numbers are announced, which makes "
            f"{count * (width + 1)}; there are {len(numbers) - start}.",
        )
    if min(capacity) < 0:
        raise error(1, f"Capacity {min(capacity)} is negative.")
    rows = range(start, len(numbers), width + 1)
    sizes = tuple(tuple(numbers[first : first + width]) for first in rows)
    demand = tuple(numbers[first + width] for first in rows)
    for first, row, times in zip(rows, sizes, demand, strict=True):
        if times < 0:
            raise error(first + width, f"Demand {times} is negative.")
        if any(size > limit for size, limit in zip(row, capacity, strict=True)):
            raise error(first, f"Sizes {list(row)} exceed the capacities {list(capacity)}.")
    return VectorInstance(capacity, sizes, demand)


def read_setups(text: str, file: str) -> SetupInstance:
    """Read `items classes capacity bin_cost`, the lines of the classes, and the lines of the items.

    A class is `cost weight items`, the cost with any sign; an item, class by class, is `weight`.
    Further numbers of a line are ignored.

    Raises:
        ConfigError: The text is malformed; with file and line.
    """
    source = _InstanceFile("FC2053", "Packing file with set-ups is malformed", file)
    lines = text.splitlines()
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]

    def row(index: int, width: int, expected: str) -> list[int]:
        number, words = rows[index] if index < len(rows) else (len(lines) or 1, [])
        if len(words) < width:
            raise source.error(f"{expected} is expected here.", number)
        numbers = [source.integer(word, number) for word in words[:width]]
        if index and min(numbers[1:], default=numbers[0]) < 0:
            raise source.error(f"{min(numbers)} is negative.", number)
        return numbers

    items, many, capacity, bin_price = row(0, 4, "The line `items classes capacity bin_cost`")
    if min(items, many, capacity, bin_price) < 0:
        raise source.error("A number of the first line is negative.", rows[0][0])
    declared = [row(number, 3, f"Class {number} of {many}, `cost weight items`,")
                for number in range(1, many + 1)]  # fmt: skip
    if (total := sum(count for *_, count in declared)) != items:
        raise source.error(f"{items} items are announced, and classes have {total}.", rows[0][0])
    setup = tuple(weight for _, weight, _ in declared)
    classes = tuple(index for index, (*_, count) in enumerate(declared) for _ in range(count))
    sizes = []
    for item, index in enumerate(classes):
        (size,) = row(1 + many + item, 1, f"Item {item + 1} of {items}, its weight,")
        if size < 0 or size + setup[index] > capacity:
            raise source.error(
                f"Weight {size} with {setup[index]} for its class is not between 0 and the "
                f"capacity {capacity}.", rows[1 + many + item][0]
            )  # fmt: skip
        sizes.append(size)
    price = tuple(abs(cost) for cost, *_ in declared)
    return SetupInstance(capacity, bin_price, setup, price, tuple(sizes), classes)


def read_fleet(
    fleet: str, fleet_file: str, capacity: str, capacity_file: str
) -> tuple[tuple[Replica, ...], Catalog]:
    """Read a fleet (`bases`, `items`) and its capacity table (`gpus`, `capacity_tenths`).

    Raises:
        ConfigError: A text is malformed; with the file, and the line or the entry.
    """
    items_file, table_file = (
        _InstanceFile("FC2051", "Fleet or capacity file is malformed", file)
        for file in (fleet_file, capacity_file)
    )
    document, table = _json(fleet, items_file), _json(capacity, table_file)
    bases = _entry(document, "bases", list, items_file)
    gpus = _entry(table, "gpus", dict, table_file)
    tables = _entry(table, "capacity_tenths", dict, table_file)
    for base in bases:
        if base not in tables or set(tables[base]) < set(gpus):
            raise table_file.error(f"`capacity_tenths` lacks base `{base}` or a GPU of it.")
    try:
        catalog = Catalog(
            tuple(str(base) for base in bases),
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
        raise table_file.error(f"A cost or capacity is missing or no number: {error}") from None
    shapes = {
        (len(by_rank), len(row)) for base in catalog.capacity for by_rank in base for row in by_rank
    }
    if len(shapes) != 1 or min(catalog.price) < 1:
        raise table_file.error("Tables differ in shape, or a cost is not above 0.")
    ranks = next(iter(shapes))[0]
    items = _entry(document, "items", list, items_file)
    replicas = (_replica(*item, len(bases), ranks, items_file) for item in enumerate(items))
    return tuple(replicas), catalog


def _replica(index: int, item: Any, bases: int, ranks: int, source: _InstanceFile) -> Replica:
    match item:
        case [int(adapter), int(base), int(rank), [*loads]] if (
            0 <= base < bases
            and 0 <= rank < ranks
            and loads
            and all(isinstance(load, int) and load >= 0 for load in loads)
        ):
            return Replica(adapter, base, rank, tuple(loads))
    raise source.error(
        f"Item {index} is not [adapter, base index below {bases}, rank index below {ranks}, "
        "[hourly loads, integers from 0]]."
    )


def _json(text: str, source: _InstanceFile) -> Any:
    try:
        return json.loads(text)
    except JSONDecodeError as error:
        raise source.error(error.msg + ".", error.lineno, error.colno) from None
    except (ValueError, RecursionError):  # too many digits, or nested too deeply
        raise source.error("It holds a number or a nesting beyond reason.") from None


def _entry(value: Any, key: str, kind: type, source: _InstanceFile) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(key), kind):
        raise source.error(f"`{key}` is missing or of the wrong kind.")
    return value[key]
