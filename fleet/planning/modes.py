"""Heal: the part of what is due that may be done without anybody looking at a plan.

What was established and is missing is put back as it was, and rollouts that are due move to
their next stage. Nothing is removed, restarted or newly deployed here.

Partial: what can be planned while some aliases find no place; they stay as they are live.

One client's version that fits nowhere is no reason to keep another client's rollout waiting.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fleet.encoding import plan_id
from fleet.history import History
from fleet.names import alias_of, name_in_address
from fleet.placement import SearchLimits, attempt, causes_of
from fleet.plan import Action, Change, Plan, Reason
from fleet.planning.desired import reroute
from fleet.planning.drift import DriftAction, DriftCause
from fleet.planning.ordering import order
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
    back = {each.address: history.established[each.address] for each in changes}
    desired = replace(live, resources=dict(sorted({**live.resources, **back}.items())))
    steps = order(changes, desired, live, reroute(changes, desired, live), smoke=smoke)
    made = replace(_empty(fleet, history.seq), changes=changes, steps=steps)
    return replace(made, id=plan_id(made))


def advances(plan: Plan, without: Collection[str] = ()) -> Plan:
    """Return the part of a plan that moves rollouts on, or takes their traffic back.

    Args:
        plan: What is due.
        without: Aliases that stay as they are.
    """
    moves = (Reason.ROLLOUT_ADVANCED, Reason.ROLLED_BACK)
    routes = {
        each.address: each
        for each in plan.changes
        if each.reason in moves and isinstance(each.after, Route)
        if each.after.alias not in without
    }
    steps = tuple(each for each in plan.steps if each.address in routes and not each.needs)
    done = {each.address for each in steps}
    aliases = {name_in_address(address) for address in done}
    made = replace(
        _empty(plan.fleet, plan.ledger_seq),
        changes=tuple(each for address, each in routes.items() if address in done),
        steps=steps,
        impacts=tuple(each for each in plan.impacts if each.alias in aliases),
        gates=tuple(each for each in plan.gates if each.alias in aliases),
    )
    return replace(made, id=plan_id(made))


def _empty(fleet: str, seq: int) -> Plan:
    return Plan(
        id="",
        fleet=fleet,
        changes=(),
        steps=(),
        capacity=(),
        impacts=(),
        gates=(),
        held=(),
        unknown=(),
        warnings=(),
        cost_before=None,
        cost_after=None,
        unchanged=0,
        untouched_clients=(),
        ledger_seq=seq,
    )


ROUNDS = 8
"""After so many, every alias that wants a version which is not loaded is left out at once."""


@dataclass(frozen=True, slots=True)
class BestEffort:
    """What is left to plan with."""

    fleet: FleetSpec
    """Without the aliases that are left out."""
    history: History
    """In which what they have is nobody's, and so is not touched."""
    left_out: Mapping[str, str]
    """By alias: what has no place, and why."""


def best_effort(
    fleet: FleetSpec, live: State, history: History, now: datetime, search: SearchLimits
) -> BestEffort | None:
    """Leave out the aliases whose versions find no place, until the others all have one.

    What they have live stays, and takes its slots, as if somebody else had put it there.

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
        wanted = decide_rollouts(rest.fleet, live, rest.history, now)
        board, failed = attempt(rest.fleet, wanted, live, search)
        if not failed:
            return rest
        for cause in causes_of(board, failed):
            for adapter in cause.adapters:
                left.setdefault(alias_of(adapter), f"no place for {adapter}: {cause.text}")
        if number >= ROUNDS:
            left = {**dict.fromkeys(_unloaded(wanted), "it waits for the others"), **left}
    return None


def _without(
    fleet: FleetSpec, live: State, history: History, left: Mapping[str, str]
) -> BestEffort:
    adapters = {name: each for name, each in fleet.adapters.items() if name not in left}
    theirs = {
        address
        for address, each in {**history.established, **live.resources}.items()
        if isinstance(each, LoadedAdapter | Route) and _alias(each) in left
    }
    kept = {each: known for each, known in history.established.items() if each not in theirs}
    past = replace(history, owned=history.owned - theirs, established=kept)
    return BestEffort(replace(fleet, adapters=adapters), past, dict(sorted(left.items())))


def _alias(resource: LoadedAdapter | Route) -> str:
    return resource.alias if isinstance(resource, Route) else alias_of(resource.adapter)


def _unloaded(wanted: RolloutTargets) -> Iterable[str]:
    for alias, each in wanted.wanted.items():
        if any(adapter not in wanted.loaded for adapter, _ in each.shares):
            yield alias
