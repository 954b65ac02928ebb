"""Judge the review level of a plan, with reasons, and word the decisions that are needed."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fleet.consent import DecisionKind, approve_command, decisions_due, denying, is_outage
from fleet.names import kind_of_address, name_in_address, step_parts
from fleet.plan import Action, Impact, Plan
from fleet.policies import PlanRuleFinding, RuleLevel
from fleet.resources import Route
from fleet.steps import TIMES
from plans.render.prospects import rollouts_begun
from plans.tables import about, and_more, counted, listed
from plans.wording import interruption, kind_of

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


def rule_lines(plan: Plan) -> Iterator[str]:
    """Yield the findings of the declared rules on a plan; broken rules come first."""
    if plan.rules:
        broken = sum(finding.broken for finding in plan.rules)
        yield f"Plan rules: {len(plan.rules) - broken} kept, {broken} broken."
    for finding in sorted(plan.rules, key=lambda finding: not finding.broken):
        said = finding.level.value if finding.broken else "kept"
        origin = f" [{finding.origin}]" if finding.origin else ""
        yield f"  {said} {finding.rule}: {finding.text}{origin}"


CANARY_PERCENT = 10
"""Upper bound of a premium client's moved share without a warning: a canary. Unit: percent."""
PREMIUM_TIERS = frozenset({"premium", "enterprise"})


class ReviewLevel(StrEnum):
    """Care that a reviewer has to take; values in order of severity."""

    SAFE = "safe to apply"
    CARE = "look before you apply"
    DANGER = "needs a decision"
    DENIED = "not allowed"


@dataclass(frozen=True, slots=True)
class Review:
    """A level and its reasons; reasons of the worst level come first."""

    level: ReviewLevel
    reasons: tuple[str, ...]

    @property
    def light(self) -> str:
        """Return the coloured circle."""
        return dict(zip(ReviewLevel, "🟢🟡🔴⛔", strict=True))[self.level]


def judge(plan: Plan) -> Review:
    """Return the verdict on a plan.

    Denied: a plan rule does not allow the plan. Danger: the plan needs a decision, see
    `fleet.consent`. Care: a rollout that begins, terms or hardware that change, a move that must
    be, a server that restarts, an alias that is no longer served, a premium client moved
    by more than a canary, few slots left, a promise that will be broken, a warning, or a server
    that could not be observed.
    """
    warned = (its for its in plan.rules if its.broken and its.level is RuleLevel.WARN)
    aims = tuple(_aims(plan))
    danger, care = tuple(_danger(plan)), (*_broken(warned), *_care(plan))
    if denied := denying(plan):
        return Review(ReviewLevel.DENIED, (*_broken(denied), *danger, *care, *aims))
    if danger:
        return Review(ReviewLevel.DANGER, danger + care + aims)
    if care:
        return Review(ReviewLevel.CARE, care + aims)
    return Review(ReviewLevel.SAFE, (*_safe(plan), *aims))


def _aims(plan: Plan) -> Iterator[str]:
    """Yield the number of adapters whose class aims at less time than their answers will take."""
    if plan.late and plan.late.aimed:
        number = counted(plan.late.judged, "adapter")
        aim = f"{'its' if plan.late.judged == 1 else 'their'} latency class aims at (an estimate)"
        yield f"{len(plan.late.aimed)} of {number} will be later than {aim}"


def _danger(plan: Plan) -> Iterator[str]:
    for decision in decisions_due(plan):
        named = listed(decision.aliases)
        match decision.kind:
            case DecisionKind.OUTAGE:
                yield _interrupted(plan, decision.aliases)
            case DecisionKind.COLD:
                yield f"the way back for {named} is cold (a version must be loaded first)"
            case DecisionKind.UNVERIFIED:
                yield f"more traffic of {named} goes to a server that could not be observed"
            case DecisionKind.BYTES:
                yield f"nothing tells which bytes answered for {named} until now; other bytes may"
            case DecisionKind.ASSUMED:
                yield (
                    f"nothing is known of the memory or speed of {named}: "
                    "declare what the warnings name, or go on with `apply --assume`"
                )
            case DecisionKind.APPROVALS:
                yield from _broken(its for its in plan.rules if its.approvals)


