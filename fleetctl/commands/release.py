"""`fleetctl release`: allow a version that was rolled back to be rolled out again."""

import json
from typing import TYPE_CHECKING

import click

from fleetctl import completion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet.spec import AdapterFacts
    from runtime.gateway.table import RoutingTable
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl release acme-support
  fleetctl release acme-support --format json
  fleetctl release acme-support --version 2.2.0 --reason "labels fixed"
"""
)
@click.argument("alias", shell_complete=completion.aliases)
@click.option(
    "--version",
    metavar="VERSION",
    shell_complete=completion.numbers,
    help="Only this version (default: every held version).",
)
@click.option("--reason", default="", metavar="TEXT", help="Reason, for the ledger.")
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    workspace: "Workspace", *, alias: str, version: str | None, reason: str, form: str
) -> None:
    """Clear the quarantine of ALIAS: the next plan may roll the version out, from its first stage.

    Lifts rollbacks, failed or forged verdicts, aborts and inconclusive ends, also of the same
    bytes under another version. Accepts a route changed by hand. Moves no traffic.
    """
    import asyncio

    from fleet.encoding import plain
    from fleet.errors import FleetError, did_you_mean, problem
    from fleet.history import Released, fold_entries, kept_out, same_bytes
    from fleet.names import route_address
    from runtime.gates.tick import unsound
    from runtime.ledger.clock import behind

    table = asyncio.run(_table(workspace))
    entries = workspace.ledger().read()
    history = fold_entries(entries)
    holds = kept_out(history, alias) | history.fell.get(alias, {}).keys()
    entry = table.aliases.get(alias)
    tampered = alias in unsound(entries, history, {alias})
    late = behind(entries, workspace.now())  # whoever releases answers for the clock here
    if entry is None and not (holds or tampered):
        raise FleetError(
            problem(
                "FC5123",
                "No such alias",
                f"`{alias}` has neither a route nor a hold.",
                hint=did_you_mean(alias, sorted(table.aliases)),
                command="fleetctl status",
            )
        )
    versions = _locked(workspace, alias) if version else {}
    known = {each.rpartition("-v")[2]: each for each in (*versions, *holds)}
    named = same_bytes(history, versions, alias, known[version]) if version in known else set()
    named |= {known[version]} & holds if version in known else set()  # one that was given up
    held = sorted(each.rpartition("-v")[2] for each in (named if version else holds))
    if version is not None and not held:
        out = ", ".join(sorted(each.rpartition("-v")[2] for each in holds))
        raise FleetError(
            problem(
                "FC5124",
                "The version is not held",
                f"{version} of `{alias}` is not held; held are {out or 'none'}.",
                command="fleetctl status",
            )
        )
    route = entry.route(alias) if entry else None
    if not (holds or tampered or late) and history.established.get(route_address(alias)) == route:
        click.echo(f"{alias}: nothing is held, and its route is as applied.", err=True)
        _as_json(form, alias, (), route=False)
        return
    accepted = plain(route)
    events = [Released(alias, reason, accepted, name) for name in (sorted(named) or (None,))]
    workspace.ledger().append(events)
    freed = ", ".join(held) or "the route as it is now"
    click.echo(f"{alias}: {freed} released; to go on: fleetctl plan", err=True)
    _as_json(form, alias, tuple(sorted(named or holds)), route=not held)


def _as_json(form: str, alias: str, versions: tuple[str, ...], *, route: bool) -> None:
    if form == "json":
        document = {"alias": alias, "released": list(versions), "route_accepted": route}
        click.echo(json.dumps(document, indent=2))


def _locked(workspace: "Workspace", alias: str) -> "Mapping[str, AdapterFacts]":
    """Return the alias's versions in the lock; none where the declarations do not say."""
    from fleet.errors import FleetError
    from fleet.names import alias_of

    try:
        found = workspace.fleet().versions
    except (FleetError, OSError):
        return {}
    return {name: each for name, each in found.items() if alias_of(name) == alias}


async def _table(workspace: "Workspace") -> "RoutingTable":
    from runtime.gateway.control import LocalGateways

    gateways = LocalGateways(workspace.state_dir, envoys=workspace.envoys())
    try:
        table, _ = await gateways.read_table()
    finally:
        await gateways.close()
    return table
