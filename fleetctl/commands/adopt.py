"""`fleetctl adopt`: write live resources into the ledger."""

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import click

from fleet.names import address_parts

if TYPE_CHECKING:
    from fleet.names import Address
    from fleet.resources import Resource, State
    from fleet.spec import FleetSpec
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl adopt --dry-run --format json
  fleetctl adopt
  fleetctl adopt 'adapter/*@llama_a'
"""
)
@click.argument("globs", nargs=-1, metavar="[ADDRESS-GLOB]...")
@click.option("--dry-run", is_flag=True, help="Show what would be adopted; write nothing.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(workspace: "Workspace", *, globs: tuple[str, ...], dry_run: bool, form: str) -> None:
    """Write live resources into the ledger as if fleetctl had made them. Changes nothing live.

    Without arguments: servers that fleetctl starts, and declared adapters, routes and keys.
    With ADDRESS-GLOB: every match; the next plan may then remove undeclared resources.
    """
    from fleet.encoding import plain
    from fleet.history import Adopted, History, settled
    from plans.amounts import counted

    live = workspace.observe()
    lost = workspace.is_ledger_lost()
    known = settled(History() if lost else workspace.history(), live).established
    found = {
        address: each
        for address, each in live.resources.items()
        if known.get(address) != each and _is_chosen(workspace.fleet(), address, each, globs)
    }
    if form == "json":
        document = {"adopted": list(found), "dry_run": dry_run}
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo("".join(f"{address}\n" for address in found), nl=False)
    if lost and not dry_run:
        workspace.replica.set_aside("what is live")
    if found and not dry_run:
        events = [
            Adopted(address, plain(each), _boot(live, address)) for address, each in found.items()
        ]
        ledger = workspace.ledger()
        # Under the lease: an apply that runs knows better.
        with ledger.lease(f"{workspace.by} (run {workspace.run}, adopt)") as lease:
            ledger.append(events, lease.token)
    verb = "would be adopted" if dry_run else "adopted"
    click.echo(f"{counted(len(found), 'resource')} {verb}.", err=True)


def _boot(live: "State", address: "Address") -> str:
    kind, name = address_parts(address)
    return live.boots.get(name, "") if kind == "server" else ""


def _is_chosen(
    fleet: "FleetSpec", address: "Address", resource: "Resource", globs: tuple[str, ...]
) -> bool:
    from fleet.names import alias_of
    from fleet.resources import Key, LoadedAdapter, Route, Server

    if globs:
        return any(fnmatchcase(address, each) for each in globs)
    match resource:
        case Server():
            return resource.digest is not None
        case LoadedAdapter():
            return resource.adapter in fleet.versions and alias_of(resource.adapter) in (
                fleet.adapters
            )
        case Route():
            return resource.alias in fleet.adapters
        case Key():
            client = fleet.clients.get(resource.client)
            return client is not None and any(each.name == resource.name for each in client.keys)