def _broken(findings: Iterable[PlanRuleFinding]) -> Iterator[str]:
    yield from (f"rule {finding.rule}: {finding.text}" for finding in findings)


def _interrupted(plan: Plan, aliases: Collection[str]) -> str:
    impacts = [impact for impact in plan.impacts if impact.alias in aliases]
    longest = max(impact.outage_s or 0.0 for impact in impacts)
    span = about(longest) if longest else "a while"
    return f"requests to {listed(aliases)} will {interruption(impacts)} for {span}"


def _care(plan: Plan) -> Iterator[str]:
    waiting = [i.alias for i in plan.impacts if i.interrupted and not is_outage(i)]
    if waiting:
        yield _interrupted(plan, waiting)
    servers = [change for change in plan.changes if kind_of(change) == "server"]
    if restarts := sum(change.action is Action.REPLACE for change in servers):
        in_turn = any(step_parts(step.id)[0] == "restore" for step in plan.steps)
        how = ", those with a version in common one after another" if in_turn else ""
        yield f"{counted(restarts, 'server')} to restart{how}"
    ending = [
        name_in_address(change.address)
        for change in plan.changes
        if kind_of(change) == "route" and change.action is Action.DELETE
    ]
    if ending:
        yield f"no longer served: {listed(ending)}"
    yield from _begun(plan)
    premium = [
        f"{impact.alias} ({impact.share_moved} %)"
        for impact in plan.impacts
        if impact.tier in PREMIUM_TIERS and impact.share_moved > CANARY_PERCENT
        if impact.back_out_class != "none"
    ]
    if premium:
        yield f"a premium client's requests move: {listed(premium)}"
    crowded = [
        f"{use.server} {use.slots_during} of {use.slots}"
        for use in plan.capacity
        if use.slots_during > use.slots_before and use.slots_during >= use.slots
    ]
    if crowded:
        yield f"no adapter slot is free during the apply: {listed(crowded, 4)}"
    acting = [setting.path for setting in plan.settings if setting.acts]
    if acting:
        yield f"programs, addresses or flags to look at: {listed(acting, 4)}"
    if plan.late and plan.late.promised:
        yield f"answers will come later than promised: {listed(plan.late.promised, 4)}"
    if plan.warnings:
        yield counted(len(plan.warnings), "warning")
    yield from _left(plan)


def _left(plan: Plan) -> Iterator[str]:
    """Yield the parts that the plan leaves as they are."""
    if plan.set_aside:
        yield f"set aside: {listed([note.subject for note in plan.set_aside], 4)}"
    # A key that is not readable here is no risk: apply reads the key, or leaves the live key.
    if silent := [
        note.subject or note.text for note in plan.unknown if kind_of_address(note.subject) != "key"
    ]:
        yield f"not observed: {listed(silent, 4)}"


def _begun(plan: Plan) -> Iterator[str]:
    """Yield the reasons for care that lie in the time after the apply."""
    if begun := rollouts_begun(plan):
        yield f"begins a rollout to 100 %: {listed(begun, 4)}"
    for why, number in Counter(move.why for move in plan.moves if move.forced).items():
        yield f"{counted(number, 'adapter')} must move: {why}"
    if terms := _terms_changed(plan):
        yield f"terms or hardware change for {listed(terms, 4)}"


def _terms_changed(plan: Plan) -> list[str]:
    """Return the aliases whose limits, tier, gates or hardware change beside their versions."""
    routes = [
        change.after.alias
        for change in plan.changes
        if isinstance(change.before, Route) and isinstance(change.after, Route)
        if change.before.policy != change.after.policy
    ]
    return sorted({*routes, *(told.alias for told in plan.prospects if told.settings)})


def _safe(plan: Plan) -> Iterator[str]:
    yield "no restart"
    if any(impact.back_out_class == "warm" for impact in plan.impacts):
        yield "every way back is warm"
