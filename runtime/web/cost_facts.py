"""Gather the facts of costs: the operator's month, and the preview of a client's invoice."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fleet.costing import Bill
from fleet.errors import FleetError
from fleet.usage import OfClient, Operator
from runtime.operations.costs import MonthBills
from runtime.web.facts import Document, Documents, Heading
from runtime.web.snapshot import FleetSnapshot
from runtime.workspace import Workspace

KEPT_S: Final = 60.0
"""Time for which a bill is shown again without counting anew. Seconds."""


@dataclass(frozen=True, slots=True)
class ReadBill:
    """A bill, or the reason why there is none."""

    month: str
    months: tuple[str, ...] = ()
    """Months with costs: closed ones and the present one, newest first."""
    bill: Bill | None = None
    problem: str = ""


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


@dataclass(slots=True)
class BillReader:
    """Reads bills of months, and keeps them for a minute."""

    workspace: Workspace
    _kept: dict[str, tuple[float, ReadBill]] = field(default_factory=dict)

    def read(self, month: str) -> ReadBill:
        """Return the bill of a month, empty: the present month. Blocks."""
        at, found = self._kept.get(month, (0.0, None))
        if found is None or time.monotonic() - at > KEPT_S:
            found = self._read(month)
            self._kept = {**dict(list(self._kept.items())[-24:]), month: (time.monotonic(), found)}
        return found

    def _read(self, month: str) -> ReadBill:
        try:
            bills = MonthBills(replace(self.workspace, emit=lambda _: None))
            present = bills.month_of(bills.now)
            months = tuple(dict.fromkeys((present, *reversed([*bills.closed]))))
        except (FleetError, OSError) as error:
            return ReadBill(month, problem=_reason(error))
        try:
            return ReadBill(month or present, months, bills.bill(month or present))
        except (FleetError, OSError) as error:
            return ReadBill(month or present, months, problem=_reason(error))


def _reason(error: FleetError | OSError) -> str:
    if not isinstance(error, FleetError):
        return str(error)
    first = error.diagnostics[0]
    return " ".join(filter(None, (f"{first.summary}: {first.detail}", first.hint)))


def cost_page(found: ReadBill, head: Heading, scope: Operator, make: Documents) -> CostPage:  # noqa: ARG001 (a proof)
    """Return the facts of a month's costs."""
    report: Mapping[str, Any] = {}
    lines: tuple[Document, ...] = ()
    if found.bill is not None:
        report, lines = make.cost(found.bill)
    return CostPage(head, found.month, found.months, found.problem, report, lines)


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
