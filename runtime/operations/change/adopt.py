"""Adopt live resources as if fleetctl had made them; go on after the loss of a state folder.

A lost folder takes along no server and no gateway: servers carry their launch records, gateways
hold the routing table. Copies that servers may read again are put back before all else.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from fleet.codec import plain
from fleet.history import Adopted, History, settled
from fleet.names import Address, address_parts, alias_of
from fleet.planning import ownerless
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.spec import FleetSpec
from runtime.engine_registry import write_missing_records
from runtime.execute.run import keep_for_restart
from runtime.gateway.admin.state_dir import SECRET_FILE, remember, write_table
from runtime.gateway.control.control import LocalGateways
from runtime.operations.machines.heal import put_back_store
from runtime.workspace import Workspace


def to_adopt(workspace: Workspace, live: State, globs: Sequence[str]) -> dict[Address, Resource]:
    """Return the live resources that an adoption of these patterns of addresses writes down.

    Without a pattern: servers that fleetctl starts, and declared adapters, routes and keys.
    """
    history = History() if workspace.is_ledger_lost() else workspace.history()
    known = settled(history, live).established
    return {
        address: resource
        for address, resource in live.resources.items()
        if known.get(address) != resource
        and (
            any(fnmatchcase(address, glob) for glob in globs)
            if globs
            else _is_declared(workspace.fleet(), resource)
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
    fleet, root, state_dir = workspace.fleet(), workspace.root, workspace.state_dir
    for record in write_missing_records(fleet.hosts.values(), root, state_dir, fleet.name):
        workspace.inform(f"Launch record of {record.name} written, from process {record.pid}.")
    if workspace.is_ledger_lost():
        workspace.replica.set_aside("what is live")
    was_lost = bool(ownerless(settled(workspace.history(), live), live)) and not live.of_others
    for name in live.of_others:
        workspace.warn(f"Server {name}: {live.unknown_servers[name]}.")
    ledger = workspace.ledger()
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
    async with workspace.connected() as connections:
        await keep_for_restart(connections.engines, live, workspace.history())


def _adopted(live: State, address: Address, resource: Resource) -> Adopted:
    kind, name = address_parts(address)
    return Adopted(address, plain(resource), live.boots.get(name, "") if kind == "server" else "")


async def _keep_table(workspace: Workspace) -> int:
    """Write the table of the gateways to its file, if that is missing or older; return its token.

    A gateway that starts anew reads the file.
    """
    state_dir, gateways = workspace.state_dir, workspace.fleet().gateways
    async with LocalGateways(state_dir, gateways, workspace.envoys()) as connected:
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
    keys = [key for client in workspace.fleet().clients.values() for key in client.keys]
    live_keys = {key.reference for key in live.keys().values()}
    gone = [key.reference for key in keys if not key.fingerprint and key.reference in live_keys]
    if gone:
        yield (
            f"the files of keys that clients use, {', '.join(gone)}: the gateways go on taking "
            "these keys; put the files back from where clients keep theirs, or rotate on purpose"
        )
