"""Status: what serves whom right now, as one JSON document and as text."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fleet.history import Entry, History
from fleet.names import address_parts
from fleet.resources import LoadedAdapter, Route, State
from plans.explain.rollout import lines_of, told

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
) -> dict[str, Any]:
    """Gather the status.

    Args:
        fleet: The fleet's name.
        live: What was observed.
        history: The ledger, folded.
        entries: The ledger's entries, oldest first.
        client: Only this client's aliases, and no servers; None: everything.
        counts: Requests since the split last changed, of aliases with several versions.
        away: Why the ledger cannot be read, so that `entries` are what is known of it.
    """
    as_of = entries[-1].time.isoformat(timespec="seconds") if away and entries else None
    document: dict[str, Any] = {
        "format": "fleetctl-status",
        "format_version": "1.0",
        "fleet": fleet,
        "aliases": [
            _alias(each, history, counts, client=client is not None)
            for each in live.routes().values()
            if client is None or each.client == client
        ],
        "routes_unknown": live.routes_unknown,
        "ledger_away": away,
        "ledger_as_of": as_of,
    }
    if client is None:
        document["servers"] = _servers(live, history)
        document["last_apply"] = _last_apply(entries)
        document["notes"] = [*live.notes, *gateway_notes(live)]
    return document


def gateway_notes(live: State) -> list[str]:
    """Return what is wrong with gateways, and what helps, one a line."""
    return [f"gateway {name} {each.what}: {each.command}" for name, each in live.gateways.items()]


def _alias(route: Route, history: History, counts: Counts, *, client: bool) -> dict[str, Any]:
    stage = history.stages.get(route.alias)
    holds = history.holds.get(route.alias, {})
    return {
        "alias": route.alias,
        "versions": [
            {
                "adapter": each.adapter,
                "version": each.adapter.rpartition("-v")[2],
                "percent": each.percent,
                "servers": list(each.servers),
                **_seen(route, each.adapter, counts),
            }
            for each in route.shares
        ],
        "stage_since": stage.entered.isoformat(timespec="seconds") if stage else None,
        "held": [
            {
                "adapter": each.adapter,
                "by": each.by,
                "at": each.at.isoformat(timespec="seconds"),
                "reason": each.reason,
            }
            for _, each in sorted(holds.items())
        ],
        **told(history, route, client=client),
    }


def _seen(route: Route, adapter: str, counts: Counts) -> dict[str, Any]:
    """Return a version's requests and observed percent; None where nobody counts them."""
    counted = [
        counts[key] for each in route.shares if (key := (route.alias, each.adapter)) in counts
    ]
    if not counted:
        return {"requests": None, "observed_percent": None}
    requests, total = counts.get((route.alias, adapter), 0), sum(counted)
    return {
        "requests": requests,
        "observed_percent": round(100 * requests / total, 1) if total else None,
    }


def _servers(live: State, history: History) -> list[dict[str, Any]]:
    held: dict[str, int] = {}
    for adapter in live.adapters().values():
        held[adapter.server] = held.get(adapter.server, 0) + 1
    known = {each.name for each in live.servers().values()} | set(live.unknown_servers)
    known |= {name for kind, name in map(address_parts, history.owned) if kind == "server"}
    known |= {
        each.server for each in history.established.values() if isinstance(each, LoadedAdapter)
    }
    rows = []
    for name in sorted(known):
        up = live.servers().get(name)
        state = "up" if up else "unknown" if name in live.unknown_servers else "down"
        rows.append(
            {
                "server": name,
                "state": state,
                "base": up.base if up else None,
                "url": live.urls.get(name),
                "engine_version": live.versions.get(name),
                "adapters": held.get(name, 0),
                "detail": live.unknown_servers.get(name, ""),
            }
        )
    return rows


