"""`fleetctl drift`: compare live with the last apply. Exit 2 on drift."""

import sys
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from fleet.resources import State
    from runtime.workspace import Workspace


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
def command(
    workspace: "Workspace", *, form: Literal["json", "text"], globs: tuple[str, ...]
) -> None:
    """Compare the live state with the last apply, grouped by cause. Changes nothing.

    Declared changes that are not applied yet are no drift. Exit 2 on drift, 0 without; 1 without
    drift if a declaration is broken and only the valid files were compared.
    """
    import asyncio

    from fleet.errors import ConfigError
    from fleet.history import settled
    from fleet.planning import classify_drift, without_ignored
    from plans.reports.drift import render_json, render_text
    from runtime.library.served_copies import damaged

    clean = 0
    try:
        workspace.fleet()
    except ConfigError as error:
        from runtime.operations.declarations import with_valid_files

        workspace, clean = with_valid_files(workspace, error), error.exit_code
    live = asyncio.run(_look(workspace))
    copies = damaged(live.adapters().values(), workspace.state_dir / "store")
    causes = without_ignored(
        classify_drift(settled(workspace.history(), live), live, copies), globs
    )
    render = {"json": render_json, "text": render_text}[form]
    click.echo(render(causes, live.notes), nl=False)
    sys.exit(2 if causes else clean)


async def _look(workspace: "Workspace") -> "State":
    from runtime.observe import observe

    async with workspace.connected() as (engines, gateways):
        return await observe(engines, gateways)
