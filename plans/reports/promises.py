"""Report how a client's promised p95 was kept: part of the hours of a month with an answer."""

from typing import Any

from fleet.costing import ClientMonth
from fleet.names import alias_of
from plans.amounts import percent
from plans.reports.tabular import ReportTable


def promises(figures: ClientMonth) -> list[dict[str, Any]]:
    """Return the promise of every alias, and its hours; null where no p95 was promised."""
    found = []
    for alias in sorted({*map(alias_of, figures.versions), *figures.promises}):
        its = figures.promises.get(alias)
        known = (its.limit_ms / 1000, its.judged, its.kept) if its else (None, None, None)
        names = ("promise_s", "hours", "hours_kept")
        found.append({"alias": alias, **dict(zip(names, known, strict=True))})
    return found


def promise_table(found: list[dict[str, Any]]) -> ReportTable:
    """Return the promises of a client as a table."""
    rows = []
    for its in found:
        limit, hours, kept = (its[name] for name in ("promise_s", "hours", "hours_kept"))
        promised = "no promise" if limit is None else f"{limit:g} s"
        of_hours = f"{kept:,} of {hours:,}" if hours else "-"
        share = percent(kept / hours, 1) if hours else "not known"
        rows.append((its["alias"], promised, of_hours, share))
    heads = ("alias", "promised p95", "hours kept", "kept")
    return ReportTable("Promises, in hours with an answer", heads, tuple(rows))
