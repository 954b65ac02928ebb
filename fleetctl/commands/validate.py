"""`fleetctl validate`: check the declarations; report every problem with its place."""

import sys
from typing import TYPE_CHECKING

import click

from fleet.errors import ConfigError
from plans.diagnostics import RENDERERS, render_text

if TYPE_CHECKING:
    from runtime.workspace import Workspace


@click.command(
    epilog="""\b
Examples:
  fleetctl validate
  fleetctl --env prod validate --format github
  fleetctl validate --format sarif > fleetctl.sarif
"""
)
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(RENDERERS)),
    default="text",
    show_default=True,
    help="text for people; github annotates pull requests; json and sarif for programs.",
)
@click.pass_obj
def command(workspace: "Workspace", form: str) -> None:
    """Check the declarations; report every problem with its place.

    Reads files only, golden sets and notice templates included. Declarations that are well
    formed and judge nothing are warnings. Exit 1 on an error; warnings exit 0.
    """
    from fleet.config import diagnostics, lint
    from plans.reports.notifications import fault
    from runtime.project.load import load_project
    from runtime.project.referenced_files import check_referenced_files

    try:
        project = load_project(
            workspace.root, workspace.environment, workspace.variables, workspace.state_dir
        )
        check_referenced_files(workspace.root, project, fault)
        found = diagnostics(lint(project.declarations), project.tree)
        warnings = tuple(sorted((*project.warnings, *found), key=lambda each: str(each.place)))
    except ConfigError as error:
        if form == "text":
            raise
        click.echo(RENDERERS[form](error.diagnostics), nl=False)
        sys.exit(error.exit_code)
    if form != "text":
        click.echo(RENDERERS[form](warnings), nl=False)
        return
    if warnings:
        click.echo(render_text(warnings, colour=sys.stderr.isatty()), err=True)
    fleet = project.fleet
    counts = ", ".join(
        f"{number} {word}{'' if number == 1 else 's'}"
        for number, word in (
            (len(fleet.clients), "client"),
            (len(fleet.adapters), "adapter"),
            (len(fleet.bases), "base"),
            (len(fleet.hosts), "host"),
            (len(project.files), "file"),
        )
    )
    click.echo(f"{fleet.name}: ok ({counts})")
