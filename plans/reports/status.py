"""Report the status of the fleet, and the checks of a host, as JSON documents and as text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from fleet.codec import decode
from fleet.hardware import HostSpec
from fleet.history import ApplyFinished, ApplyStarted, BackedUp, BackupDrilled, Entry, History
from fleet.hosts import HostFinding
from fleet.names import adapter_address, client_of, kind_of_address, name_in_address
from fleet.plan import Freeze
from fleet.planning import DriftCause, ownerless
from fleet.resources import LoadedAdapter, OutageKind, Route, State
from fleet.rollouts import Phase, RolloutStatus, applied_route
from fleet.spec import FleetSpec
from plans.explain.rollout import rollout_document, rollout_lines
from plans.reports.drift import outage_documents, outage_lines
from plans.reports.rollouts import condition_of, rollout_documents
from plans.tables import Paint, counted, iso, painter
from plans.wording import frozen_document, frozen_line, short_version

LEDGER_LOST = (
    "the ledger knows none of what runs here; what was applied and held before is not shown: "
    "fleetctl drift"
)
Counts = Mapping[tuple[str, str], int]
"""Requests by alias and full name of the version."""
NOT_COUNTED: Counts = MappingProxyType({})


def status(
    fleet: str,
    live: State,
    history: History,
    entries: Sequence[Entry],
    client: str | None,
    counts: Counts = NOT_COUNTED,
    away: str = "",
    outages: Sequence[DriftCause] = (),
) -> dict[str, Any]:
    """Return the status as a document.

    With a client: the client's aliases alone, no servers, and no outage of another client's key.
    `counts` are the requests since the split last changed, of aliases with several versions. `away`
    says why the ledger cannot be read; `entries`, oldest first, are then the part that is known.
    """
    as_of = iso(entries[-1].time) if away and entries else None
    document: dict[str, Any] = {
        "format": "fleetctl-status",
        "format_version": "1.0",
        "fleet": fleet,
        "aliases": [
            _alias(route, history, counts, client=client is not None)
            | findings(route, live, history)
            for route in live.routes().values()
            if client is None or route.client == client
        ],
        "routes_unknown": live.routes_unknown,
        "ledger_away": away,
        "ledger_as_of": as_of,
    }
    if history.freeze:
        document["frozen"] = frozen_document(history.freeze)
    if urgent := urgent_outages(outages, live, client):
        document["outages"] = urgent
    if client is None:
        document["servers"] = _servers(live, history)
        document["last_apply"] = _last_apply(entries)
        if backup := _last_backup(entries):
            document["backup"] = backup
        document["notes"] = [*live.notes, *fault_notes(live, outages=False)]
        if ownerless(history, live):
            document["notes"].insert(0, LEDGER_LOST)
    return document


def fault_notes(live: State, *, outages: bool = True) -> list[str]:
    """Return a line for every fault, with the command that helps; `outages`: those as well."""
    return [
        f"{address.replace('/', ' ', 1)} {fault.what}: {fault.command}"
        for address, fault in live.faults.items()
        if outages or fault.outage is None
    ]


def _alias(route: Route, history: History, counts: Counts, *, client: bool) -> dict[str, Any]:
    stage = history.stages.get(route.alias)
    holds = history.holds.get(route.alias, {})
    return {
        "alias": route.alias,
        "versions": [
            {
                "adapter": share.adapter,
                "version": short_version(share.adapter),
                "percent": share.percent,
                "servers": list(share.servers),
                **_seen(route, share.adapter, counts),
            }
            for share in route.shares
        ],
        "stage_since": iso(stage.entered) if stage else None,
        "held": [
            {"adapter": hold.adapter, "by": hold.by, "at": iso(hold.at), "reason": hold.reason}
            for _, hold in sorted(holds.items())
        ],
        **rollout_document(history, route, client=client),
    }


def _seen(route: Route, adapter: str, counts: Counts) -> dict[str, Any]:
    """Return a version's requests and observed percent; None where no gateway counts them."""
    keys = [(route.alias, share.adapter) for share in route.shares]
    known = [counts[key] for key in keys if key in counts]
    requests, total = counts.get((route.alias, adapter), 0), sum(known)
    return {
        "requests": requests if known else None,
        "observed_percent": round(100 * requests / total, 1) if total else None,
    }


def _servers(live: State, history: History) -> list[dict[str, Any]]:
    held = Counter(adapter.server for adapter in live.adapters().values())
    running, established = live.servers(), history.established.values()
    known = {*running, *live.unknown_servers}
    known |= {name_in_address(a) for a in history.owned if kind_of_address(a) == "server"}
    known |= {there.server for there in established if isinstance(there, LoadedAdapter)}
    rows = []
    for name in sorted(known):
        up = running.get(name)
        state = "up" if up else "unknown" if name in live.unknown_servers else "down"
        rows.append(
            {
                "server": name,
                "state": state,
                "base": up.base if up else None,
                "url": live.urls.get(name),
                "engine_version": live.versions.get(name),
                "adapters": held[name],
                "detail": live.unknown_servers.get(name, ""),
            }
        )
    return rows


