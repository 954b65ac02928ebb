"""Gather the facts of costs: the operator's month, accounts of clients, and their invoices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fleet.history import Entry, Notified
from fleet.names import key_address
from fleet.traffic import UNLIMITED, LimitPolicy
from fleet.usage import OfClient, Operator
from runtime.operations.watch.costs import ReadBill
from runtime.web.facts import AliasRow, Document, Documents, Heading
from runtime.web.gather import AWAY, MOST_ENTRIES, alias_rows, heading, iso
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage import NO_USAGE, HourFacts, UsageFacts, hour_facts

_NO_BILL: Final[tuple[Document, tuple[Document, ...]]] = ({}, ())
"""Tables and lines where there is no bill."""


@dataclass(frozen=True, slots=True)
class CostPage:
    """The page `/cost`."""

    heading: Heading
    month: str
    months: tuple[str, ...]
    problem: str
    report: Document
    """The tables of `fleetctl cost report`; empty: there is no bill."""
    lines: tuple[Document, ...]
    """Rounded lines in cents, which add up to the bill."""
    shares: tuple[Document, ...]
    """Cost of every client beside its fee."""
    days: tuple[Document, ...]
    """Cost of devices by day and client, in millionths; None is the platform."""


@dataclass(frozen=True, slots=True)
class ClientsPage:
    """The page `/clients`."""

    heading: Heading
    month: str
    problem: str
    """Why there are no costs; empty: there are."""
    clients: tuple[Document, ...]
    """The cost of a client in a month so far, and the health of its aliases in the last day."""


@dataclass(frozen=True, slots=True)
class ClientInvoicePage:
    """The page `/c/CLIENT/invoice`: a preview, or the invoice of a closed month."""

    client: str
    as_of: str
    month: str
    invoice: Document
    """Document of `fleetctl cost invoice`; empty: there is none."""
    report: Document
    lines: tuple[Document, ...]


def cost_page(found: ReadBill, head: Heading, scope: Operator, make: Documents) -> CostPage:  # noqa: ARG001 (a proof)
    """Return the facts of a month's costs."""
    bill = make.cost(found.bill, None) if found.bill else _NO_BILL
    shares, days = tuple[Document, ...](), tuple[Document, ...]()
    if found.bill is not None:
        shares = tuple(make.client_costs(found.bill, found.before, ()).values())
        days = make.cost_days(found.bill.cost)
    return CostPage(head, found.month, found.months, found.problem, *bill, shares, days)


def clients_page(
    found: ReadBill, seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime
) -> ClientsPage:
    """Return the facts of the list of clients: health of the last day, costs of the month."""
    rows = dict[str, list[AliasRow]]()
    for row in alias_rows(seen, scope):
        rows.setdefault(row.client, []).append(row)
    costs = make.client_costs(found.bill, found.before, {*seen.fleet.clients, *rows})
    listed = tuple(
        {**cost, **_health(seen, name, rows.get(name, []))} for name, cost in costs.items()
    )
    return ClientsPage(heading(seen, scope, now), found.month, found.problem, listed)


def _health(seen: FleetSnapshot, client: str, rows: Sequence[AliasRow]) -> Document:
    """Return the health of a client's aliases.

    `away` counts those that no server is known to answer, `promises` those with a promise and a
    request.
    """
    subjects = {client, *(row.alias for row in rows)}
    asked = [row for row in rows if row.promise_s is not None and row.p95_s is not None]
    return {
        "aliases": len(rows),
        "away": sum(row.state in AWAY for row in rows),
        "alerts": sum(alert.stands and alert.subject in subjects for alert in seen.alerts),
        "promises": len(asked),
        "promises_kept": sum((row.p95_s or 0) <= (row.promise_s or 0) for row in asked),
        "requests": sum(row.requests for row in rows),
        "errors": sum(row.errors for row in rows),
    }


def client_invoice(
    found: ReadBill, seen: FleetSnapshot, scope: OfClient, make: Documents
) -> ClientInvoicePage:
    """Return the facts of a client's invoice."""
    as_of, none = seen.at.isoformat(timespec="minutes"), (dict[str, Any](), dict[str, Any]())
    bill = found.bill
    has = bill is not None and scope.name in bill.cost.clients
    invoice, report = make.invoice(bill, scope.name) if bill is not None and has else none
    rows = tuple(row for table in report.get("tables", ()) for row in _rows(table))
    return ClientInvoicePage(scope.name, as_of, found.month, invoice, report, rows)


def _rows(table: Mapping[str, Any]) -> list[Document]:
    return [dict(zip(table["heads"], row, strict=False)) for row in table["rows"]]


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
    found: ReadBill, seen: FleetSnapshot, scope: Operator, make: Documents, now: datetime, name: str
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
