"""Where everything goes, for commands that show it; what has no place is told and left out."""

from dataclasses import dataclass

import click

from fleet.declared import Fleet
from fleet.engines import with_engines
from fleet.errors import PlacementError
from fleet.history import History, settled
from fleet.pace import Paced, pace
from fleet.partial import rest_of
from fleet.placement import Placement, Search, place
from fleet.plan import Plan
from fleet.planning import make_plan
from fleet.resources import State
from fleetctl.session import Session


@dataclass(frozen=True, slots=True)
class Placed:
    """A fleet with a place for everything in it."""

    fleet: Fleet
    """Without the aliases of which a version has no place."""
    history: History
    wanted: Paced
    placement: Placement
    error: PlacementError | None = None
    """Why some are left out."""


def placed(session: Session, live: State, search: Search) -> Placed:
    """Place the fleet, or what of it has a place; a warning says what has none.

    Raises:
        PlacementError: nothing can be placed, whatever is left out.
    """
    fleet, now = with_engines(session.fleet(), live), session.now()
    history = settled(session.history(), live)
    wanted = pace(fleet, live, history, now)
    try:
        return Placed(fleet, history, wanted, place(fleet, wanted, live, search))
    except PlacementError as error:
        rest = rest_of(fleet, live, history, now, search)
        if rest is None:
            raise
        for alias, why in rest.left_out.items():
            click.echo(f"Warning: {alias} is left out: {why}.", err=True)
        click.echo("Shown is the rest. What helps: fleetctl diagnose", err=True)
        wanted = pace(rest.fleet, live, rest.history, now)
        placement = place(rest.fleet, wanted, live, search)
        return Placed(rest.fleet, rest.history, wanted, placement, error)


def plan_of(session: Session, live: State, search: Search, there: Placed) -> Plan:
    """Return the plan of what is placed."""
    return make_plan(there.fleet, live, there.history, session.now(), search)
