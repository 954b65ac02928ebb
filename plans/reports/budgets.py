"""Shows the use of budgets of the month: as rows for scripts, as a table for people."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from fleet.alerting import BudgetUse, Month
from plans.tables import WIDE_GAP, aligned

_HEADS = ("budget of", "", "used", "of", "", "", "reached", "then")


def rows(uses: Iterable[BudgetUse], month: Month, now: datetime) -> list[dict[str, Any]]:
    """Return a row for every budget; `reached` is a day of this month, by its pace so far."""
    made = []
    for use in uses:
        (kind, name), reached = use.holder, use.ends_at(month, now)
        made.append(
            {
                kind: name,
                "kind": use.kind,
                "used": use.used,
                "limit": use.limit,
                "budget": "hard" if use.is_hard else "soft",
                "reached": f"{reached:%Y-%m-%d}" if reached else None,
                "month_ends": f"{month.end:%Y-%m-%dT%H:%MZ}",
            }
        )
    return made


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    if not found:
        return "No budget of a month is declared: `limits.tokens_per_month` of a tier or client.\n"
    cells = [
        (
            str(row.get("client") or row["alias"]),
            row["kind"],
            f"{row['used']:,}",
            f"{row['limit']:,}",
            f"{row['used'] / row['limit']:.0%}",
            row["budget"],
            "yes" if row["used"] >= row["limit"] else row["reached"] or "-",
            _then(row),
        )
        for row in found
    ]
    lines = aligned([_HEADS, *cells], gap=WIDE_GAP, right=(2, 3, 4))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _then(row: dict[str, Any]) -> str:
    if row["budget"] == "soft":
        return "an alert alone"
    verb = "are refused" if row["used"] >= row["limit"] else "would be refused"
    return f"requests {verb} until {row['month_ends']}"
