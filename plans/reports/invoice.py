"""Preview the invoice of a client: what was used and what is due, and nothing of the operator's.

Holds no cost, margin, server, device or other client.
"""

import hashlib
from typing import Any

from fleet.costing import ClientMonth, bill_cents
from fleet.encoding import canonical_json
from fleet.names import alias_of, version_of
from plans.documents.document import write
from plans.reports.cost import money
from plans.reports.tabular import ReportTable, TabularReport, csv_text


def document(
    client: str, month: str, currency: str, figures: ClientMonth, *, is_final: bool
) -> dict[str, Any]:
    """Return the invoice of a month; `is_final`: the month is closed."""
    used = figures.input_tokens + figures.output_tokens
    fee, overage = bill_cents(figures.fee or 0), bill_cents(figures.overage)
    content: dict[str, Any] = {
        "format": "fleetctl-invoice",
        "format_version": "1.0",
        "client": client,
        "month": month,
        "final": is_final,
        "currency": currency,
        "versions": [
            {"alias": alias_of(name), "version": version_of(name), "requests": requests}
            for name, requests in figures.versions.items()
        ],
        "requests": figures.requests,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cached_tokens": figures.cached_tokens,
        "included_tokens": figures.included or None,
        "overage_tokens": max(used - figures.included, 0) if figures.included else 0,
        "fee_cents": fee,
        "overage_cents": overage,
        "amount_cents": fee + overage,
    }
    digest = hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return {**content, "document": f"{client}-{month}", "sha256": digest}


def report(found: dict[str, Any]) -> TabularReport:
    """Return an invoice's document as a report."""
    state = "final" if found["final"] else "preview: the month is open, figures so far"
    rows = tuple(
        (row["alias"], row["version"], f"{row['requests']:,}") for row in found["versions"]
    )
    covers = f", {included:,} covered by the fee" if (included := found["included_tokens"]) else ""
    cached = f"{found['cached_tokens']:,} from a cache"
    tokens = f"in {found['input_tokens']:,} ({cached}), out {found['output_tokens']:,}{covers}"
    due = [("fee", money(found["fee_cents"]))]
    if found["overage_cents"]:
        due.append((f"{found['overage_tokens']:,} further tokens", money(found["overage_cents"])))
    due.append(("amount", money(found["amount_cents"])))
    return TabularReport(
        f"{found['client']}, {found['month']}",
        (
            f"Document {found['document']}, {state}. sha256 {found['sha256']}.",
            f"{found['requests']:,} requests; tokens: {tokens}.",
        ),
        (
            ReportTable("Versions", ("alias", "version", "requests"), rows, 2),
            ReportTable(f"Due, {found['currency']}", ("position", "amount"), tuple(due)),
        ),
    )


def render_json(found: dict[str, Any]) -> str:
    """Return the document as text."""
    return write(found)


def render_csv(found: dict[str, Any]) -> str:
    """Return the positions."""
    head = [found["client"], found["month"]]
    rows: list[list[object]] = [["client", "month", "position", "amount", "currency"]]
    for name in ("fee", "overage", "amount"):
        cents = found[f"{name}_cents"]
        rows.append([*head, name, f"{cents // 100}.{cents % 100:02}", found["currency"]])
    return csv_text(rows)
