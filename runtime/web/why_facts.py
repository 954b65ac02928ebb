"""Gather the facts of the page of an alias's change for the worse."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from fleet.usage import Operator
from runtime.operations.traffic_facts import explain_alias
from runtime.usage.store import UsageStore
from runtime.web.facts import Document, Documents, Heading
from runtime.web.gather import heading
from runtime.web.snapshot import FleetSnapshot

SPANS: Final[Mapping[str, timedelta]] = {
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "48h": timedelta(hours=48),
    "7d": timedelta(days=7),
}
"""Times before now that the page looks at; the first unless asked for another."""


@dataclass(frozen=True, slots=True)
class WhyPage:
    """The page `/why/ALIAS`."""

    heading: Heading
    alias: str
    since: str
    spans: tuple[str, ...]
    problem: str
    """Why the causes are not known; empty: they are."""
    why: Document
    """The document of `fleetctl why` without its causes; empty: not known."""
    causes: tuple[Document, ...]


def why_page(
    seen: FleetSnapshot,
    scope: Operator,
    make: Documents,
    now: datetime,
    alias: str,
    since: str,
    state_dir: Path,
) -> WhyPage | None:
    """Return the likely causes of an alias that is worse; None: an alias not declared. Blocks.

    The rows are those that the last reading brought into the usage store.
    """
    if alias not in seen.fleet.adapters:
        return None
    chosen = since if since in SPANS else next(iter(SPANS))
    head, spans, entries = heading(seen, scope, now), (*SPANS,), seen.status.entries
    try:
        with closing(UsageStore(state_dir)) as store:
            found = explain_alias(store, seen.fleet, entries, alias, SPANS[chosen], now)
    except FleetError as error:
        return WhyPage(head, alias, chosen, spans, error.diagnostics[0].detail, {}, ())
    why = {**make.why(found)}
    causes = why.pop("causes")
    return WhyPage(head, alias, chosen, spans, "", why, tuple(causes))
