"""Gather the facts of the operator's page of a client: its account, aliases, keys, notices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.history import Entry, Notified
from fleet.names import key_address
from fleet.traffic import UNLIMITED, LimitPolicy
from fleet.usage import Operator
from runtime.operations.costs import ReadBill
from runtime.web.cost_facts import clients_page
from runtime.web.facts import AliasRow, Document, Documents, Heading
from runtime.web.gather import MOST_ENTRIES, alias_rows, iso
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage import NO_USAGE, HourFacts, UsageFacts, hour_facts


@dataclass(frozen=True, slots=True)
class ClientAccountPage:
    """The page `/clients/CLIENT`."""

    heading: Heading
    account: Document
    """A row of the page `/clients`."""
    tier: str
    """Empty: the client is declared no more."""
    month: str
    months: tuple[str, ...]
    problem: str
    """Why there are no costs; empty: there are."""
    report: Document
    """The tables of `fleetctl cost report --client`; empty: there is no bill."""
    lines: tuple[Document, ...]
    """Rounded lines in cents, which add up to the cost."""
    usage: UsageFacts
    hours: tuple[HourFacts, ...]
    limits: LimitPolicy
    """The limits of all its aliases together."""
    aliases: tuple[AliasRow, ...]
    keys: tuple[Document, ...]
    notices: tuple[Document, ...]
    """Newest first."""


def client_account(
    found: ReadBill,
    seen: FleetSnapshot,
    scope: Operator,
    make: Documents,
    now: datetime,
    name: str,
) -> ClientAccountPage | None:
    """Return the facts of a client for operators; None: there is no such client."""
    page = clients_page(found, seen, scope, make, now)
    account = next((row for row in page.clients if row["client"] == name), None)
    if account is None:
        return None
    report, lines = make.cost(found.bill, name) if found.bill else ({}, ())
    spec, usage = seen.fleet.clients.get(name), seen.usage
    aliases = tuple(row for row in alias_rows(seen, scope) if row.client == name)
    cells = [cell for cell in usage.cells if cell.client == name]
    return ClientAccountPage(
        heading=page.heading,
        account=account,
        tier=spec.tier if spec else "",
        month=found.month,
        months=found.months,
        problem=found.problem,
        report=report,
        lines=lines,
        usage=usage.clients.get(name, NO_USAGE),
        hours=hour_facts(usage.since, cells),
        limits=spec.limits if spec else UNLIMITED,
        aliases=aliases,
        keys=_keys(seen, name),
        notices=_notices(seen.status.entries, name, {name, *(row.alias for row in aliases)}),
    )


def _keys(seen: FleetSnapshot, client: str) -> tuple[Document, ...]:
    """Return the client's keys by name: the declared ones, and those that gateways take."""
    live, spec = seen.status.live, seen.fleet.clients.get(client)
    declared = {key.name: key.fingerprint for key in spec.keys} if spec else {}
    taken = {key.name: key.fingerprint for key in live.keys().values() if key.client == client}
    return tuple(
        {
            "key": name,
            "declared": name in declared,
            "fingerprint": taken.get(name) or declared.get(name),
            "taken": name in taken if live.knows(key_address(client, name)) else None,
        }
        for name in sorted({*declared, *taken})
    )


def _notices(entries: Sequence[Entry], client: str, about: set[str]) -> tuple[Document, ...]:
    """Return the newest notices to the client, or about the client or an alias of `about`."""
    its = {f"client {client}", f"client {client} by mail"}
    found = [
        {
            "at": iso(entry.time),
            "to": event.to,
            "about": event.alias,
            "event": event.event,
            "delivered": event.delivered,
            "detail": event.detail,
        }
        for entry in entries
        if isinstance(event := entry.event, Notified) and (event.to in its or event.alias in about)
    ]
    return tuple(found[: -MOST_ENTRIES - 1 : -1])
