"""Heal: the part of what is due that may be done without anybody looking at a plan.

What was established and is missing is put back as it was, and rollouts that are due move to
their next stage. Nothing is removed, restarted or newly deployed here.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from fleet.canonical import plan_id
from fleet.diversion import divert
from fleet.drift import Cause, Remedy
from fleet.history import History
from fleet.order import order
from fleet.plan import Action, Change, Plan, Reason
from fleet.resources import Route, State


def heal(
    fleet: str,
    causes: Iterable[Cause],
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
        if cause.remedy is Remedy.HEAL
        for why in [cause.summary]
        for address in cause.addresses
        if address in history.established
    )
    back = {each.address: history.established[each.address] for each in changes}
    desired = replace(live, resources=dict(sorted({**live.resources, **back}.items())))
    steps = order(changes, desired, live, divert(changes, desired, live), smoke=smoke)
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
    aliases = {address.partition("/")[2] for address in done}
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
