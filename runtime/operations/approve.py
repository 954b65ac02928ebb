"""Approve plans; refuse a plan that needs a decision which no approval covers."""

from fleet.consent import Approval, DecisionKind, approve_command, covering, decisions_due
from fleet.errors import FleetError, UnapprovedError
from fleet.history import PlanApproved
from fleet.plan import Plan
from runtime.operations.reviewed import keep_plan, known_outage
from runtime.workspace import Workspace

SHOWN = 5
"""Upper bound of the clients and aliases that an error names."""
_WORDS = {
    DecisionKind.OUTAGE: "requests of {clients} fail for a while ({named})",
    DecisionKind.COLD: "the way back for {named} is cold",
    DecisionKind.ASSUMED: "nothing is known of the memory or speed of {named}",
    DecisionKind.BYTES: "nothing tells which bytes answered for {named} until now",
    DecisionKind.UNVERIFIED: "more traffic of {named} goes to a server that could not be observed",
}


def approve_plan(workspace: Workspace, plan_id: str, accept_outage: int, reason: str) -> None:
    """Write the approval of a plan into the ledger.

    Raises:
        FleetError: FC5128, the plan was made here and leaves more clients without answers.
    """
    out = known_outage(workspace, plan_id) or 0
    if accept_outage < out:
        detail = f"Plan {plan_id} leaves {_clients(out)} without answers for a while, and the "
        detail += f"approval would accept {accept_outage}. Nothing was recorded."
        hint = "If that is meant, accept all of them:"
        command = f"fleetctl approve {plan_id} --accept-outage {out} --reason TEXT"
        raise FleetError.of(
            "FC5128", "Approval accepts too few clients", detail, hint=hint, command=command
        )
    workspace.ledger().append([PlanApproved(plan_id, reason, accept_outage)])


def require_approved(workspace: Workspace, plan: Plan, *, assume: bool = False) -> None:
    """Refuse a plan that needs a decision, unless an approval covers the plan.

    `assume`: servers that no law knows may start.

    Raises:
        UnapprovedError: FC5126, no approval of this plan accepts what it does to clients.
    """
    left_out = {DecisionKind.APPROVALS, *([DecisionKind.ASSUMED] if assume else [])}
    due = [its for its in decisions_due(plan) if its.kind not in left_out]
    if not due:  # rules are judged by the time of the apply, see `require_allowed`
        return
    given = workspace.history().approvals.get(plan.id, ())
    if covering(plan, given):
        return
    keep_plan(workspace, plan)
    causes = []
    for decision in due:
        names = decision.clients if decision.kind is DecisionKind.OUTAGE else decision.aliases
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        named = ", ".join(names[:SHOWN]) + more
        causes.append(_WORDS[decision.kind].format(clients=_clients(len(names)), named=named))
    detail = f"Plan {plan.id} needs a decision: {'; '.join(causes)}. {_given(given)}"
    hint = "Nothing was applied. After a look at the plan, the person who decides types:"
    raise UnapprovedError.of(
        "FC5126", "Plan is not approved", detail, hint=hint, command=approve_command(plan)
    )


def _given(approvals: tuple[Approval, ...]) -> str:
    if not approvals:
        return "Nobody has approved it."
    most = max(approvals, key=lambda approval: approval.accept_outage)
    return f"The approval by {most.by} accepts an outage of {_clients(most.accept_outage)} alone."


def _clients(number: int) -> str:
    return "1 client" if number == 1 else f"{number} clients"
