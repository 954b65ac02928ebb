"""`fleetctl rollback`: back to the previous version, in seconds."""

import asyncio
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from runtime.rollback import RollbackResult


@click.command(
    epilog="""\b
Examples:
  fleetctl rollback acme-support
  fleetctl rollback acme-support --to 2.0.0 --reason "wrong refunds"
"""
)
@click.argument("alias")
@click.option("--to", metavar="VERSION", help="The version to go back to, such as 2.1.0.")
@click.option("--reason", default="", metavar="TEXT", help="Why; for the ledger.")
@click.option(
    "--smoke",
    "smoke",
    multiple=True,
    metavar="TEXT",
    help="Input of the smoke test, repeatable. Default: those recorded or declared.",
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.pass_obj
def command(
    session: Session,
    *,
    alias: str,
    to: str | None,
    reason: str,
    smoke: tuple[str, ...],
    form: str,
) -> None:
    """Give all traffic of ALIAS to its previous version, now.

    Needs neither plan nor declarations nor lease; the state folder is enough. The newer
    version stays loaded and is kept out of traffic until `fleetctl release ALIAS`.
    """
    result = asyncio.run(_rolled_back(session, alias, to, reason, smoke))
    for line in result.warnings:
        click.echo(f"Warning: {line}", err=True)
    for line in result.failures:
        click.echo(f"Error: {line}", err=True)
    click.echo(_json(result) if form == "json" else result.sentence)
    sys.exit(0 if result.complete else 1)


async def _rolled_back(
    session: Session, alias: str, to: str | None, reason: str, smoke: Sequence[str]
) -> "RollbackResult":
    from runtime.gateway.control import LocalGateways  # noqa: PLC0415 (keeps `--help` fast)
    from runtime.rollback import rollback  # noqa: PLC0415

    gateways = LocalGateways(session.state_dir, envoys=session.envoys())
    try:
        return await rollback(
            alias,
            to,
            gateways,
            session.ledger,
            reason=reason,
            held=lambda: _held(session, alias),
            inputs=lambda: smoke or _known_inputs(session, alias),
        )
    finally:
        await gateways.close()


def _held(session: Session, alias: str) -> Collection[str]:
    """Return the versions that were rolled back before; none if the ledger cannot be read."""
    from fleet.errors import FleetError  # noqa: PLC0415

    try:
        return session.history().holds.get(alias, {})
    except (FleetError, OSError):
        return ()


def _known_inputs(session: Session, alias: str) -> Sequence[str]:
    """Return inputs for the smoke test from the ledger, else from the declarations if any."""
    from fleet.errors import FleetError  # noqa: PLC0415
    from runtime.smoke import recorded_inputs  # noqa: PLC0415

    try:
        found = recorded_inputs(session.ledger().read(), alias)
    except (FleetError, OSError):
        found = ()
    if found:
        return found
    try:
        return session.fleet().adapters[alias].smoke
    except (FleetError, OSError, KeyError):
        return ()


def _json(result: "RollbackResult") -> str:
    import json  # noqa: PLC0415
    from dataclasses import asdict  # noqa: PLC0415

    return json.dumps({**asdict(result), "complete": result.complete}, indent=2)
