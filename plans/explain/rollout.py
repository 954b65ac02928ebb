"""What is known of a route's rollout: its gates, rejections and marks, for status and explain."""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.gates import MISSING, Verdict, recheck_verdict
from fleet.history import History
from fleet.plan import Plan
from fleet.resources import Route
from fleet.rollouts import Phase, RolloutTargets
from plans.render.text import evidence, limit
from plans.wording import short_version


def facts_of(plan: Plan, wanted: RolloutTargets | None, route: Route) -> Iterator[tuple[str, str]]:
    """Yield where a route's rollout stands and what its gates know, each with its label."""
    its = wanted.wanted.get(route.alias) if wanted else None
    if its is not None and its.phase is not Phase.COMPLETE:
        yield "Rollout", f"{short_version(its.target)} is {its.phase.value.replace('_', ' ')}"
    for each in plan.gates:
        if each.alias == route.alias:
            yield "Gate", f"{each.gate} ({limit(each)}): {evidence(each)}"
            if each.power:
                yield "", each.power
    for line in plan.outlook:
        alias, _, text = line.partition(": ")
        if alias == route.alias:
            yield "Outlook", text


def told(
    history: History, route: Route, *, client: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Return what the ledger knows of a route's rollout: `gates`, `rejected` and `marks`.

    For a `client` no reason tells of others.
    """
    return {
        "gates": [
            {
                "gate": each.gate,
                "adapter": each.adapter,
                "percent": each.percent,
                "verdict": each.finding.verdict.value,
                "reason": of_the_client(each.finding.plain()) if client else each.finding.reason,
                "at": each.at.isoformat(timespec="seconds"),
                "evidence": each.seq,
            }
            for each in history.evidence.get(route.alias, ())
            if each.adapter == route.shares[0].adapter
        ],
        "rejected": [
            {"digest": digest, "adapter": each.adapter, "gate": each.gate, "evidence": each.seq}
            for digest, each in sorted(history.rejected.get(route.alias, {}).items())
        ],
        "marks": [
            {
                "mark": each.mark,
                "adapter": each.adapter,
                "by": each.by,
                "at": each.at.isoformat(timespec="seconds"),
                "until": each.until.isoformat(timespec="seconds") if each.until else None,
                "void": each.void.isoformat(timespec="seconds") if each.void else None,
                "reason": each.reason,
            }
            for each in history.marks.get(route.alias, ())
        ],
    }


def of_the_client(finding: Mapping[str, Any]) -> str:
    """Return a verdict's reason in the words of its own counts, and nobody else's.

    What was written beside them comes from engines and gateways: it may name machines, people
    and other clients.
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
    said = again.verdict.value == finding["verdict"]
    return again.reason.replace(MISSING, "not all requests are known yet") if said else ""


def lines_of(alias: Mapping[str, Any]) -> Iterator[str]:
    """Yield the same for people, of an alias as status has it; gates only while it is new."""
    newest = alias["versions"][0]["percent"]
    for each in alias["gates"] if newest < 100 else ():  # noqa: PLR2004 (percent)
        yield f"gate {each['gate']}: {each['verdict']} (#{each['evidence']}), {each['reason']}"
    for each in alias["rejected"]:
        digest = each["digest"][:12]
        yield f"rejected: digest {digest}, gate {each['gate']} (#{each['evidence']})"
    for each in alias["marks"]:
        reason = f": {each['reason']}" if each["reason"] else ""
        version = short_version(each["adapter"])
        until = f" until {each['until']}" if each["until"] else ""
        until += f" counts no more since {each['void']}" if each["void"] else ""
        yield f"{each['mark']}: {version}{until}, by {each['by']} at {each['at']}{reason}"
