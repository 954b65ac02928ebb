"""Gather the facts of costs: the operator's month, and the preview of a client's invoice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fleet.usage import OfClient, Operator
from runtime.operations.costs import ReadBill
from runtime.web.facts import AliasRow, Document, Documents, Heading
from runtime.web.gather import AWAY, alias_rows, heading
from runtime.web.snapshot import FleetSnapshot

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
