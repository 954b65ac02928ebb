"""Modes: plans other than the whole: repair, advance of rollouts, best effort.

Repair and advance need no review: established resources that are missing are put back as they
were, and rollouts that are due move to their next stage. Nothing is removed, restarted or newly
deployed.

Best effort plans around aliases that find no place, which stay as they are live: a version of one
client that fits nowhere is no reason to keep another client's rollout waiting.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.encoding import plan_id
from fleet.history import History
from fleet.names import alias_of
from fleet.placement import SearchLimits, attempt, causes_of
from fleet.plan import Action, Change, Plan, Reason
from fleet.planning.desired import reroute
from fleet.planning.drift import DriftAction, DriftCause
from fleet.planning.ordering import order
from fleet.planning.plan_input import StepRules
from fleet.resources import LoadedAdapter, Route, State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec


def repair(
    fleet: str,
    causes: Iterable[DriftCause],
    history: History,
    live: State,
    smoke: Mapping[str, tuple[str, ...]],
) -> Plan:
    """Return the plan that puts back what the healable causes took away.

    Args:
        fleet: The fleet's name.
        causes: As `classify` found them.
        history: What was established; servers come back with the flags they had.
        live: What is there now.
        smoke: By full adapter name: inputs to ask after a load.
    """
    changes = tuple(
        Change(address, Action.CREATE, None, history.established[address], Reason.MISSING, why)
        for cause in causes
        if cause.remedy is DriftAction.HEAL
        for why in [cause.summary]
        for address in cause.addresses
        if address in history.established
    )
    back = {change.address: history.established[change.address] for change in changes}
    desired = replace(live, resources=dict(sorted({**live.resources, **back}.items())))
    steps = order(changes, desired, live, reroute(changes, desired, live), StepRules(smoke))
    made = replace(Plan("", fleet, ledger_seq=history.seq), changes=changes, steps=steps)
    return replace(made, id=plan_id(made))


def advances(plan: Plan, without: Collection[str] = ()) -> Plan:
    """Return the part of a plan that moves rollouts on, or takes their traffic back.

    Args:
        plan: What is due.
        without: Aliases that stay as they are.
    """
    moves = (Reason.ROLLOUT_ADVANCED, Reason.ROLLED_BACK)
    routes = {
        change.address: change
        for change in plan.changes
        if change.reason in moves and isinstance(change.after, Route)
        if change.after.alias not in without
    }
    steps = tuple(step for step in plan.steps if step.address in routes and not step.needs)
    done = {step.address for step in steps}
    aliases = {address.partition("/")[2] for address in done}
    made = replace(
        Plan("", plan.fleet, ledger_seq=plan.ledger_seq),
        changes=tuple(change for address, change in routes.items() if address in done),
        steps=steps,
        impacts=tuple(impact for impact in plan.impacts if impact.alias in aliases),
        gates=tuple(gate for gate in plan.gates if gate.alias in aliases),
    )
    return replace(made, id=plan_id(made))


ROUNDS = 8
"""Upper bound of the rounds; then all aliases that want a version not loaded are left out."""


@dataclass(frozen=True, slots=True)
class BestEffort:
    """Declarations and history without the aliases that find no place."""

    fleet: FleetSpec
    """Without the aliases that are left out."""
    history: History
    """In which resources of those aliases are not owned, and so are left alone."""
    left_out: Mapping[str, str]
    """By alias: what has no place, and why."""


def best_effort(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits
) -> BestEffort | None:
    """Leave out the aliases whose versions find no place, until the others all have one.

    Their live resources stay and take slots, as if loaded by hand.

    Args:
        fleet: The declarations.
        live: What was observed.
        history: The ledger, folded.
        now: The time, with its zone.
        search: How hard to look for places.

    Returns:
        None where even that does not fit.
    """
    left: dict[str, str] = {}
    for number in range(ROUNDS + 2):
        rest = _without(fleet, live, history, left)
        targets = decide_rollouts(rest.fleet, live, rest.history, now)
        state, failed = attempt(rest.fleet, targets, live, search)
        if not failed:
            return rest
        for cause in causes_of(state, failed):
            for adapter in cause.adapters:
                left.setdefault(alias_of(adapter), f"no place for {adapter}: {cause.text}")
        if number >= ROUNDS:
            left = {**dict.fromkeys(_unloaded(targets), "it waits for the others"), **left}
    return None


def _without(
    fleet: FleetSpec, live: State, history: History, left: Mapping[str, str]
) -> BestEffort:
    adapters = {name: adapter for name, adapter in fleet.adapters.items() if name not in left}
    theirs = {
        address
        for address, resource in {**history.established, **live.resources}.items()
        if isinstance(resource, LoadedAdapter | Route) and _alias(resource) in left
    }
    kept = {
        resource: known for resource, known in history.established.items() if resource not in theirs
    }
    past = replace(history, owned=history.owned - theirs, established=kept)
    return BestEffort(replace(fleet, adapters=adapters), past, dict(sorted(left.items())))


def _alias(resource: LoadedAdapter | Route) -> str:
    return resource.alias if isinstance(resource, Route) else alias_of(resource.adapter)


def _unloaded(targets: RolloutTargets) -> Iterable[str]:
    for alias, target in targets.wanted.items():
        if any(adapter not in targets.loaded for adapter, _ in target.shares):
            yield alias
