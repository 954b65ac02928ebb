"""`fleetctl show`: render a saved plan."""

from pathlib import Path

import click

from plans.render import RENDERERS


@click.command(
    epilog="""\b
Examples:
  fleetctl show plan.json
  fleetctl show plan.json --format md
  fleetctl show plan.json --format html > plan.html
"""
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(RENDERERS)),
    default="text",
    help="Output format (default: text).",
)
@click.option("--all", "every", is_flag=True, help="List every change.")
def command(file: Path, form: str, every: bool) -> None:
    """Render a saved plan. A file that was changed after the plan was made is refused."""
    from fleetctl.commands.plan import shown
    from plans.documents.plan_file import load_with_envelope
    from runtime.files import read_text

    plan, envelope = load_with_envelope(read_text(file))
    click.echo(shown(plan, form, every=every), nl=False)
    if envelope is not None:
        commit = f" from commit {envelope.commit}" if envelope.commit else ""
        click.echo(f"Made {envelope.created_at} by {envelope.by}{commit}.", err=True)
