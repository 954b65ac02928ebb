"""Keep plans for their review, and refuse a plan file that differs from the reviewed plan.

A plan's id proves nothing: whoever changes a file can compute its id anew. So a plan from a file is
carried out if this state folder made it, with all that is shown of it, or if planning here and now
gives the same plan.
"""

import hashlib
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from fleet.codec import canonical_json, plain, plan_digest
from fleet.consent import (
    Approval,
    DecisionKind,
    approve_command,
    clients_out,
    covering,
    decisions_due,
    denying,
)
from fleet.errors import FleetError, StalePlanError, UnapprovedError
from fleet.history import PlanApproved, overtaken, settled
from fleet.plan import Plan
from fleet.planning import promoted, require_sound
from fleet.policies import PlanRuleFinding, RuleLevel
from fleet.resources import State
from fleet.rules import DAYS, judge_rules, refused_requests, skipped_stages
from fleet.spec import FleetSpec
from fleet.usage import Operator, UsageFigures
from runtime.execute.outcome import HALF_WAY
from runtime.files import make_private, plain_text, replace_file
from runtime.operations.change.planning import plan_fleet
from runtime.usage.store import UsageStore
from runtime.workspace import Call, Workspace


def with_rules(workspace: Workspace, plan: Plan) -> Plan:
    """Return a plan with the findings of rules and of recorded requests now; its id stays."""
    fleet, history, now = workspace.project.fleet(), workspace.ledger.history(), workspace.now()
    found = judge_rules(plan, fleet, history, now) if fleet.plan_rules else ()
    given = covering(plan, history.approvals.get(plan.id, ()))
    week = _last_week(workspace, now) if plan.changes or plan.settings else {}
    routes = history.established
    requests = refused_requests(plan, fleet, week, routes, is_approved=bool(given))
    return replace(plan, rules=(*found, *requests))


def left_at_stage(workspace: Workspace, plan: Plan) -> set[str]:
    """Return the aliases that would skip a stage of the last apply, and would be promoted now."""
    skipped = skipped_stages(plan, workspace.ledger.history().established)
    aliases = promoted(plan).intersection(stage.alias for stage in skipped)
    for alias in sorted(aliases):
        text = "stays at its stage until an apply, as its next stage is no longer declared"
        workspace.inform(f"{alias} {text}. Look at it: fleetctl plan")
    return {*aliases}


def _last_week(call: Call, now: datetime) -> dict[str, UsageFigures]:
    """Return the recorded figures of the last week by alias; none where the store is unreadable."""
    with suppress(FleetError), closing(UsageStore(call.state_dir)) as store:
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
        given = covering(plan, workspace.ledger.history().approvals.get(plan.id, ()))
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


PLANS: Final = "plans"
"""Folder of the state folder with a file for every plan made here: its name is the digest of the
plan, its content the digest of the declarations, the plan's id, and the number of clients that it
leaves without answers; the last is missing in files of earlier releases.
"""
KEPT: Final = 1_000
"""Upper bound of the plans that are remembered; the oldest are forgotten first."""
_NAMED: Final = 5
"""Upper bound of the differences that an error names."""
_AGAIN: Final = "fleetctl plan --out plan.json"


def declared_digest(fleet: FleetSpec) -> str:
    """Return the SHA-256, 64 hex digits, of the declared values and the lock."""
    document = {"settings": dict(fleet.settings), "versions": plain(fleet.versions)}
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def keep_plan(workspace: Workspace, plan: Plan) -> None:
    """Remember that a plan was made here; a folder that cannot be written is no error."""
    folder, declared = workspace.state_dir / PLANS, declared_digest(workspace.project.fleet())
    with suppress(OSError):
        make_private(folder)
        replace_file(
            folder / plan_digest(plan), f"{declared} {plan.id} {clients_out(plan)}".encode()
        )
        by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in by_age[KEPT:]:
            path.unlink(missing_ok=True)


def is_kept(call: Call, plan: Plan) -> bool:
    """Say whether this state folder made a plan and all that the plan shows."""
    return (call.state_dir / PLANS / plan_digest(plan)).is_file()


