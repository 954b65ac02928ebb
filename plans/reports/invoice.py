"""Preview the invoice of a client: what was used and what is due, and nothing of the operator's.

Holds no cost, margin, server, device or other client.
"""

import hashlib
from typing import Any

from fleet.codec import canonical_json, plain
from fleet.costing import Bill, bill_cents
from fleet.names import alias_of, version_of
from plans.documents.document import write
from plans.reports.cost import ReportTable, TabularReport, csv_text, money, promise_table, promises


def document(bill: Bill, client: str) -> dict[str, Any]:
    """Return the invoice of a client; the invoice of a closed month is final."""
    cost, figures = bill.cost, bill.cost.clients[client]
    used = figures.input_tokens + figures.output_tokens
    fee, overage = bill_cents(figures.fee or 0), bill_cents(figures.overage)
    content: dict[str, Any] = {
        "format": "fleetctl-invoice",
        "format_version": "1.2",
        "client": client,
        "month": cost.month,
        "final": bool(bill.sha256),
        "currency": cost.currency,
        "versions": [
            {"alias": alias_of(name), "version": version_of(name), "requests": requests}
            for name, requests in figures.versions.items()
        ],
        "promises": promises(figures),
        "requests": figures.requests,
        "evaluations": figures.evaluations,
        "rollback_seconds": [round(seconds, 1) for seconds in bill.rollbacks.get(client, ())],
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cached_tokens": figures.cached_tokens,
        "included_tokens": figures.included or None,
        "overage_tokens": max(used - figures.included, 0) if figures.included else 0,
        "fee_cents": fee,
        "overage_cents": overage,
        "corrections": [
            {"month": month, "cents": bill_cents(amount)}
            for month, amount in figures.corrections.items()
        ],
        "amount_cents": figures.due_cents,
    }
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return {**content, "document": f"{client}-{cost.month}", "sha256": digest}


def report(found: dict[str, Any]) -> TabularReport:
    """Return an invoice's document as a report."""
    state = "final" if found["final"] else "preview: the month is open, figures so far"
    rows = tuple(
        (row["alias"], row["version"], f"{row['requests']:,}") for row in found["versions"]
    )
    covers = f", {included:,} covered by the fee" if (included := found["included_tokens"]) else ""
    cached = f"{found['cached_tokens']:,} from a cache"
    tokens = f"in {found['input_tokens']:,} ({cached}), out {found['output_tokens']:,}{covers}"
    billed = found["evaluations"]
    evaluations = f", {billed:,} of them evaluations" if billed else ""
    due = [("fee", money(found["fee_cents"]))]
    if found["overage_cents"]:
        due.append((f"{found['overage_tokens']:,} further tokens", money(found["overage_cents"])))
    due += [(_late(row), money(row["cents"])) for row in found["corrections"]]
    due.append(("amount", money(found["amount_cents"])))
    return TabularReport(
        f"{found['client']}, {found['month']}",
        (
            f"Document {found['document']}, {state}. sha256 {found['sha256']}.",
            f"{found['requests']:,} requests{evaluations}; tokens: {tokens}.",
            _rollbacks(found["rollback_seconds"]),
        ),
        (
            ReportTable("Versions", ("alias", "version", "requests"), rows, 2),
            promise_table(found["promises"]),
            ReportTable(f"Due, {found['currency']}", ("position", "amount"), tuple(due)),
        ),
    )


def _rollbacks(seconds: list[float]) -> str:
    if not seconds:
        return "No rollback."
    return f"Rollbacks: {len(seconds)}, in {', '.join(map(str, seconds))} seconds."


def _late(correction: dict[str, Any]) -> str:
    return f"correction of {correction['month']}: further tokens, counted late"


def render_json(found: dict[str, Any]) -> str:
    """Return the document as text."""
    return write(found)


def render_csv(found: dict[str, Any]) -> str:
    """Return the positions."""
    head = [found["client"], found["month"]]
    rows: list[list[object]] = [["client", "month", "position", "amount", "currency"]]
    due = [(name, found[f"{name}_cents"]) for name in ("fee", "overage")]
    due += [(_late(row), row["cents"]) for row in found["corrections"]]
    for name, cents in (*due, ("amount", found["amount_cents"])):
        rows.append([*head, name, money(cents).replace(",", ""), found["currency"]])
    return csv_text(rows)


def invoice_documents(bill: Bill, client: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the invoice of a client, and its report."""
    found = document(bill, client)
    return found, plain(report(found))
