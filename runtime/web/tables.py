"""Filter, sort and write the table of a page."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def arranged(rows: Sequence[Mapping[str, Any]], asked: Mapping[str, str]) -> list[Any]:
    """Return the rows that hold the text `q`, sorted by the column `sort`, last first with `desc`.

    Without `sort` the order stays. Rows without a value come last.
    """
    text, column = asked.get("q", "").lower(), asked.get("sort", "")
    found = [*rows]
    if text:
        found = [row for row in rows if text in json.dumps(row, ensure_ascii=False).lower()]
    if not column:
        return found
    known = [row for row in found if row.get(column) is not None]
    rest = [row for row in found if row.get(column) is None]
    known.sort(key=lambda row: _order(row[column]), reverse="desc" in asked)
    return known + rest


def _order(value: Any) -> tuple[float, str]:
    return (value, "") if isinstance(value, int | float) else (0, json.dumps(value))


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV: lists as JSON, and no cell that a spreadsheet takes for a formula."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return f"'{value}" if value.startswith(_FORMULA) else value
        case _:
            return json.dumps(value, ensure_ascii=False)
