"""Report drift: text and JSON."""

import json
from collections.abc import Sequence

from fleet.encoding import plain
from fleet.plan import Freeze
from fleet.planning import DriftCause
from plans.amounts import and_more, counted
from plans.wording import frozen_document, frozen_line

_LISTED = 12


def render_text(
    causes: Sequence[DriftCause], notes: Sequence[str] = (), freeze: Freeze | None = None
) -> str:
    """Return a paragraph for every cause, with the command that helps."""
    lines = [frozen_line(freeze)] if freeze else []
    lines += [f"Note: {note}" for note in notes]
    if not causes:
        return "\n".join([*lines, "No drift: the fleet is as the last apply left it.\n"])
    objects = sum(len(cause.addresses) for cause in causes)
    lines.append(f"Drift: {counted(len(causes), 'cause')}, {counted(objects, 'resource')}.")
    for cause in causes:
        lines += ["", f"[{cause.remedy.value}] {cause.subject}: {cause.summary}"]
        others = [address for address in cause.addresses if address != cause.subject]
        lines += [f"    {address}" for address in others[:_LISTED]]
        if rest := and_more(others, _LISTED):
            lines.append(f"    … {rest} (--format json lists all)")
        lines.append(f"  Helps: {cause.command}")
    return "\n".join(lines) + "\n"


def render_json(
    causes: Sequence[DriftCause], notes: Sequence[str] = (), freeze: Freeze | None = None
) -> str:
    """Return all causes as a JSON document."""
    document = {
        "format": "fleetctl-drift",
        "format_version": "1.0",
        "drift": bool(causes),
        "causes": [{"id": cause.id, **plain(cause)} for cause in causes],
        "notes": list(notes),
    }
    if freeze:
        document["frozen"] = frozen_document(freeze)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
