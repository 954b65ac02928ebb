"""Checked: nothing is planned that an independent check objects to."""

from fleet.declared import Fleet
from fleet.errors import PlacementError, problem
from fleet.pace import Paced
from fleet.placement import Placement
from fleet.placement.verify import verify, verify_steps
from fleet.plan import Plan
from fleet.resources import State

SHOWN = 5


def checked(fleet: Fleet, wanted: Paced, live: State, placement: Placement) -> Placement:
    """Return a placement that keeps every rule.

    Raises:
        PlacementError: FC2090: the search has made a mistake, which is ours and not the reader's.
    """
    found = verify(fleet, wanted, live, placement)
    if found:
        raise _fault([each.text for each in found])
    return placement


def checked_steps(plan: Plan, fleet: Fleet, live: State) -> Plan:
    """Return a plan whose steps, in their order, never ask for more than servers have.

    Raises:
        PlacementError: FC2090, as above.
    """
    found = verify_steps(plan, fleet, live)
    if found:
        raise _fault([each.text for each in found])
    return plan


def _fault(texts: list[str]) -> PlacementError:
    more = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return PlacementError(
        problem(
            "FC2090",
            "A placement failed its own check",
            f"{'; '.join(texts[:SHOWN])}{more}. This is a mistake in fleetctl, not in the "
            "declarations; nothing was planned, and nothing has changed.",
            hint="please report it with the declarations and the live state",
            command="fleetctl plan --save-live live.json",
        )
    )
