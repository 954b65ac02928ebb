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
    help="Leave out addresses like `adapter/*@llama_a`; may be repeated.",
)
@click.pass_obj
def command(session: Session, *, form: Literal["json", "text"], globs: tuple[str, ...]) -> None:
    """Compare what is live with what the last apply left behind, grouped by cause.

    Changes nothing and cannot: it is given nothing that could. What is declared and not
    applied yet is no drift. The copies that servers load from are hashed each time. Exit
    code 0: none; 2: drift. Where a file is broken it goes by the others; then 1 for none.
    """
    from fleet.drift import classify, without  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.errors import ConfigError  # noqa: PLC0415 (keeps `--help` fast)
    from fleet.history import settled  # noqa: PLC0415
    from plans.drift import render_json, render_text  # noqa: PLC0415
    from runtime.library.store import damaged  # noqa: PLC0415

    clean = 0
    try:
        session.fleet()
    except ConfigError as error:
        from fleetctl.sound import sound  # noqa: PLC0415 (only when something is wrong)

        session, clean = sound(session, error), error.exit_code
    live = asyncio.run(_look(session))
    copies = damaged(live.adapters().values(), session.state_dir / "store")
    causes = without(classify(settled(session.history(), live), live, copies), globs)
    render = {"json": render_json, "text": render_text}[form]
    click.echo(render(causes, live.notes), nl=False)
    sys.exit(2 if causes else clean)


async def _look(session: Session) -> "State":
    from runtime.looking import look  # noqa: PLC0415 (keeps `--help` fast)

    async with session.connected() as (engines, gateways):
        return await look(engines, gateways)
