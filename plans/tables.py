"""Lay out text on a terminal: aligned columns, colours, counts, sizes, times."""

from collections.abc import Callable, Collection, Iterable, Sequence, Sized
from datetime import datetime
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


_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def counted(number: int, noun: str) -> str:
    """Return `1 server`, `2 servers`, `3 routes`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def capitalized(text: str) -> str:
    """Return `text` with a capital first letter, otherwise unchanged."""
    return text[:1].upper() + text[1:]


def and_more(found: Sized, shown: int) -> str:
    """Return `and 3 more` for the entries beyond `shown`; empty where `shown` covers all."""
    return f"and {len(found) - shown} more" if len(found) > shown else ""


def listed(words: Iterable[str], limit: int = 12) -> str:
    """Return the words joined by commas; beyond `limit` only how many more there are."""
    every = list(words)
    text = ", ".join(every[:limit])
    return f"{text} {rest}" if (rest := and_more(every, limit)) else text


def size(amount: int | None) -> str:
    """Return bytes in the unit that suits, such as `5.0 GiB`; `?` where unknown."""
    if amount is None:
        return "?"
    value = float(amount)
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < 1024:  # noqa: PLR2004 (binary units)
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def file_size(amount: int | None) -> str:
    """Return bytes in decimal units, as file managers do: `163.0 KB`; `-` where unknown."""
    if amount is None:
        return "-"
    for unit, divisor in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if amount >= divisor:
            return f"{amount / divisor:.1f} {unit}"
    return f"{amount} B"


def percent(part: float, digits: int = 0) -> str:
    """Return a part of 1 as `62 %`, or with more digits as `62.4 %`."""
    return f"{100 * part:.{digits}f} %"


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 to the second, for documents."""
    return moment.isoformat(timespec="seconds")


def iso_millis(moment: datetime) -> str:
    """Return a time as ISO 8601 to the millisecond, for entries and events."""
    return moment.isoformat(timespec="milliseconds")


def date_time(moment: datetime) -> str:
    """Return a time for people, without its zone: `2031-05-01 12:00:00`."""
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """Return `3 s`, `1 min 50 s`, `2 h 5 min` or `3 d 4 h`; under a second `under 1 s`."""
    whole = round(seconds)
    if seconds < 1:
        return "under 1 s"
    for above, unit, below, small in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= above:
            rest = whole % above // below
            return f"{whole // above} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def about(seconds: float) -> str:
    """Return an estimate of seconds: `about 4 s`, `under 1 s`."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def rate(rpm: float | None) -> str:
    """Return requests per minute, such as `18.9 requests/min`; empty where not declared."""
    return "" if rpm is None else f"{rpm:g} requests/min"
