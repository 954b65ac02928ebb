"""Judge plans by the declared rules; refuse a plan that is not allowed."""

from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta

from fleet.consent import approve_command, covering, denying
from fleet.errors import FleetError, UnapprovedError
from fleet.plan import Plan
from fleet.plan_rules import DAYS, judge_rules, refused_requests, skipped_stages
from fleet.planning import promoted
from fleet.policies import PlanRuleFinding, RuleLevel
from fleet.usage import Operator, UsageFigures
from runtime.execute.outcome import HALF_WAY
from runtime.usage.store import UsageStore
from runtime.workspace import Workspace


def with_rules(workspace: Workspace, plan: Plan) -> Plan:
    """Return a plan with the findings of rules and of recorded requests now; its id stays."""
    fleet, history, now = workspace.fleet(), workspace.history(), workspace.now()
    found = judge_rules(plan, fleet, history, now) if fleet.plan_rules else ()
    given = covering(plan, history.approvals.get(plan.id, ()))
    week = _last_week(workspace, now) if plan.changes or plan.settings else {}
    routes = history.established
    requests = refused_requests(plan, fleet, week, routes, is_approved=bool(given))
    return replace(plan, rules=(*found, *requests))


def left_at_stage(workspace: Workspace, plan: Plan) -> set[str]:
    """Return the aliases that would skip a stage of the last apply, and would be promoted now."""
    skipped = skipped_stages(plan, workspace.history().established)
    aliases = promoted(plan).intersection(stage.alias for stage in skipped)
    for alias in sorted(aliases):
        text = "stays at its stage until an apply, as its next stage is no longer declared"
        workspace.inform(f"{alias} {text}. Look at it: fleetctl plan")
    return {*aliases}


def _last_week(workspace: Workspace, now: datetime) -> dict[str, UsageFigures]:
    """Return the recorded figures of the last week by alias; none where the store is unreadable."""
    with suppress(FleetError), closing(UsageStore(workspace.state_dir)) as store:
        since = now - timedelta(days=DAYS)
        cells = store.cells(Operator(), since, now, by=("alias",), by_cell=False)
        return {cell.alias: cell.figures for cell in cells}
    return {}


def exit_code(plan: Plan, usual: int) -> int:
    """Return the exit code of a plan: 1 where a rule denies it, 4 where clients are set aside."""
    return 1 if denying(plan) else HALF_WAY if plan.set_aside else usual


def require_allowed(workspace: Workspace, plan: Plan) -> None:
    """Refuse a plan that a rule denies now; emit the warnings of other broken rules.

    Raises:
        FleetError: FC5127, a rule denies the plan.
        UnapprovedError: FC5126, a rule asks for the approvals of more people.
    """
    broken = [finding for finding in with_rules(workspace, plan).rules if finding.broken]
    denied = [finding for finding in broken if finding.level is RuleLevel.DENY]
    if refused := [finding for finding in denied if not finding.approvals]:
        listed = "".join(f"\n  {_line(finding)}" for finding in refused)
        raise FleetError.of(
            "FC5127",
            "Plan is not allowed",
            f"By the rules of this fleet, plan {plan.id} must not be applied now:{listed}",
            hint="Wait, make the change smaller, or declare an exception of the rule with a last "
            "day and a reason, and have it reviewed.",
            command="fleetctl plan",
        )
    if denied:
        given = covering(plan, workspace.history().approvals.get(plan.id, ()))
        people = sorted({approval.by for approval in given})
        listed = "".join(f"\n  {_line(finding)}" for finding in denied)
        raise UnapprovedError.of(
            "FC5126",
            "Plan is not approved",
            f"Plan {plan.id} needs {_people(denied)}, and has {len(people)}:{listed}",
            hint="Nothing was applied. After a look at the plan, another person types:",
            command=approve_command(plan),
        )
    for finding in broken:
        if finding.level is RuleLevel.WARN:
            workspace.warn(f"plan rule {_line(finding)}.")


def _line(finding: PlanRuleFinding) -> str:
    place = f" [{finding.origin}]" if finding.origin else ""
    return f"{finding.rule}: {finding.text}{place}"


def _people(denied: list[PlanRuleFinding]) -> str:
    number = max(finding.approvals for finding in denied)
    return "the approval of 1 person" if number == 1 else f"the approvals of {number} people"