def known_outage(call: Call, plan_id: str) -> int | None:
    """Return the number of clients without answers of a plan made here; None: none has this id."""
    for path in (call.state_dir / PLANS).glob("*"):
        with suppress(OSError, ValueError):  # a run that was killed may leave a file half written
            _, made, *out = plain_text(path).split()
            if made == plan_id:
                return int(out[0]) if out else 0
    return None


def require_reviewed(workspace: Workspace, plan: Plan, live: State) -> None:
    """Refuse a plan from a file that was not made here, or that is too old.

    A plan made here of other declarations is refused, too: steps use what is declared beside them,
    such as interpreters. A plan that planning gives now is remembered: a run that is cut short may
    be repeated.

    Raises:
        ConfigError: as `require_sound`.
        StalePlanError: FC3040, the plan is not one of this project; FC3041, it is an older one.
    """
    require_sound(workspace.project.fleet(), settled(workspace.ledger.history(), live), live)
    if _kept_for(workspace, plan) == declared_digest(workspace.project.fleet()):
        length = workspace.ledger.history().seq
        since = tuple(overtaken(workspace.ledger.open().newest(plan.ledger_seq), plan, length))
        if since:
            listed = "".join(f"\n  {line}" for line in since[:_NAMED])
            detail = f"Plan {plan.id} was made for another moment. Since then:{listed}"
            hint = "What it would do now was not reviewed. Plan again."
            raise StalePlanError.of(
                "FC3041", "The plan is an older one", detail, hint=hint, command=_AGAIN
            )
        return
    now = plan_fleet(workspace, live)
    if plan_digest(replace(now, ledger_seq=plan.ledger_seq, rules=plan.rules)) != plan_digest(plan):
        why = "Whoever edits a plan can give it a fitting id, so nothing of it is done."
        if is_kept(workspace, plan):
            why = "The declarations have changed since it was made here, so nothing of it is done."
        raise StalePlanError.of(
            "FC3040",
            "The plan is not one of this project",
            f"This state folder did not make plan {plan.id} of these declarations, and planning "
            f"here gives plan {now.id}: {_difference(plan, now)}. {why}",
            hint="Plan here, and have that plan reviewed.",
            command=_AGAIN,
        )
    keep_plan(workspace, plan)


def require_id(plan: Plan, reviewed: str) -> None:
    """Refuse a plan that is due and has another id than the reviewed plan.

    Raises:
        StalePlanError: FC3045, the ids differ.
    """
    if plan.id == reviewed or not (plan.changes or plan.settings):
        return
    was = f"Plan {reviewed} was reviewed" if reviewed else "No plan was reviewed"
    raise StalePlanError.of(
        "FC3045",
        "Planning gives another plan than the reviewed one",
        f"{was}, and planning now gives plan {plan.id}: the fleet or its declarations have changed "
        "since. Nothing was done.",
        hint="Have the plan of now reviewed, and pass its id",
        command="fleetctl plan",
    )


def _kept_for(call: Call, plan: Plan) -> str:
    """Return the digest of the declarations that a kept plan was made of; empty: not kept."""
    try:
        kept = plain_text(call.state_dir / PLANS / plan_digest(plan))
        return kept.partition(" ")[0]
    except (OSError, ValueError):
        return ""


def _difference(plan: Plan, now: Plan) -> str:
    """Return the first differences between a plan from a file and the plan made here."""
    theirs, ours = ({change.address: change for change in made.changes} for made in (plan, now))
    told, said = ({setting.path: setting for setting in made.settings} for made in (plan, now))
    begun, due = ({step.id: step for step in made.steps} for made in (plan, now))
    return (
        _unlike("changes", theirs, ours)
        or _unlike("steps", begun, due)
        or _unlike("settings", told, said)
        or "they differ in what they tell the reviewer"
    )


def _unlike(noun: str, theirs: Mapping[Any, Any], ours: Mapping[Any, Any]) -> str:
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"they differ in the {noun} {', '.join(names[:_NAMED])}{more}" if names else ""


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
    workspace.ledger.open().append([PlanApproved(plan_id, reason, accept_outage)])


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
    given = workspace.ledger.history().approvals.get(plan.id, ())
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
