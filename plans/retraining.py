"""Retraining for the terminal; takes the documents that `--format json` prints."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("TURN", "ADAPTER", "TRAINED", "NEXT", "CLAIMED BY", "")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return each adapter's turn, one a line."""
    cells = [_cells(each) for each in rows]
    widths = [max(len(each[place]) for each in [_COLUMNS, *cells]) for place in range(6)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip()
        for each in [_COLUMNS, *cells]
    ]
    return "\n".join(lines) + "\n"


def _cells(each: Mapping[str, Any]) -> tuple[str, ...]:
    claim = each["claim"]
    held = f"{claim['by']} until {claim['until'][:10]}" if claim else "-"
    return (
        each["turn"],
        each["adapter"],
        (each["trained"] or "-")[:10],
        (each["next"] or "-")[:10],
        held,
        each["reason"],
    )
