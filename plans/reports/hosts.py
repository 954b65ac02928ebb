"""Shows the findings of a check of a host, with the commands that help."""

from collections.abc import Sequence
from typing import Any

from fleet.hardware import HostSpec
from fleet.hosts import HostFinding
from plans.tables import counted


def host_document(host: HostSpec, findings: Sequence[HostFinding]) -> dict[str, Any]:
    """Return the findings as a document."""
    rows = [
        {
            "subject": finding.subject,
            "verdict": finding.verdict,
            "text": finding.text,
            "command": finding.command,
            "run_on": "here" if finding.is_here else "host",
        }
        for finding in findings
    ]
    named = {"host": host.name, "address": host.address}
    return {"format": "fleetctl-host-check", "format_version": "1.0", **named, "findings": rows}


def render_text(document: dict[str, Any]) -> str:
    """Return a line for every finding, and the command that helps below."""
    rows = document["findings"]
    width = max(len(row["subject"]) for row in rows)
    lines = [f"{document['host']} ({document['address']})"]
    for row in rows:
        lines.append(f"  {row['verdict']:7}  {row['subject']:{width}}  {row['text']}")
        if row["command"]:
            where = "here:" if row["run_on"] == "here" else "on the host:"
            lines.append(f"  {'':7}  {'':{width}}  {where} {row['command']}")
    counts = [
        counted(sum(row["verdict"] == verdict for row in rows), verdict)
        for verdict in ("fault", "warning")
    ]
    unknown = sum(row["verdict"] == "unknown" for row in rows)
    lines.append(f"{', '.join(counts)}, {unknown} unknown.")
    return "\n".join(lines) + "\n"
