"""Judge plans by the declared rules; refuse a plan that is not allowed."""

from dataclasses import replace

from fleet.consent import approve_command, covering, denying
from fleet.errors import FleetError, UnapprovedError
from fleet.plan import Plan
from fleet.plan_rules import judge_rules
from fleet.rule_policy import PlanRuleFinding, RuleLevel
from runtime.workspace import Workspace


def with_rules(workspace: Workspace, plan: Plan) -> Plan:
    """Return a plan with the findings of the declared rules now; its id stays."""
    fleet = workspace.fleet()
    if not fleet.plan_rules:
        return plan
    return replace(plan, rules=judge_rules(plan, fleet, workspace.history(), workspace.now()))


def exit_code(plan: Plan, usual: int) -> int:
    """Return the exit code of a plan that is shown: 1 where a rule denies the plan."""
    return 1 if denying(plan) else usual


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
            f"Plan {plan.id} needs the approvals of {denied[0].approvals} people, and has "
            f"{len(people)}:{listed}",
            hint="Nothing was applied. After a look at the plan, another person types:",
            command=approve_command(plan),
        )
    for finding in broken:
        if finding.level is RuleLevel.WARN:
            workspace.warn(f"plan rule {_line(finding)}.")


def _line(finding: PlanRuleFinding) -> str:
    place = f" [{finding.origin}]" if finding.origin else ""
    return f"{finding.rule}: {finding.text}{place}"
