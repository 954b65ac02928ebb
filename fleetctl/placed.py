"""Where everything goes, for commands that show it; what has no place is told and left out."""

from dataclasses import dataclass

import click

from fleet.errors import PlacementError
from fleet.history import History, settled
from fleet.placement import PlacementResult, SearchLimits, place
from fleet.plan import Plan
from fleet.planning import best_effort, make_plan
from fleet.resources import State
from fleet.rollouts import RolloutTargets, decide_rollouts
from fleet.spec import FleetSpec
from fleet.vllm import with_engines
from fleetctl.session import Session


@dataclass(frozen=True, slots=True)
class PlacedFleet:
    """A fleet with a place for everything in it."""

    fleet: FleetSpec
    """Without the aliases of which a version has no place."""
    history: History
    wanted: RolloutTargets
    placement: PlacementResult
    error: PlacementError | None = None
    """Why some are left out."""


def placed(session: Session, live: State, search: SearchLimits) -> PlacedFleet:
    """Place the fleet, or what of it has a place; a warning says what has none.

    Raises:
        PlacementError: nothing can be placed, whatever is left out.
    """
    fleet, now = with_engines(session.fleet(), live), session.now()
    history = settled(session.history(), live)
    wanted = decide_rollouts(fleet, live, history, now)
    try:
        return PlacedFleet(fleet, history, wanted, place(fleet, wanted, live, search))
    except PlacementError as error:
        rest = best_effort(fleet, live, history, now, search)
        if rest is None:
            raise
        for alias, why in rest.left_out.items():
            click.echo(f"Warning: {alias} is left out: {why}.", err=True)
        click.echo("Shown is the rest. What helps: fleetctl diagnose", err=True)
        wanted = decide_rollouts(rest.fleet, live, rest.history, now)
        placement = place(rest.fleet, wanted, live, search)
        return PlacedFleet(rest.fleet, rest.history, wanted, placement, error)


def plan_of(session: Session, live: State, search: SearchLimits, there: PlacedFleet) -> Plan:
    """Return the plan of what is placed."""
    return make_plan(there.fleet, live, there.history, session.now(), search)
