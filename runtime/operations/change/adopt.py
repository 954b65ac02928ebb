"""Adopt live resources as if fleetctl had made them; go on after the loss of a state folder.

A lost folder takes along no server and no gateway: servers carry their launch records, gateways
hold the routing table. Copies that servers may read again are put back before all else.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final
from uuid import uuid4

from fleet.codec import plain
from fleet.errors import FleetError
from fleet.history import Adopted, History, settled
from fleet.names import Address, address_parts, alias_of, kind_of_address
from fleet.planning import desired_state, folders_of, ownerless
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.spec import FleetSpec
from runtime.engine_registry import write_missing_records
from runtime.execute.run import keep_for_restart
from runtime.gateway.admin.state_dir import SECRET_FILE, remember, write_table
from runtime.gateway.control.control import LocalGateways
from runtime.operations.machines.heal import put_back_store
from runtime.workspace import LedgerContext, Workspace

NOT_ASKED: Final = "not asked: no connection is opened"
_SHARE: Final = "a home that checkouts share (`state: {postgresql: env:NAME}` or `{file: FOLDER}`)"


def unknown_state(workspace: Workspace, why: str = NOT_ASKED) -> State:
    """Return a live state in which every server that is or should be there is unknown."""
    fleet, history = workspace.project.fleet(), workspace.ledger.history()
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
    if not ownerless(settled(workspace.ledger.history(), live), live):
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
    history, settings = workspace.ledger.history(), workspace.project.fleet().settings
    workspace.past = replace(history, settings=settings)
    servers = {**unknown.unknown_servers, **running, **live.unknown_servers}
    ports = {**live.ports, **{name: server.port for name, server in live.servers().items()}}
    return replace(live, resources={}, unknown_servers=servers, ports=ports, routes_unknown=why)


def require_known(ledger: LedgerContext, live: State) -> None:
    """Refuse to change a fleet that was observed here and of which the ledger knows nothing.

    Raises:
        FleetError: FC5180, the ledger is elsewhere, or was lost.
    """
    found = ownerless(settled(ledger.history(), live), live)
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
    if workspace.ledger.fleet_id():
        return
    found = sorted({*live.fleets.values()})
    if len(found) > 1:
        by_id = {drawn: server for server, drawn in sorted(live.fleets.items(), reverse=True)}
        named = " and ".join(f"`{by_id[drawn]}` that of id {drawn}" for drawn in found)
        raise FleetError.of(
            "FC4103",
            "A server of another fleet",
            f"Two fleets are called `{workspace.project.fleet().name}`: {named}. The ledger here "
            "knows the id of none, so nothing was touched.",
            hint="Give one of them another name, or plan where its ledger is.",
        )
    workspace.drawn_id = found[0] if found else uuid4().hex[:12]


def to_adopt(workspace: Workspace, live: State, globs: Sequence[str]) -> dict[Address, Resource]:
    """Return the live resources that an adoption of these patterns of addresses writes down.

    Without a pattern: servers that fleetctl starts, and declared adapters, routes and keys.
    """
    history = History() if workspace.ledger.is_lost() else workspace.ledger.history()
    known = settled(history, live).established
    return {
        address: resource
        for address, resource in live.resources.items()
        if known.get(address) != resource
        and (
            any(fnmatchcase(address, glob) for glob in globs)
            if globs
            else _is_declared(workspace.project.fleet(), resource)
        )
    }


def _is_declared(fleet: FleetSpec, resource: Resource) -> bool:
    match resource:
        case Server():
            return resource.digest is not None
        case LoadedAdapter(adapter=name):
            return name in fleet.versions and alias_of(name) in fleet.adapters
        case Route():
            return resource.alias in fleet.adapters
        case Key():
            client = fleet.clients.get(resource.client)
            return client is not None and any(key.name == resource.name for key in client.keys)


def adopt(workspace: Workspace, live: State, resources: Mapping[Address, Resource]) -> None:
    """Write resources into the ledger, under the lease: an apply that runs knows better.

    Copies that servers may read again and launch records are put back first. Where the ledger's
    home is empty and was not, its copy is set aside, also where there is no resource to write.
    Emits the files that are put back, and all that is lost.
    """
    put_back_store(workspace, live)
    fleet, root, state_dir = workspace.project.fleet(), workspace.root, workspace.state_dir
    for record in write_missing_records(fleet.hosts.values(), root, state_dir, fleet.name):
        workspace.inform(f"Launch record of {record.name} written, from process {record.pid}.")
    if workspace.ledger.is_lost():
        workspace.ledger.replica.set_aside("what is live")
    history = settled(workspace.ledger.history(), live)
    was_lost = bool(ownerless(history, live)) and not live.of_others
    for name in live.of_others:
        workspace.warn(f"Server {name}: {live.unknown_servers[name]}.")
    ledger = workspace.ledger.open()
    ledger.raise_token(asyncio.run(_keep_table(workspace)))
    if resources:
        events = [_adopted(live, address, resource) for address, resource in resources.items()]
        with ledger.lease(f"{workspace.by} (run {workspace.run}, adopt)") as lease:
            ledger.append(events, lease.token)
    if was_lost:
        asyncio.run(_keep_for_restart(workspace, live))
        lost = "; ".join(_lost_with_folder(workspace, live))
        workspace.warn(f"The state folder was lost. What is not found again: {lost}.")


async def _keep_for_restart(workspace: Workspace, live: State) -> None:
    async with workspace.machines.connected() as connections:
        await keep_for_restart(connections.engines, live, workspace.ledger.history())


def _adopted(live: State, address: Address, resource: Resource) -> Adopted:
    kind, name = address_parts(address)
    return Adopted(address, plain(resource), live.boots.get(name, "") if kind == "server" else "")


async def _keep_table(workspace: Workspace) -> int:
    """Write the table of the gateways to its file, if that is missing or older; return its token.

    A gateway that starts anew reads the file.
    """
    state_dir, gateways = workspace.state_dir, workspace.project.fleet().gateways
    async with LocalGateways(state_dir, gateways, workspace.machines.envoys()) as connected:
        table, _ = await connected.read_table()
    if table.revision:
        write_table(state_dir, table)
        remember(state_dir, gateways)
    return table.token


def _lost_with_folder(workspace: Workspace, live: State) -> Iterator[str]:
    yield (
        "the ledger's past, with which versions were held or rejected, verdicts of gates and "
        "times of stages, which begin anew now"
    )
    yield "answers of evaluations, calibrations, usage rows and logs until now"
    if not (workspace.state_dir / SECRET_FILE).is_file():
        yield (
            f"`{SECRET_FILE}`, made anew when it is next needed; gateways that run know the old "
            "one until they are restarted, and clients go on without it"
        )
    keys = [key for client in workspace.project.fleet().clients.values() for key in client.keys]
    live_keys = {key.reference for key in live.keys().values()}
    gone = [key.reference for key in keys if not key.fingerprint and key.reference in live_keys]
    if gone:
        yield (
            f"the files of keys that clients use, {', '.join(gone)}: the gateways go on taking "
            "these keys; put the files back from where clients keep theirs, or rotate on purpose"
        )
