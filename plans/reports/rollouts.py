"""Rollouts as people read them: a line for each, and one of them in full."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fleet.history import GateEvidence, History, MarkKind, RolloutMark, is_out, kept_out
from fleet.names import version_of
from fleet.plan import GateDue
from fleet.resources import FULL
from fleet.rollouts import AliasTarget, Phase
from fleet.spec import FleetSpec

QUIET = (Phase.COMPLETE, Phase.FIRST)
"""Phases in which nothing is going on."""


def document(
    fleet: FleetSpec, wanted: Mapping[str, AliasTarget], history: History, routes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return where every alias stands, by alias.

    Args:
        fleet: What is declared.
        wanted: What the pace says of each alias.
        history: The ledger, folded.
        routes: Live routes by alias.
    """
    return [_one(fleet, each, history, routes) for _, each in sorted(wanted.items())]


def _one(
    fleet: FleetSpec, each: AliasTarget, history: History, routes: Mapping[str, Any]
) -> dict[str, Any]:
    rollout = fleet.rollouts[fleet.adapters[each.alias].rollout]
    route = routes.get(each.alias)
    shares = {share.adapter: share.percent for share in route.shares} if route else {}
    stage = history.stages.get(each.alias)
    ours = stage if stage is not None and stage.adapter == each.target else None
    other = stage if stage is not ours and stage and stage.is_half_way(shares) else None
    evidence = {found.gate: found for found in history.evidence.get(each.alias, ())}
    marks = {m.mark: m for m in history.marks.get(each.alias, ()) if m.adapter == each.target}
    return {
        "alias": each.alias,
        "version": version_of(each.target),
        "adapter": each.target,
        "phase": each.phase.value,
        "percent": shares.get(each.target, 0),
        "half_way": other.adapter if other else None,
        "released": not _is_kept_out(fleet, each, history),
        "shares": {version_of(name): percent for name, percent in shares.items() if percent},
        "weights": list(rollout.weights),
        "since": _iso(ours.since) if ours else None,
        "baked_at": _iso(ours.since + rollout.bake) if ours and ours.percent else None,
        "longest_until": _iso(ours.since + rollout.longest_bake) if ours and ours.percent else None,
        "paused_until": _paused_until(each, marks),
        "next": each.why,
        "waits_for": each.held,
        "gates": [
            *(_gate(gate, evidence.get(gate.gate)) for gate in each.gates),
            *(_soaked(fleet, found) for found in evidence.values() if _of_soak(each, found)),
        ],
        "marks": [
            {
                "mark": mark.mark,
                "by": mark.by,
                "at": _iso(mark.at),
                "until": _iso(mark.until) if mark.until else None,
                "void": _iso(mark.void) if mark.void else None,
                "reason": mark.reason,
            }
            for mark in marks.values()
        ],
    }


def _is_kept_out(fleet: FleetSpec, each: AliasTarget, history: History) -> bool:
    """Say whether the version, or its bytes under another name, wait for `release`."""
    facts = fleet.versions.get(each.target)
    digest = facts.digest if facts else ""
    stopped = each.phase in (Phase.HELD, Phase.ROLLED_BACK)  # with all traffic it was put there
    named = stopped or each.target in kept_out(history, each.alias)
    return named and is_out(history, fleet.versions, each.alias, each.target, digest)


def _paused_until(each: AliasTarget, marks: Mapping[MarkKind, RolloutMark]) -> str | None:
    """Return when it goes on by itself; None: it is not paused, or somebody holds it as well."""
    pause = marks.get("pause") if each.phase is Phase.PAUSED and "hold" not in marks else None
    return _iso(pause.until) if pause is not None and pause.until is not None else None


def _gate(gate: GateDue, evidence: GateEvidence | None) -> dict[str, Any]:
    known = evidence is not None and gate.status != "no evidence"
    return {
        "gate": gate.gate,
        "metric": gate.metric,
        "limit": gate.threshold,
        "status": gate.status,
        "reason": evidence.finding.reason if evidence and known else "",
        "power": evidence.finding.power if evidence and known else "",
        "entry": evidence.seq if evidence and known else None,
    }


def _of_soak(each: AliasTarget, found: GateEvidence) -> bool:
    soaking = each.phase is Phase.SOAKING
    return soaking and (found.adapter, found.percent) == (each.target, FULL)


def _soaked(fleet: FleetSpec, found: GateEvidence) -> dict[str, Any]:
    """Return what a gate says after the cut-over; it stops nothing more, and may take it back."""
    gate = fleet.gates.get(found.gate)
    limit = gate.limit if gate else ""
    verdict = found.finding.verdict.value
    due = GateDue(found.alias, found.gate, found.finding.metric, limit, verdict)
    return _gate(due, found)


def active(rollouts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those in which something is going on."""
    return [each for each in rollouts if each["phase"] not in QUIET]


def render_list(rollouts: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for each, and what those that wait are waiting for."""
    found = list(rollouts)
    if not found:
        return "No rollout is under way.\n"
    rows = [
        (each["alias"], each["version"], f"{each['percent']} %", each["phase"], _verdicts(each))
        for each in found
    ]
    head = ("Alias", "Version", "Share", "Phase", "Gates")
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    lines = []
    for row, each in zip((head, *rows), (None, *found), strict=True):
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
        if each and (said := _waits(each)):
            lines.append(f"  {said}")
    return "\n".join(lines) + "\n"


def _verdicts(each: Mapping[str, Any]) -> str:
    return ", ".join(f"{gate['gate']} {gate['status']}" for gate in each["gates"]) or "-"


def _waits(each: Mapping[str, Any]) -> str:
    return str(each["waits_for"]).removeprefix(f"{each['alias']}: ") or str(each["next"])


def render_one(each: Mapping[str, Any], now: datetime) -> str:
    """Return everything about one rollout."""
    shares = ", ".join(f"{name} {percent} %" for name, percent in each["shares"].items())
    weights = " -> ".join(f"{weight} %" for weight in each["weights"])
    lines = [
        f"{each['alias']}: {each['version']} at {each['percent']} %, {each['phase']}",
        f"  traffic      {shares or 'none'}",
        f"  stages       {weights}",
    ]
    if each["since"]:
        lines.append(f"  this stage   since {each['since']}")
    if each["baked_at"]:
        over = datetime.fromisoformat(each["baked_at"]) <= now
        state = "baked" if over else "bakes until"
        lines.append(
            f"  {state:12} {each['baked_at']}, at the longest until {each['longest_until']}"
        )
    for gate in each["gates"]:
        entry = f"  (evidence {gate['entry']})" if gate["entry"] else ""
        lines.append(
            f"  gate         {gate['gate']}: {gate['status']}, {gate['metric']} at most "
            f"{gate['limit']}{entry}"
        )
        lines += [f"               {text}" for text in (gate["reason"], gate["power"]) if text]
    for mark in each["marks"]:
        reason = f": {mark['reason']}" if mark["reason"] else ""
        until = f"until {mark['until']}, " if mark["until"] else ""
        until += f"void since {mark['void']}, " if mark["void"] else ""
        lines.append(f"  {mark['mark']:12} {until}by {mark['by']} at {mark['at']}{reason}")
    if said := _waits(each):
        lines.append(f"  next         {said}")
    return "\n".join(lines) + "\n"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
