"""Report rollouts: a line for every rollout, and a rollout in full."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from fleet.history import GateEvidence
from fleet.plan import NO_EVIDENCE, GateDue, PlanNote
from fleet.resources import FULL
from fleet.rollouts import Phase, RolloutStatus
from fleet.spec import FleetSpec
from plans.explain.rollout import mark_document
from plans.tables import aligned, iso
from plans.wording import short_version

QUIET = (Phase.COMPLETE, Phase.FIRST)
"""Phases without a rollout under way."""


def rollout_documents(fleet: FleetSpec, statuses: Iterable[RolloutStatus]) -> list[dict[str, Any]]:
    """Return the documents of rollouts."""
    return [rollout_document(fleet, status) for status in statuses]


def rollout_document(fleet: FleetSpec, status: RolloutStatus) -> dict[str, Any]:
    """Return the document of a rollout."""
    target, stage, marks = status.target, status.stage, status.marks
    begun = stage if stage and stage.percent else None
    pause = marks.get("pause") if target.phase is Phase.PAUSED else None
    needed_s = status.traffic.needed_s if status.traffic else None
    ended = [
        gate
        for gate in status.evidence.values()
        if target.phase is Phase.SOAKING and (gate.adapter, gate.percent) == (target.target, FULL)
    ]
    return {
        "alias": target.alias,
        "version": short_version(target.target),
        "adapter": target.target,
        "phase": target.phase.value,
        "percent": status.percent,
        "half_way": status.half_way or None,
        "released": status.released,
        "shares": {
            short_version(name): percent for name, percent in status.shares.items() if percent
        },
        "weights": list(status.policy.weights),
        "since": iso(stage.since) if stage else None,
        "baked_at": iso(begun.since + status.policy.bake) if begun else None,
        "longest_until": iso(begun.since + status.policy.longest_bake) if begun else None,
        "requests_needed": status.traffic.needed if status.traffic else None,
        "expected_at": iso(begun.since + timedelta(seconds=needed_s))
        if begun and needed_s
        else None,
        "paused_until": iso(pause.until) if pause and pause.until and "hold" not in marks else None,
        "next": target.why,
        "waits_for": str(target.note or ""),
        "gates": [
            *(_gate(gate, status.evidence.get(gate.gate)) for gate in target.gates),
            *(_soaked(fleet, gate) for gate in ended),
        ],
        "marks": [{"mark": mark.mark, **mark_document(mark)} for mark in marks.values()],
    }


def _gate(gate: GateDue, evidence: GateEvidence | None) -> dict[str, Any]:
    known = evidence if gate.status != NO_EVIDENCE else None
    return {
        "gate": gate.gate,
        "metric": gate.metric,
        "limit": gate.threshold,
        "status": gate.status,
        "reason": known.finding.reason if known else "",
        "power": known.finding.power if known else "",
        "entry": known.seq if known else None,
    }


def _soaked(fleet: FleetSpec, found: GateEvidence) -> dict[str, Any]:
    """Return a gate after the cut-over, which may take the traffic back but stops no stage."""
    gate, finding = fleet.gates.get(found.gate), found.finding
    limit, verdict = gate.limit if gate else "", finding.verdict.value
    return _gate(GateDue(found.alias, found.gate, finding.metric, limit, verdict), found)


def active(rollouts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rollouts under way."""
    return [rollout for rollout in rollouts if rollout["phase"] not in QUIET]


def render_list(rollouts: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for every rollout, and the condition that a rollout waits for."""
    listed = list(rollouts)
    if not listed:
        return "No rollout is under way.\n"
    rows = [("Alias", "Version", "Share", "Phase", "Gates")]
    for rollout in listed:
        verdicts = ", ".join(f"{gate['gate']} {gate['status']}" for gate in rollout["gates"])
        cells = (rollout["alias"], rollout["version"], f"{rollout['percent']} %", rollout["phase"])
        rows.append((*cells, verdicts or "-"))
    heading, *table = aligned(rows)
    lines = [heading]
    for line, rollout in zip(table, listed, strict=True):
        lines.append(line)
        if condition := condition_of(rollout):
            lines.append(f"  {condition}")
    return "\n".join(lines) + "\n"


def condition_of(rollout: Mapping[str, Any]) -> str:
    """Return the condition that a rollout, given as its document, waits for."""
    return PlanNote.of(rollout["waits_for"]).text or str(rollout["next"])


def render_one(rollout: Mapping[str, Any], now: datetime) -> str:
    """Return a rollout in full."""
    shares = ", ".join(f"{name} {percent} %" for name, percent in rollout["shares"].items())
    weights = " -> ".join(f"{weight} %" for weight in rollout["weights"])
    lines = [
        f"{rollout['alias']}: {rollout['version']} at {rollout['percent']} %, {rollout['phase']}",
        f"  traffic      {shares or 'none'}",
        f"  stages       {weights}",
    ]
    if rollout["since"]:
        lines.append(f"  this stage   since {rollout['since']}")
    if rollout["baked_at"]:
        over = datetime.fromisoformat(rollout["baked_at"]) <= now
        state = "baked" if over else "bakes until"
        lines.append(
            f"  {state:12} {rollout['baked_at']}, at the longest until {rollout['longest_until']}"
        )
    if rollout["expected_at"]:
        lines.append(
            f"  gates need   about {rollout['requests_needed']} requests of this version, expected "
            f"by {rollout['expected_at']} (an estimate)"
        )
    for gate in rollout["gates"]:
        entry = f"  (evidence {gate['entry']})" if gate["entry"] else ""
        lines.append(
            f"  gate         {gate['gate']}: {gate['status']}, {gate['metric']} at most "
            f"{gate['limit']}{entry}"
        )
        lines += [f"               {text}" for text in (gate["reason"], gate["power"]) if text]
    for mark in rollout["marks"]:
        reason = f": {mark['reason']}" if mark["reason"] else ""
        until = f"until {mark['until']}, " if mark["until"] else ""
        until += f"void since {mark['void']}, " if mark["void"] else ""
        lines.append(f"  {mark['mark']:12} {until}by {mark['by']} at {mark['at']}{reason}")
    if condition := condition_of(rollout):
        lines.append(f"  next         {condition}")
    return "\n".join(lines) + "\n"
