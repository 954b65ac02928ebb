"""Sums of a state folder's usage as `fleetctl usage summary` prints them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fleet.usage import Grain, Operator
from plans.reports.usage import usage_rows
from runtime.usage.ingest import ingest
from runtime.usage.store import UsageStore

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def summed(state: Path, **filters: Any) -> list[dict[str, Any]]:
    """Ingest what is new, and return a row for each client, alias and version."""
    now = datetime.now(UTC)
    ingest(state, now)
    until, by = now + timedelta(days=400), ("client", "alias", "version")
    with UsageStore(state) as store:
        cells = store.cells(Operator(), BEGINNING, until, Grain.DAY, by, by_cell=False, **filters)
        return usage_rows(cells, store.users(Operator(), BEGINNING, until, by))