def _last_apply(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """Return the last apply; one that has begun and not ended says so."""
    last: dict[str, Any] | None = None
    for entry in entries:
        when = entry.time.isoformat(timespec="seconds")
        if entry.kind == "apply_started":
            last = {
                "plan_id": entry.data.get("plan_id"),
                "trigger": entry.data.get("trigger"),
                "commit": entry.data.get("commit"),
                "by": entry.by,
                "run": entry.run,
                "started": when,
                "finished": None,
                "result": "unfinished",
            }
        elif entry.kind == "apply_finished" and last and last["run"] == entry.run:
            last |= {"finished": when, "result": entry.data.get("result")}
    return last


def render_text(document: Mapping[str, Any]) -> str:
    """Return the status for people."""
    lines = [f"Fleet {document['fleet']}"]
    if document["routes_unknown"]:
        lines.append(f"Routes cannot be read: {document['routes_unknown']}")
        lines.append("What serves whom is not known; gateways go on with what they have.")
    if document["ledger_away"]:
        lines.append(f"THE LEDGER CANNOT BE READ: {document['ledger_away']}")
        lines.append(
            f"Stages, holds and gates are those of {document['ledger_as_of']}. Live gates take "
            "traffic back meanwhile; no rollout moves on, nothing is healed, and no golden set is "
            "asked."
        )
    nothing = [] if document["routes_unknown"] else ["No alias is routed."]
    lines += ["", *(_alias_lines(document["aliases"]) or nothing)]
    lines += _upkeep_lines(
        document.get("drift", ()), document.get("retraining", ()), document.get("drills", ())
    )
    if "servers" in document:
        lines += ["", *(_server_lines(document["servers"]) or ["No server."])]
        lines += ["", _last_line(document["last_apply"])]
        lines += [f"Note: {each}" for each in document["notes"]]
    return "\n".join(lines) + "\n"


def _upkeep_lines(
    drifts: Iterable[Mapping[str, Any]],
    turns: Iterable[Mapping[str, Any]],
    drills: Iterable[Mapping[str, Any]],
) -> list[str]:
    lines = [
        f"DRIFT {each['adapter']}: {each['standing']}, {each['measure']}: {each['reason']}"
        for each in drifts
    ]
    for each in turns:
        claim = each["claim"]
        held = f", claimed by {claim['by']} until {claim['until'][:10]}" if claim else ""
        lines.append(f"Retrain {each['alias']}: {each['turn']}, {each['reason']}{held}")
    lines += [_drill_line(each) for each in drills if each["turn"] != "fresh"]
    return ["", *lines] if lines else []


def _drill_line(each: Mapping[str, Any]) -> str:
    """Say whose rollback should be practised, or would not succeed."""
    if each["turn"] == "failed":
        what = f"FAILED at {each['tried']}: a rollback would not succeed"
    else:
        since = f" since {each['due']}" if each["due"] else ""
        what = f"{each['turn']}{since}, every {each['every']}"
    last = f"last succeeded at {each['last']}" if each["last"] else "never succeeded yet"
    waits = f"; waits: {each['waits']}" if each["waits"] else ""
    return f"Drill {each['alias']}: {what}, {last}{waits}"


def _alias_lines(aliases: Iterable[Mapping[str, Any]]) -> list[str]:
    found = list(aliases)
    width = max((len(each["alias"]) for each in found), default=0)
    lines = []
    for each in found:
        serving = [one for one in each["versions"] if one["percent"]]
        resident = [one["version"] for one in each["versions"] if not one["percent"]]
        shares = ", ".join(_share(one) for one in serving)
        text = f"{each['alias']:{width}}  {shares or 'nothing'}"
        if resident:
            text += f"  (kept loaded: {', '.join(resident)})"
        if any(one["requests"] is not None for one in serving):
            text += f"  of {sum(one['requests'] or 0 for one in each['versions']):,} requests"
        if len(serving) > 1 and each["stage_since"]:
            text += f"  since {each['stage_since']}"
        lines.append(text)
        for hold in each["held"]:
            version = hold["adapter"].rpartition("-v")[2]
            reason = f": {hold['reason']}" if hold["reason"] else ""
            lines.append(f"{'':{width}}  held: {version}, by {hold['by']} at {hold['at']}{reason}")
        lines += [f"{'':{width}}  {line}" for line in lines_of(each)]
    return lines


def _share(version: Mapping[str, Any]) -> str:
    """Return a version's share as wanted, and as it is."""
    wanted = f"{version['version']} {version['percent']} %"
    if version["requests"] is None:
        return wanted
    seen = version["observed_percent"]
    return f"{wanted} ({'none seen' if seen is None else f'{seen:.1f} % seen'})"


def _server_lines(servers: Iterable[Mapping[str, Any]]) -> list[str]:
    found = list(servers)
    width = max((len(each["server"]) for each in found), default=0)
    return [
        f"{each['server']:{width}}  {each['state']:7}  {each['adapters']:3} adapters  "
        f"{each['url'] or each['detail'] or '-'}"
        for each in found
    ]


def _last_line(last: Mapping[str, Any] | None) -> str:
    if last is None:
        return "Nothing has been applied yet."
    commit = f", commit {last['commit']}" if last["commit"] else ""
    return (
        f"Last apply: plan {last['plan_id']} by {last['by']} at {last['started']}{commit}: "
        f"{last['result']}"
    )
