"""Import staff hours from a CSV file into the ledger."""

import csv
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

from fleet.errors import FleetError
from fleet.history import StaffHoursImported
from runtime.operations.costs import MonthBills
from runtime.workspace import Workspace


def import_staff(workspace: Workspace, file: Path) -> dict[str, dict[str, int]]:
    """Record the staff hours of a CSV file with the columns date, client and hours, by month.

    Raises:
        FleetError: FC6087, a line is wrong, or its month is closed.
    """
    books = MonthBills(workspace)
    months: dict[str, Counter[str]] = defaultdict(Counter)
    known = workspace.fleet().clients
    with file.open(encoding="utf-8-sig", newline="") as text:
        for number, row in enumerate(csv.DictReader(text), start=2):
            try:
                month = datetime.fromisoformat(row["date"]).strftime("%Y-%m")
                client, hours = row["client"], round(float(row["hours"]) * 1000)
                problem = "" if client in known else f"client `{client:.40}` is not declared"
                problem = problem or ("" if 0 <= hours < 10**9 else "hours are out of range")
            except (KeyError, TypeError, ValueError, OverflowError):
                problem = "needs the columns `date` (2026-11-30), `client` and `hours`"
            else:
                problem = problem or (f"{month} is closed" if month in books.closed else "")
            if problem:
                detail = f"`{file}`, line {number}: {problem}. Nothing was imported."
                raise FleetError.of("FC6087", "Staff hours cannot be imported", detail)
            months[month][client] += hours
    events = [
        StaffHoursImported(month, dict(sorted(by_client.items())), file.name)
        for month, by_client in sorted(months.items())
    ]
    if events:
        workspace.ledger().append(events)
    return {event.month: dict(event.hours) for event in events}
