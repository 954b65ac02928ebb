"""`fleetctl drift`: what left the state that the last apply established."""

import asyncio
import sys
from typing import TYPE_CHECKING, Literal

import click

from fleetctl.session import Session

if TYPE_CHECKING:
    from fleet.resources import State


@click.command(
    epilog="""\b
Examples:
  fleetctl drift
  fleetctl drift --format json
  fleetctl drift --ignore 'adapter/test*@*'
"""
)
@click.option("--format", "form", type=click.Choice(["json", "text"]), default="text")
@click.option(
    "--ignore",
    "globs",
    multiple=True,
    metavar="ADDRESS-GLOB",
    help="Leave out addresses such as `adapter/*@llama_a`; repeatable.",
)
@click.pass_obj
def command(session: Session, *, form: Literal["json", "text"], globs: tuple[str, ...]) -> None:
    """Compare the live state with the last apply, grouped by cause. Changes nothing.

    Declared changes that are not applied yet are no drift. Exit 2 on drift, 0 without; 1 without
    drift if a declaration is broken and only the valid files were compared.
    """
    from fleet.errors import ConfigError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.history import settled  # noqa: PLC0415
    from fleet.planning import (  # noqa: PLC0415 (keeps `--help` fast)
        classify_drift,
        without_ignored,
    )
    from plans.reports.drift import render_json, render_text  # noqa: PLC0415
    from runtime.library.served_copies import damaged  # noqa: PLC0415

    clean = 0
    try:
        session.fleet()
    except ConfigError as error:
        from fleetctl.sound import sound  # noqa: PLC0415 (only when something is wrong)

        session, clean = sound(session, error), error.exit_code
    live = asyncio.run(_look(session))
    copies = damaged(live.adapters().values(), session.state_dir / "store")
    causes = without_ignored(classify_drift(settled(session.history(), live), live, copies), globs)
    render = {"json": render_json, "text": render_text}[form]
    click.echo(render(causes, live.notes), nl=False)
    sys.exit(2 if causes else clean)


async def _look(session: Session) -> "State":
    from runtime.looking import look  # noqa: PLC0415 (keeps `--help` fast)

    async with session.connected() as (engines, gateways):
        return await look(engines, gateways)
