"""`fleetctl status`: show which versions serve which aliases right now."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Literal

import click

from fleet.names import client_of
from fleetctl import completion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.resources import State
    from fleetctl.session import Session
    from runtime.gateway.protocol import GatewayStatus


@click.command(
    epilog="""\b
Examples:
  fleetctl status
  fleetctl status --client acme
  fleetctl status --format json
"""
)
@click.option(
    "--client",
    metavar="CLIENT",
    shell_complete=completion.clients,
    help="Only this client's aliases.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(session: "Session", *, client: str | None, form: Literal["json", "text"]) -> None:
    """Show aliases with versions and shares, holds, servers, drift, and work that is due.

    Beside each declared share stands the share of requests since the split last changed.
    Changes nothing. Without a readable ledger, stages and holds come from its local copy.
    """
    import asyncio

    from fleet.errors import FleetError, did_you_mean, problem
    from fleet.history import fold_entries, settled
    from fleetctl.evaluation import alarms
    from fleetctl.practice import row
    from fleetctl.practice import turns as turns_of_drills
    from fleetctl.retraining import URGENT, turns
    from plans.reports.evals import drift_row
    from plans.reports.status import render_text, status

    fleet = session.fleet()
    if client is not None and client not in fleet.clients:
        near = did_you_mean(client, sorted(fleet.clients))
        raise FleetError(
            problem("FC5122", "No such client", f"`{client}` is not declared.", hint=near)
        )
    live, counts = asyncio.run(_look(session))
    known = session.last_known()
    past = settled(fold_entries(known.entries), live)
    why = known.away.diagnostics[0].detail if known.away is not None else ""
    document = status(fleet.name, live, past, known.entries, client, counts, why)
    document["retraining"] = [
        each
        for each in ([] if why else turns(session))
        if each["turn"] in URGENT and client in {None, client_of(each["alias"])}
    ]
    document["drift"] = [
        drift_row(alias, adapter, each)
        for alias, adapter, each in ([] if why else alarms(session, live))
        if client in {None, client_of(alias)}
    ]
    drills = () if why else asyncio.run(turns_of_drills(session, live, known.entries))
    document["drills"] = [row(each) for each in drills if client in {None, client_of(each.alias)}]
    shown = json.dumps(document, indent=2) + "\n" if form == "json" else render_text(document)
    click.echo(shown, nl=False)


async def _look(session: "Session") -> "tuple[State, Counter[tuple[str, str]]]":
    """Return what is there, and the requests for each version of aliases that have several."""
    from runtime.looking import look

    async with session.connected() as (engines, gateways):
        return await look(engines, gateways), counted(await gateways.statuses())


def counted(statuses: "Iterable[GatewayStatus]") -> Counter[tuple[str, str]]:
    """Return the requests by alias and version that all gateways saw since the split changed."""
    found: Counter[tuple[str, str]] = Counter()
    for share in (each for status in statuses for each in status.shares):
        found[share.alias, share.adapter] += share.requests
    return found
