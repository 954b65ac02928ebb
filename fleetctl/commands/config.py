"""`fleetctl config`: show resolved values and the file that each comes from."""

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.group(epilog="\b\nExamples:\n  fleetctl config show --origin clients.acme")
def command() -> None:
    """Show resolved values and the file that each comes from."""


@command.command(
    epilog="""\b
Examples:
  fleetctl config show
  fleetctl --env prod config show --origin clients.acme.adapters.support
  fleetctl config show --format json hosts
"""
)
@click.argument("path", required=False, default="")
@click.option("--origin", is_flag=True, help="Print file and line of each value.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def show(workspace: "Workspace", path: str, form: str, *, origin: bool) -> None:
    """Print every value in force, defaults and overlays included.

    PATH selects a part, such as `clients.acme`. A secret is shown as its reference.
    """
    from fleet.config import effective_settings
    from runtime.project.load import load_project

    project = load_project(
        workspace.root, workspace.environment, workspace.variables, workspace.state_dir
    )
    found = [
        each
        for each in effective_settings(project.declarations, project.tree)
        if not path or each.path == path or each.path.startswith(f"{path}.")
    ]
    if not found:
        raise click.ClickException(f"nothing is declared at `{path}`")
    if form == "json":
        values = {
            each.path: {"value": each.value, "origin": each.origin} if origin else each.value
            for each in found
        }
        click.echo(json.dumps(values, indent=2))
        return
    width = max(len(f"{each.path}: {json.dumps(each.value)}") for each in found)
    for each in found:
        line = f"{each.path}: {json.dumps(each.value, ensure_ascii=False)}"
        click.echo(f"{line:<{min(width, 80)}}  # {each.origin}" if origin else line)
