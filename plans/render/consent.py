"""Word the decisions about a plan: losses of clients, the approving command, findings of rules."""

from collections.abc import Iterator, Sequence
from typing import Final

from fleet.consent import approve_command, decisions_due, is_outage
from fleet.names import step_parts
from fleet.plan import Impact, Plan
from fleet.steps import TIMES
from plans.amounts import and_more

_LOSSES: Final = 12
"""Upper bound of clients whose lost requests are listed; the plan file has all."""


def decision_lines(plan: Plan) -> Iterator[str]:
    """Yield the losses of clients, and the command that approves a plan that needs a decision."""
    if decisions_due(plan):
        yield from _losses(plan)
        yield f"To approve: {approve_command(plan)}"


def _losses(plan: Plan) -> Iterator[str]:
    """Yield seconds and requests without answers by client; clients after `_LOSSES` in a line."""
    found = [impact for impact in plan.impacts if is_outage(impact)]
    clients = sorted({impact.client for impact in found})
    if found:
        yield f"Without answers, by {_basis(plan)}:"
    for client in clients[:_LOSSES]:
        yield f"  {client}: {_loss([impact for impact in found if impact.client == client])}"
    if rest := and_more(clients, _LOSSES):
        yield f"  {rest}"


def _basis(plan: Plan) -> str:
    """Return the origin of the seconds: what starts and loads took here before, or usually take."""
    known = {
        step.estimate_s != TIMES[verb][0]
        for step in plan.steps
        if (verb := step_parts(step.id)[0]) in ("start", "load")
    }
    if known == {True}:
        return "what starts and loads took here before"
    return "usual durations, an estimate" if True not in known else "estimates, some as seen before"


def _loss(impacts: Sequence[Impact]) -> str:
    """Return the seconds without answers of a client, and its requests in that time."""
    spans = [impact.outage_s for impact in impacts]
    span = "unknown seconds" if None in spans else f"{max(filter(None, spans), default=0.0):.0f} s"
    known = [impact.lost_requests for impact in impacts if impact.lost_requests is not None]
    total = f"{sum(known):,} requests"
    basis = " and ".join(sorted({impact.demand_basis for impact in impacts} - {""}))
    if not known:
        none = all(impact.peak_rpm is None for impact in impacts)
        return f"{span}; requests unknown{', as no demand is declared' if none else ''}"
    if len(known) < len(impacts):
        return f"{span}; {total} by {basis} demand, and those of aliases without demand"
    return f"{span}; at most {total}, by the busiest hour of {basis} demand"


def rules(plan: Plan) -> Iterator[str]:
    """Yield the findings of the declared rules on a plan; broken rules come first."""
    if plan.rules:
        broken = sum(finding.broken for finding in plan.rules)
        yield f"Plan rules: {len(plan.rules) - broken} kept, {broken} broken."
    for finding in sorted(plan.rules, key=lambda finding: not finding.broken):
        said = finding.level.value if finding.broken else "kept"
        origin = f" [{finding.origin}]" if finding.origin else ""
        yield f"  {said} {finding.rule}: {finding.text}{origin}"
