"""Plans nothing for a fleet of which this checkout knows too little; says how it would know more.

A clone, or a new state folder, has an empty ledger. What runs is recognised by its marks then, and
what only the ledger knows is unknown, so that nothing is made anew, stopped or unloaded.
"""

from dataclasses import replace
from typing import Final
from uuid import uuid4

from fleet.errors import FleetError
from fleet.history import settled
from fleet.names import kind_of_address
from fleet.planning import desired_state, folders_of, ownerless
from fleet.resources import State
from runtime.workspace import Workspace

NOT_ASKED: Final = "not asked: no connection is opened"
_SHARE: Final = "a home that checkouts share (`state: {postgresql: env:NAME}` or `{file: FOLDER}`)"


def unknown_state(workspace: Workspace, why: str = NOT_ASKED) -> State:
    """Return a live state in which every server that is or should be there is unknown."""
    fleet, history = workspace.fleet(), workspace.history()
    wanted = desired_state(fleet, State(), settled(history, State()), workspace.now())
    established = State(resources=history.established)
    attached = {server.name for host in fleet.hosts.values() for server in host.attached}
    names = {*wanted.servers(), *established.servers(), *attached}
    return State(unknown_servers=dict.fromkeys(sorted(names), why), routes_unknown=why)


def known_part(workspace: Workspace, live: State) -> State:
    """Return a live state; of a fleet that the ledger does not know, with all of it unknown.

    Nothing is created, stopped or unloaded on the strength of an empty state folder, and no setting
    is told to differ.
    """
    if not ownerless(settled(workspace.history(), live), live):
        return live
    others = ", ".join(folders_of(live))
    why = (
        "the ledger here is empty and the fleet runs: stages, blocks and evidence are unknown, and "
        + (f"{others} has them. " if others else "another checkout has them, or they were lost. ")
        + f"Declare {_SHARE}, or plan there"
        + ("" if others else "; if they were lost: fleetctl adopt")
    )
    running = {
        name: f"runs on {server.host}, with {held} of its versions loaded"
        for name, server in live.servers().items()
        for held in [sum(adapter.server == name for adapter in live.adapters().values())]
    }
    unknown = unknown_state(workspace, "whether it runs is known where its ledger is")
    workspace.past = replace(workspace.history(), settings=workspace.fleet().settings)
    servers = {**unknown.unknown_servers, **running, **live.unknown_servers}
    ports = {**live.ports, **{name: server.port for name, server in live.servers().items()}}
    return replace(live, resources={}, unknown_servers=servers, ports=ports, routes_unknown=why)


def require_known(workspace: Workspace, live: State) -> None:
    """Refuse to change a fleet that was observed here and of which the ledger knows nothing.

    Raises:
        FleetError: FC5180, the ledger is elsewhere, or was lost.
    """
    found = ownerless(settled(workspace.history(), live), live)
    if not found:
        return
    servers = sum(kind_of_address(address) == "server" for address in found)
    text = " and ".join(
        f"{count} {noun}{'s' * (count != 1)}"
        for count, noun in ((servers, "server"), (len(found) - servers, "route"))
        if count
    )
    others = ", ".join(folders_of(live))
    where = (
        f"{others} has the ledger. Work there, or declare {_SHARE}."
        if others
        else "the folder that they were started from was lost, or is another checkout's. Checkouts "
        f"share {_SHARE.removeprefix('a home that checkouts share ')} as home of the ledger."
    )
    raise FleetError.of(
        "FC5180",
        "This state folder is new, and the fleet runs",
        f"{text} of this fleet {'serve' if len(found) > 1 else 'serves'}, and the ledger knows "
        f"none of them: {where} A plan from here would create what is there.",
        hint=""
        if others
        else "If it was lost, adopt them: nothing that serves is touched, and copies that servers "
        "read again are put back first. Rollback works meanwhile.",
        command="fleetctl plan" if others else "fleetctl adopt",
    )


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
