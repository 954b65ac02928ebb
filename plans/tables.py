"""Lay out text on a terminal: aligned columns, colours."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

Paint = Callable[[str, str], str]
"""From an ANSI code and a text to the text as shown."""

WIDE_GAP: Final = "   "
"""Gap between columns whose cells are sentences."""


def aligned(
    rows: Iterable[Sequence[str]], *, indent: str = "", gap: str = "  ", right: Collection[int] = ()
) -> list[str]:
    """Return the rows as lines with aligned columns, without trailing spaces.

    Args:
        rows: Cells, as many in every row; a heading is the first row.
        indent: Text before the first column.
        gap: Text between two columns.
        right: Indexes of columns that are aligned to the right, such as numbers.

    Raises:
        ValueError: the rows differ in length.
    """
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [f"{indent}{gap.join(_cells(row, widths, right))}".rstrip() for row in table]


def _cells(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> Iterable[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if index in right else cell.ljust(width)


def painter(*, colour: bool) -> Paint:
    """Return a function that puts an ANSI code around a text, or returns the text unchanged."""
    return lambda code, text: f"\033[{code}m{text}\033[0m" if colour else text
