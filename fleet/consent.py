"""Say why a plan needs a decision of a person, and whether approvals cover the plan."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from fleet.hardware import NO_BASIS
from fleet.names import alias_of, server_address
from fleet.plan import Action, Impact, Plan, Reason
from fleet.policies import PlanRuleFinding, RuleLevel
from fleet.resources import LoadedAdapter, Route, Server

WAIT_S: Final = 30
"""Upper bound of the wait for a version that is reloaded, in seconds: then the gateway refuses."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The approval of a plan by a person; it counts for the plan's id alone."""

    by: str
    at: datetime
    reason: str
    accept_outage: int = 0
    """Upper bound of the clients whose requests may fail."""


class DecisionKind(StrEnum):
    """A cause for which a plan needs a decision."""

    OUTAGE = "outage"
    """Requests fail for a while."""
    COLD = "cold way back"
    """Traffic leaves a version that is not kept loaded."""
    UNVERIFIED = "unverified"
    """More traffic goes to a server that could not be observed."""
    BYTES = "bytes not known"
    """A version is loaded anew, and nothing tells which bytes have answered until now."""
    ASSUMED = "not known"
    """A server starts whose memory or throughput no law tells; by server."""
    APPROVALS = "approvals"
    """A plan rule asks for the approvals of more people; by no alias."""


@dataclass(frozen=True, slots=True)
class DecisionDue:
    """A cause for which a plan needs a decision, with its aliases."""

    kind: DecisionKind
    aliases: tuple[str, ...]
    """Sorted; of `ASSUMED` the servers."""
    clients: tuple[str, ...]
    """Of the aliases, sorted."""


def decisions_due(plan: Plan) -> tuple[DecisionDue, ...]:
    """Return the causes for which a plan needs a decision; empty: the plan needs none.

    A first start is no outage, and neither is a reload that requests wait for. An alias that is no
    longer declared needs none: the declarations say it, and `prevent_destroy` keeps it.
    """
    impacts = {impact.alias: impact for impact in plan.impacts}
    kept = {
        change.after.alias
        for change in plan.changes
        if isinstance(change.before, Route)
        and isinstance(change.after, Route)
        # Nobody asks for the way back to a route that others made.
        and change.reason is not Reason.EDITED_LIVE
    }
    found = {
        DecisionKind.OUTAGE: [i.alias for i in impacts.values() if is_outage(i)],
        DecisionKind.COLD: [
            impact.alias
            for impact in impacts.values()
            if impact.back_out_class == "cold" and impact.alias in kept
        ],
        DecisionKind.UNVERIFIED: list(_unverified(plan)),
        DecisionKind.BYTES: {
            alias_of(change.after.adapter)
            for change in plan.changes
            if isinstance(change.after, LoadedAdapter) and change.reason is Reason.UNKNOWN_BYTES
        },
    }
    due = tuple(
        DecisionDue(
            kind,
            tuple(sorted(aliases)),
            tuple(sorted({impacts[alias].client for alias in aliases if alias in impacts})),
        )
        for kind, aliases in found.items()
        if aliases
    )
    if strange := _assumed(plan):
        due += (DecisionDue(DecisionKind.ASSUMED, strange, ()),)
    asked = any(finding.approvals and _is_denial(finding) for finding in plan.rules)
    return (*due, DecisionDue(DecisionKind.APPROVALS, (), ())) if asked else due


def _assumed(plan: Plan) -> tuple[str, ...]:
    """Return the servers that the plan creates or replaces and no law knows, sorted."""
    started = {
        change.address
        for change in plan.changes
        if isinstance(change.after, Server) and change.action in {Action.CREATE, Action.REPLACE}
    }
    return tuple(
        sorted(
            use.server
            for use in plan.capacity
            if server_address(use.server) in started
            and (not use.load or use.memory_basis == str(NO_BASIS))
        )
    )


def denying(plan: Plan) -> tuple[PlanRuleFinding, ...]:
    """Return the broken rules by which a plan is not allowed; no approval changes that."""
    return tuple(its for its in plan.rules if _is_denial(its) and not its.approvals)


def _is_denial(finding: PlanRuleFinding) -> bool:
    return finding.broken and finding.level is RuleLevel.DENY


def is_outage(impact: Impact) -> bool:
    """Say whether requests fail for a while: a short reload lets them wait."""
    seconds = WAIT_S + 1 if impact.outage_s is None else impact.outage_s
    return impact.interrupted and not (impact.waits and seconds <= WAIT_S)


def _unverified(plan: Plan) -> Iterator[str]:
    """Yield the aliases of which a silent server gets more traffic than now."""
    silent = {note.subject for note in plan.unknown}
    for change in plan.changes:
        if not isinstance(change.after, Route):
            continue
        before = change.before.shares if isinstance(change.before, Route) else ()
        had = {(s.adapter, server): s.percent for s in before for server in s.servers}
        if any(
            share.percent > had.get((share.adapter, server), 0)
            for share in change.after.shares
            for server in share.servers
            if server_address(server) in silent
        ):
            yield change.after.alias


def clients_out(plan: Plan) -> int:
    """Return the number of clients whose requests fail for a while."""
    return len({impact.client for impact in plan.impacts if is_outage(impact)})


def approve_command(plan: Plan) -> str:
    """Return the command that approves a plan with all that its clients lose."""
    out = clients_out(plan)
    accepted = f" --accept-outage {out}" if out else ""
    return f"fleetctl approve {plan.id}{accepted} --reason TEXT"


def covering(plan: Plan, approvals: Iterable[Approval]) -> tuple[Approval, ...]:
    """Return the approvals that accept all that a plan does to clients."""
    out = clients_out(plan)
    return tuple(approval for approval in approvals if approval.accept_outage >= out)
