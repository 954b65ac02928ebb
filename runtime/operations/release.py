"""Release versions that are kept out of traffic; adopt live resources as if fleetctl made them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from fleet.encoding import plain
from fleet.errors import FleetError, did_you_mean
from fleet.history import (
    Adopted,
    History,
    Released,
    clock_behind,
    fold_entries,
    kept_out,
    same_bytes,
    settled,
    tampered_evidence,
)
from fleet.names import Address, address_parts, alias_of, route_address, version_of
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, State
from fleet.spec import AdapterFacts, FleetSpec
from runtime.engines.registry import write_missing_records
from runtime.operations.drills import read_routing_table
from runtime.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Release:
    """The versions that were released, or the route that was accepted."""

    versions: tuple[str, ...] = ()
    """Full names of the released versions, sorted."""
    route_accepted: bool = False
    """Whether the live route was accepted in place of a version."""
    nothing: bool = False
    """Whether nothing was kept out and the route is as applied: nothing was written."""


def release_versions(workspace: Workspace, alias: str, version: str | None, reason: str) -> Release:
    """Lift all that keeps versions of an alias out, and accept its live route. Moves no traffic.

    `version`: such as `2.2.0`; None: every version that is kept out.

    Raises:
        FleetError: FC5123, no such alias; FC5124, the version is not held.
    """
    table = asyncio.run(read_routing_table(workspace))
    entries = workspace.ledger().read()
    history = fold_entries(entries)
    holds = kept_out(history, alias) | history.fell.get(alias, {}).keys()
    entry = table.aliases.get(alias)
    tampered = alias in tampered_evidence(entries, history, {alias})
    # A release vouches for the clock here.
    late = clock_behind(entries, workspace.now()) is not None
    if entry is None and not (holds or tampered):
        raise FleetError.of(
            "FC5123",
            "No such alias",
            f"`{alias}` has neither a route nor a hold.",
            hint=did_you_mean(alias, sorted(table.aliases)),
            command="fleetctl status",
        )
    versions = _locked(workspace, alias) if version else {}
    known = {version_of(name): name for name in (*versions, *holds)}
    named = same_bytes(history, versions, alias, known[version]) if version in known else set()
    named |= {known[version]} & holds if version in known else set()  # given up
    if version is not None and not named:
        held = ", ".join(sorted(map(version_of, holds)))
        raise FleetError.of(
            "FC5124",
            "The version is not held",
            f"{version} of `{alias}` is not held; held are {held or 'none'}.",
            command="fleetctl status",
        )
    route = entry.route(alias) if entry else None
    if not (holds or tampered or late) and history.established.get(route_address(alias)) == route:
        return Release(nothing=True)
    event = Released(alias, reason, plain(route))
    workspace.ledger().append([replace(event, adapter=name) for name in sorted(named)] or [event])
    freed = tuple(sorted(named or holds))
    return Release(freed, route_accepted=not freed)


def _locked(workspace: Workspace, alias: str) -> Mapping[str, AdapterFacts]:
    """Return the alias's versions in the lock; none where the declarations cannot be read."""
    try:
        found = workspace.fleet().versions
    except (FleetError, OSError):
        return {}
    return {name: facts for name, facts in found.items() if alias_of(name) == alias}


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

    The launch records of servers that run here without one are written, too. Where the ledger's
    home is empty and was not, its copy is set aside first, also where there is no resource to
    write.
    """
    fleet = workspace.fleet()
    for record in write_missing_records(
        fleet.hosts.values(), workspace.root, workspace.state_dir, fleet.name
    ):
        text = f"Launch record of {record.name} written, from process {record.pid}."
        workspace.inform(text)
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
