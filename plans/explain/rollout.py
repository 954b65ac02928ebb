"""Explain a route's rollout: its gates, rejections and marks, for status and explain."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.gates import MISSING, Verdict, recheck_verdict
from fleet.history import History, RolloutMark
from fleet.plan import Plan
from fleet.resources import Route
from fleet.rollouts import Phase, RolloutTargets
from plans.explain.figures import Fact
from plans.render.text import evidence, limit
from plans.tables import iso
from plans.wording import short_version


def rollout_facts(plan: Plan, wanted: RolloutTargets | None, route: Route) -> Iterator[Fact]:
    """Yield the phase of a route's rollout and the state of its gates, with labels."""
    target = wanted.wanted.get(route.alias) if wanted else None
    if target is not None and target.phase is not Phase.COMPLETE:
        yield "Rollout", f"{short_version(target.target)} is {target.phase.value.replace('_', ' ')}"
    for gate in plan.gates:
        if gate.alias == route.alias:
            yield "Gate", f"{gate.gate} ({limit(gate)}): {evidence(gate)}"
            if gate.power:
                yield "", gate.power
    for note in plan.outlook:
        if note.subject == route.alias:
            yield "Outlook", note.text


def rollout_document(
    history: History, route: Route, *, client: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return a route's rollout from the ledger: `gates`, `rejected` and `marks`.

    For a `client`, reasons name no other client.
    """
    return {
        "gates": [
            {
                "gate": judged.gate,
                "adapter": judged.adapter,
                "percent": judged.percent,
                "verdict": judged.finding.verdict.value,
                "reason": client_reason(judged.finding.plain())
                if client
                else judged.finding.reason,
                "at": iso(judged.at),
                "evidence": judged.seq,
            }
            for judged in history.evidence.get(route.alias, ())
            if judged.adapter == route.shares[0].adapter
        ],
        "rejected": [
            {"digest": digest, "adapter": out.adapter, "gate": out.gate, "evidence": out.seq}
            for digest, out in sorted(history.rejected.get(route.alias, {}).items())
        ],
        "marks": [
            {"mark": mark.mark, "adapter": mark.adapter, **mark_document(mark)}
            for mark in history.marks.get(route.alias, ())
        ],
    }


def mark_document(mark: RolloutMark) -> dict[str, Any]:
    """Return author, times and reason of a mark on a rollout."""
    return {
        "by": mark.by,
        "at": iso(mark.at),
        "until": iso(mark.until) if mark.until else None,
        "void": iso(mark.void) if mark.void else None,
        "reason": mark.reason,
    }


def client_reason(finding: Mapping[str, Any]) -> str:
    """Return a verdict's reason, worded again from the verdict's counts.

    The recorded reason comes from engines and gateways, and may name machines, people and other
    clients.
    """
    if finding["metric"] == "neighbour_ratio":
        return ""
    try:
        again = recheck_verdict(finding)
    except ValueError:
        again = None
    if again is None or again.estimate is None:
        open_ = finding["verdict"] == Verdict.INCONCLUSIVE
        return "could not be judged" if open_ else ""
    same = again.verdict.value == finding["verdict"]
    return again.reason.replace(MISSING, "not all requests are known yet") if same else ""


def rollout_lines(alias: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for every gate, rejection and mark of an alias of a status document.

    Gates are left out when the newest version has all requests.
    """
    newest = alias["versions"][0]["percent"]
    for gate in alias["gates"] if newest < 100 else ():  # noqa: PLR2004 (percent)
        yield f"gate {gate['gate']}: {gate['verdict']} (#{gate['evidence']}), {gate['reason']}"
    for rejection in alias["rejected"]:
        digest = rejection["digest"][:12]
        yield f"rejected: digest {digest}, gate {rejection['gate']} (#{rejection['evidence']})"
    for mark in alias["marks"]:
        reason = f": {mark['reason']}" if mark["reason"] else ""
        version = short_version(mark["adapter"])
        until = f" until {mark['until']}" if mark["until"] else ""
        until += f" counts no more since {mark['void']}" if mark["void"] else ""
        yield f"{mark['mark']}: {version}{until}, by {mark['by']} at {mark['at']}{reason}"
