"""Report drift and outages: text, JSON, problems for code scanning, issues of a forge."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fleet.codec import plain
from fleet.errors import Diagnostic, Position
from fleet.names import address_parts, alias_of, alias_parts, place_of_server
from fleet.plan import Freeze
from fleet.planning import DriftAction, DriftCause
from fleet.resources import OutageKind
from fleet.spec import FleetSpec
from plans.tables import and_more, capitalized, counted, listed
from plans.visible import command, fenced, prose, scrubbed
from plans.wording import frozen_document, frozen_line

_LISTED = 12
_IMPACTS: Mapping[OutageKind, str] = MappingProxyType(
    {
        OutageKind.GATEWAY_DOWN: "no client of this gateway is answered.",
        OutageKind.GATEWAY_REFUSES: "every request is answered with 503; a second after the disk "
        "takes rows again, clients are answered.",
        OutageKind.SERVER_DOWN: "other servers answer where they hold the version; all other "
        "requests fail.",
        OutageKind.SERVER_HUNG: "other servers answer where they hold the version; all other "
        "requests wait until their time is up. No plan sends traffic there.",
        OutageKind.UNSERVED: "requests of these aliases get 503.",
        OutageKind.KEY_GONE: "its client is answered for as long as the routing table has the "
        "key; a table that is made anew, or an Envoy, cannot have it.",
        OutageKind.TABLE_DAMAGED: "gateways that run answer by their own table; a gateway that "
        "starts serves the table before.",
        OutageKind.LEDGER_DAMAGED: "all are answered, and failing versions are still rolled back; "
        "no rollout moves on.",
    }
)


_RULES: Mapping[DriftAction, str] = MappingProxyType(
    {
        DriftAction.HEAL: "Drift that reconcile repairs",
        DriftAction.PLAN: "Drift that needs a plan",
        DriftAction.ALERT: "Drift that a person has to look at",
    }
)


def render_text(
    causes: Sequence[DriftCause], notes: Sequence[str] = (), freeze: Freeze | None = None
) -> str:
    """Return a paragraph for every cause, with the command that helps."""
    lines = [frozen_line(freeze)] if freeze else []
    lines += [f"Note: {note}" for note in notes]
    if not causes:
        return "\n".join([*lines, "No drift: the fleet is as the last apply left it.\n"])
    objects = sum(len(cause.addresses) for cause in causes)
    outages = sum(cause.outage is not None for cause in causes)
    number = f", {counted(outages, 'outage')}" if outages else ""
    lines.append(f"Drift: {counted(len(causes), 'cause')}, {counted(objects, 'resource')}{number}.")
    for cause in causes:
        kind = f"outage, {cause.remedy.value}" if cause.outage else cause.remedy.value
        lines += ["", f"[{kind}] {cause.subject}: {cause.summary}"]
        others = [address for address in cause.addresses if address != cause.subject]
        lines += [f"    {address}" for address in others[:_LISTED]]
        if rest := and_more(others, _LISTED):
            lines.append(f"    … {rest} (--format json lists all)")
        lines += _outage_facts(cause_document(cause)) if cause.outage else []
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
        "outages": sum(cause.outage is not None for cause in causes),
        "causes": [cause_document(cause) for cause in causes],
        "notes": list(notes),
    }
    if freeze:
        document["frozen"] = frozen_document(freeze)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def cause_document(cause: DriftCause) -> dict[str, Any]:
    """Return a cause as a JSON document; `impact` is the meaning of an outage for clients."""
    impact = impact_of(cause.outage) if cause.outage else None
    return {"id": cause.id, **plain(cause), "impact": impact}


def as_diagnostics(causes: Iterable[DriftCause], fleet: FleetSpec) -> list[Diagnostic]:
    """Return causes as problems at the lines that declare their subjects."""
    return [
        Diagnostic(
            code=f"outage-{cause.outage}" if cause.outage else f"drift-{cause.remedy}",
            summary="Outage" if cause.outage else _RULES[cause.remedy],
            detail=f"{cause.subject}: {cause.summary}.",
            place=_place(cause.subject, fleet),
            command=cause.command,
            severity="error" if cause.outage else "warning",
        )
        for cause in causes
    ]


def _place(address: str, fleet: FleetSpec) -> Position:
    """Return the place of the declaration of an address, or the beginning of the main file."""
    kind, name = address_parts(address)
    path: tuple[str, ...] = ()
    match kind:
        case "adapter" | "route":
            alias = alias_of(name.partition("@")[0]) if kind == "adapter" else name
            if alias in fleet.adapters:
                client, task = alias_parts(alias)
                path = ("clients", client, "adapters", task)
        case "key":
            client, _, key = name.partition("/")
            path = ("clients", client, "keys", key)
        case "server":
            host, device = place_of_server(name)
            path = ("hosts", host, "devices", device)
        case "gateway":
            path = ("gateways", name)
        case _:  # the ledger, and stored copies: no line declares them
            pass
    return fleet.declared_at(*path) or Position("fleet.yaml", 1, 1)


def render_issues(causes: Iterable[DriftCause], fleet: str) -> str:
    """Return a JSON list of issues: title, body in Markdown that is safe in public, and mark.

    The mark begins the body. It is the same for as long as the same action helps the same
    subject, so that an issue is found again.
    """
    issues = []
    for cause in causes:
        key = hashlib.sha256(cause.id.encode()).hexdigest()[:16]
        mark = f"<!-- fleetctl:drift fleet={fleet} cause={key} -->"
        kind = "Outage" if cause.outage else "Drift"
        facts = _outage_facts(cause_document(cause)) if cause.outage else []
        lines = [
            *(mark, f"**{kind}** · {prose(capitalized(cause.summary))}.", ""),
            *(f"{prose(fact)}\n" for fact in facts),
            f"Helps: {command(cause.command)}\n",
            *fenced([*cause.addresses[:_LISTED], and_more(cause.addresses, _LISTED)], "text"),
            "",
            "This issue is closed when `drift` no longer finds the cause.",
        ]
        title = scrubbed(f"{kind}: {cause.subject}")
        issues.append({"mark": mark, "title": title, "body": "\n".join(lines) + "\n"})
    return json.dumps(issues, indent=2, ensure_ascii=False) + "\n"


def impact_of(kind: OutageKind) -> str:
    """Return the meaning of an outage for clients."""
    return _IMPACTS[kind]


def outage_documents(outages: Iterable[DriftCause], client: str | None) -> list[dict[str, Any]]:
    """Return outages as JSON documents; for a client, without the keys of other clients."""
    theirs = "key/" if client is None else f"key/{client}/"
    return [
        cause_document(outage)
        for outage in outages
        if outage.subject.startswith(theirs) or not outage.subject.startswith("key/")
    ]


def outage_lines(outages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of outages, given as documents of causes, and an empty line at the end."""
    lines = []
    for outage in outages:
        lines.append(f"OUTAGE {outage['subject']}: {outage['summary']}")
        lines += [*_outage_facts(outage), f"  Helps: {outage['command']}"]
    return [*lines, ""] if lines else []


def _outage_facts(outage: Mapping[str, Any]) -> list[str]:
    since = outage["since"]
    lines = [f"  Since: {since[:19]} UTC, or shortly before"] if since else []
    lines.append(f"  Clients: {outage['impact']}")
    if (aliases := outage.get("unanswered")) is not None:
        lines.append(f"  Without an answer: {listed(aliases) or 'no alias'}")
    return lines
