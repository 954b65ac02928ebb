"""Adopt live resources: write them into the ledger as if fleetctl had made them."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from fleet.encoding import plain
from fleet.history import Adopted, History, settled
from fleet.names import Address, address_parts, alias_of
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.spec import FleetSpec
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

    Where the ledger's home is empty and was not, its copy is set aside first, also where there
    is no resource to write.
    """
    if workspace.is_ledger_lost():
        workspace.replica.set_aside("what is live")
    if not resources:
        return
    events = []
    for address, resource in resources.items():
        kind, name = address_parts(address)
        boot = live.boots.get(name, "") if kind == "server" else ""
        events.append(Adopted(address, plain(resource), boot))
    ledger = workspace.ledger()
    with ledger.lease(f"{workspace.by} (run {workspace.run}, adopt)") as lease:
        ledger.append(events, lease.token)
