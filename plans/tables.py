"""Lay out columns of text: the one aligner of all tables on a terminal."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

WIDE_GAP: Final = "   "
"""Gap between columns whose cells are sentences."""


def aligned(
    rows: Iterable[Sequence[str]],
    *,
    indent: str = "",
    gap: str = "  ",
    right: Collection[int] = (),
) -> list[str]:
    """Return the rows as lines whose columns begin one below the other, without trailing spaces.

    Args:
        rows: Cells, as many in every row; a heading is the first row.
        indent: Text before the first column.
        gap: Text between two columns.
        right: Indexes of columns whose cells end one below the other, such as numbers.

    Raises:
        ValueError: the rows differ in length.
    """
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [f"{indent}{gap.join(_cells(row, widths, right))}".rstrip() for row in table]


def _cells(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> Iterable[str]:
    for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if index in right else cell.ljust(width)