def _last_apply(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """Return the last apply; an apply without an end is `unfinished`."""
    last: dict[str, Any] | None = None
    for entry in entries:
        when, event = iso(entry.time), entry.event
        if isinstance(event, ApplyStarted):
            last = {
                "plan_id": event.plan_id,
                "trigger": event.trigger,
                "commit": event.commit,
                "by": entry.by,
                "run": entry.run,
                "started": when,
                "finished": None,
                "result": "unfinished",
            }
        elif isinstance(event, ApplyFinished) and last and last["run"] == entry.run:
            last |= {"finished": when, "result": event.result}
    return last


def _last_backup(entries: Sequence[Entry]) -> dict[str, Any] | None:
    """Return the newest backup, and the last drill of the same bytes."""
    made: dict[str, Any] | None = None
    sha256 = ""
    for entry in entries:
        event = entry.event
        if isinstance(event, BackedUp):
            behind = entries[-1].seq - event.seq
            made = {"file": event.file, "at": iso(entry.time), "behind": behind, "drill": None}
            sha256 = event.sha256
        elif isinstance(event, BackupDrilled) and made and event.sha256 == sha256:
            made["drill"] = {"at": iso(entry.time), "complete": event.complete}
    return made


def _backup_line(backup: Mapping[str, Any]) -> str:
    if (drill := backup["drill"]) is None:
        tried = "never drilled: fleetctl state drill"
    else:
        tried = f"{'restorable' if drill['complete'] else 'NOT restorable'} at {drill['at']}"
    return f"Backup: {backup['file']} at {backup['at']}, {backup['behind']} entries ago, {tried}"


def render_text(document: Mapping[str, Any], *, colour: bool = False) -> str:
    """Return the status as text: first what cannot wait, then what stands."""
    lines = [*urgent_lines(document, painter(colour=colour)), f"Fleet {document['fleet']}"]
    if "frozen" in document:
        lines.append(frozen_line(decode(Freeze, document["frozen"], "frozen")))
    if document["routes_unknown"]:
        lines.append(f"Routes cannot be read: {document['routes_unknown']}")
        lines.append("Which version serves is not known; gateways go on with their table.")
    if document["ledger_away"]:
        lines.append(f"THE LEDGER CANNOT BE READ: {document['ledger_away']}")
        lines.append(
            f"Stages, holds and gates are those of {document['ledger_as_of']}. Live gates take "
            "traffic back meanwhile, and servers that end start again where they were; no rollout "
            "moves on, and no golden set is asked."
        )
    nothing = [] if document["routes_unknown"] else ["No alias is routed."]
    lines += ["", *(_alias_lines(document["aliases"]) or nothing)]
    lines += _upkeep_lines(
        document.get("drift", ()), document.get("retraining", ()), document.get("drills", ())
    )
    if "servers" in document:
        lines += ["", *(_server_lines(document["servers"]) or ["No server."])]
        if LEDGER_LOST not in document["notes"]:
            lines += ["", _last_line(document["last_apply"])]
        lines += [_backup_line(document["backup"])] if "backup" in document else []
        lines += [f"Note: {note}" for note in document["notes"]]
    return "\n".join(lines) + "\n"


def _upkeep_lines(
    drifts: Iterable[Mapping[str, Any]],
    turns: Iterable[Mapping[str, Any]],
    drills: Iterable[Mapping[str, Any]],
) -> list[str]:
    lines = [
        f"DRIFT {drift['adapter']}: {drift['standing']}, {drift['measure']}: {drift['reason']}"
        for drift in drifts
    ]
    for turn in turns:
        claim = turn["claim"]
        held = f", claimed by {claim['by']} until {claim['until'][:10]}" if claim else ""
        lines.append(f"Retrain {turn['alias']}: {turn['turn']}, {turn['reason']}{held}")
    lines += [_drill_line(drill) for drill in drills if drill["turn"] != "fresh"]
    return ["", *lines] if lines else []


def _drill_line(drill: Mapping[str, Any]) -> str:
    if drill["turn"] == "failed":
        what = f"FAILED at {drill['tried']}: a rollback would not succeed"
    else:
        since = f" since {drill['due']}" if drill["due"] else ""
        what = f"{drill['turn']}{since}, every {drill['every']}"
    last = f"last succeeded at {drill['last']}" if drill["last"] else "never succeeded yet"
    waits = f"; waits: {drill['waits']}" if drill["waits"] else ""
    return f"Drill {drill['alias']}: {what}, {last}{waits}"


def _alias_lines(aliases: Iterable[Mapping[str, Any]]) -> list[str]:
    listed = list(aliases)
    width = max((len(alias["alias"]) for alias in listed), default=0)
    lines = []
    for alias in listed:
        versions = alias["versions"]
        serving = [version for version in versions if version["percent"]]
        resident = [version["version"] for version in versions if not version["percent"]]
        shares = ", ".join(map(_share, serving))
        text = f"{alias['alias']:{width}}  {shares or 'nothing'}"
        if resident:
            text += f"  (kept loaded: {', '.join(resident)})"
        if any(version["requests"] is not None for version in serving):
            text += f"  of {sum(version['requests'] or 0 for version in versions):,} requests"
        if len(serving) > 1 and alias["stage_since"]:
            text += f"  since {alias['stage_since']}"
        lines.append(text)
        for hold in alias["held"]:
            version = short_version(hold["adapter"])
            reason = f": {hold['reason']}" if hold["reason"] else ""
            lines.append(f"{'':{width}}  held: {version}, by {hold['by']} at {hold['at']}{reason}")
        lines += [
            f"{'':{width}}  {line}" for line in (*alias.get("findings", ()), *rollout_lines(alias))
        ]
    return lines


def _share(version: Mapping[str, Any]) -> str:
    """Return the declared share of a version, with the observed share."""
    text = f"{version['version']} {version['percent']} %"
    if version["requests"] is None:
        return text
    seen = version["observed_percent"]
    return f"{text} ({'none seen' if seen is None else f'{seen:.1f} % seen'})"


def _server_lines(servers: Iterable[Mapping[str, Any]]) -> list[str]:
    listed = list(servers)
    width = max((len(server["server"]) for server in listed), default=0)
    return [
        f"{server['server']:{width}}  {server['state']:7}  {server['adapters']:3} adapters  "
        f"{server['url'] or server['detail'] or '-'}"
        for server in listed
    ]


def _last_line(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "Nothing has been applied yet."
    commit = f", commit {last['commit']}" if last["commit"] else ""
    return (
        f"Last apply: plan {last['plan_id']} by {last['by']} at {last['started']}{commit}: "
        f"{last['result']}"
    )


def findings(route: Route, live: State, history: History) -> dict[str, list[str]]:
    """Return, as the field of an alias, why its answers may not be those that were applied."""
    found = [*_findings(route, live, history)]
    return {"findings": found} if found else {}


def _findings(route: Route, live: State, history: History) -> Iterator[str]:
    if applied := applied_route(history, route):
        shares = (
            f"{short_version(share.adapter)} {share.percent} %"
            for share in applied.shares
            if share.percent
        )
        yield f"its route is not the one that was applied ({', '.join(shares)}): fleetctl plan"
    for share in route.shares:
        held = (live.resources.get(adapter_address(share.adapter, name)) for name in share.servers)
        unsure = [item.server for item in held if isinstance(item, LoadedAdapter) and item.unsure]
        if unsure:
            yield (
                f"{short_version(share.adapter)} on {', '.join(unsure)} may answer other bytes, "
                "its copy was damaged: fleetctl reconcile --once"
            )


FOR_PEOPLE: Final = frozenset({Phase.UNDECIDED, Phase.DOUBTED, Phase.PAUSED, Phase.HELD})
"""Phases in which a version keeps its share until a person decides."""
_CLOSED: Final = frozenset({OutageKind.GATEWAY_DOWN, OutageKind.GATEWAY_REFUSES})
_RED, _YELLOW = "31", "33"


def urgent_outages(
    outages: Iterable[DriftCause], live: State, client: str | None
) -> list[dict[str, Any]]:
    """Return outages as documents, with the aliases of which requests get no answer.

    A gateway takes all aliases along; outages of servers and of aliases name their own.
    """
    rows = outage_documents(outages, client)
    for row in rows:
        closed = OutageKind(row["outage"]) in _CLOSED
        aliases = [route.alias for route in live.routes().values()] if closed else row["unanswered"]
        if aliases is not None:
            row["unanswered"] = [a for a in aliases if client in {None, client_of(a)}]
    return rows


def waiting_rollouts(
    fleet: FleetSpec, statuses: Iterable[RolloutStatus], client: str | None
) -> list[dict[str, Any]]:
    """Return the documents of the rollouts that wait for people."""
    found = (status for status in statuses if status.target.phase in FOR_PEOPLE)
    documents = rollout_documents(fleet, found)
    return [its for its in documents if client is None or its["alias"].startswith(f"{client}-")]


def urgent_lines(document: Mapping[str, Any], paint: Paint) -> list[str]:
    """Return the lines of outages, then of rollouts that wait; an empty line ends each kind."""
    lines = []
    for outage in document.get("outages", ()):
        first, *rest = outage_lines([outage])[:-1]
        lines += [paint(_RED, first), *rest]
    lines += [""] if lines else []
    for rollout in document.get("waiting", ()):
        version = f"{rollout['alias']} {rollout['version']} at {rollout['percent']} %"
        lines.append(paint(_YELLOW, f"WAITS FOR A PERSON {version}: {condition_of(rollout)}"))
        lines.append(f"  Helps: fleetctl rollout status {rollout['alias']}")
    return [*lines, ""] if document.get("waiting") else lines


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


def render_checks(document: dict[str, Any]) -> str:
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
