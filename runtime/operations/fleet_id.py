"""Gives a fleet its id: the mark by which two fleets of the same name are told apart."""

from uuid import uuid4

from fleet.errors import FleetError
from fleet.resources import State
from runtime.workspace import Workspace


def draw_fleet_id(workspace: Workspace, live: State) -> None:
    """Draw an id for a fleet that has none, or take the id that its servers bear.

    Servers bear an id that the ledger lacks if the ledger was lost and they were adopted. The next
    apply writes the id into the ledger, and starts servers with it; those that run need no restart.

    Raises:
        FleetError: FC4103, servers of this name are of two fleets.
    """
    if workspace.fleet_id():
        return
    found = sorted({*live.fleets.values()})
    if len(found) > 1:
        by_id = {drawn: server for server, drawn in sorted(live.fleets.items(), reverse=True)}
        named = " and ".join(f"`{by_id[drawn]}` that of id {drawn}" for drawn in found)
        raise FleetError.of(
            "FC4103",
            "A server of another fleet",
            f"Two fleets are called `{workspace.fleet().name}`: {named}. The ledger here knows the "
            "id of none, so nothing was touched.",
            hint="Give one of them another name, or plan where its ledger is.",
        )
    workspace.drawn_id = found[0] if found else uuid4().hex[:12]
