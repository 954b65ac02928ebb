"""Turn a bill into documents of pages: the operator's tables, a client's invoice."""

from typing import Any

from fleet.costing import Bill
from fleet.encoding import plain
from plans.reports import cost, invoice


def cost_documents(
    bill: Bill, client: str | None
) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Return the report of a month, and its rounded lines in cents; of a client or of all."""
    return plain(cost.report(bill, client)), tuple(cost.document(bill, client)["cents"])


def invoice_documents(bill: Bill, client: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the invoice of a client, and its report."""
    found = invoice.document(bill, client)
    return found, plain(invoice.report(found))
